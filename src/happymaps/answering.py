"""What a network answers, by one look at an image or by several."""

from itertools import product

import torch
from torch import Tensor

from happymaps.datasets import batches
from happymaps.networks import Network
from happymaps.params import MIRRORED_POSES

_MOVED = 1 / 32  # of the image's side, at least a pixel
# How often down and across: the middle and four places around it.
_PLACES = [(0, 0), *product((-1, 1), repeat=2)]


@torch.inference_mode()
def logits_of(network: Network, images: Tensor) -> Tensor:
    """(N, C, H, W) uint8, or float32 in [0, 1] -> (N, classes) on the CPU, before the head.

    The network is put into evaluation mode, and stays in it.
    """
    if len(images) == 0:
        return torch.zeros(0, len(network.spec.classes))
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network.logits(batch).cpu() for batch in batches(images, device)])


def answer(network: Network, images: Tensor) -> Tensor:
    """As `logits_of`; with `test_time_augmentation` the mean of ten looks.

    They are at the image as it is and moved by a thirty-second of its side towards each corner, the
    border drawn out, and at the mirror image of each, in which left is right: after Krizhevsky et
    al. 2012, "ImageNet classification with deep convolutional neural networks", who average what
    comes after the softmax.

    Args:
        network: any that `networks` builds; its device is used.
        images: (N, C, H, W) uint8.

    Returns:
        (N, classes) on the CPU, before the head.
    """
    if not network.spec.test_time_augmentation:
        return logits_of(network, images)
    order = torch.arange(len(network.spec.classes))
    if network.spec.target == "pose":
        order = torch.tensor(MIRRORED_POSES)
    looks = []
    for down, across in _PLACES:
        moved = _moved(images, down, across)
        looks += [logits_of(network, moved), logits_of(network, moved.flip(3))[:, order]]
    return torch.stack(looks).mean(dim=0)


def _moved(images: Tensor, down: int, across: int) -> Tensor:
    size = images.shape[-1]
    step = max(1, round(_MOVED * size))
    rows, columns = ((torch.arange(size) - way * step).clamp(0, size - 1) for way in (down, across))
    return images[:, :, rows][:, :, :, columns]
