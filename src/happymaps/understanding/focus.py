"""Does a decision rest on the head or on what is around it?"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from happymaps.answering import logits_of
from happymaps.datasets import LabelledImages
from happymaps.evaluation import scores
from happymaps.images.boxes import Box, ellipse
from happymaps.networks import Network

_INPAINT_RADIUS = 3  # pixels


def box_masks(boxes: Sequence[Box | None], height: int, width: int) -> Tensor:
    """(N, height, width) bool: the ellipse in each box; empty where there is no box."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, box in zip(masks, boxes, strict=True):
        if box is not None:
            mask.copy_(torch.from_numpy(ellipse(box, height, width) < 1))
    return masks


def focus(maps: Tensor, masks: Tensor) -> dict[str, int | float | None]:
    """How much of an explanation lies on the heads.

    Only what speaks for the decision counts: values below 0 are taken as 0. A map without any
    positive value names no place, so it scores as chance would, and so does a uniform one: where
    several pixels share the largest value, each of them points.

    Args:
        maps: (N, H, W), larger where the decision depends more on a pixel.
        masks: (N, H, W) bool. Images whose mask is empty are left out.

    Returns:
        `images` that count and `without_head`, `silent` maps without a positive value; means over
        the images: `share` of the positive attribution inside the mask, `area` of the mask, which
        is what chance gives both others, and `pointing`: is the largest value inside the mask
        (pointing game, Zhang et al. 2016)? The means are None when no image counts.
    """
    seen = masks.flatten(1).any(dim=1)
    inside = masks[seen].flatten(1).double()
    positive = maps[seen].flatten(1).double().clamp(min=0)
    silent = positive.amax(dim=1) == 0 if len(positive) else torch.zeros(0, dtype=torch.bool)
    positive[silent] = 1
    largest = (positive == positive.amax(dim=1, keepdim=True)).double() if len(positive) else inside
    return {
        "images": len(inside),
        "without_head": len(masks) - len(inside),
        "silent": int(silent.sum()),
        "share": _mean((positive * inside).sum(dim=1) / positive.sum(dim=1)),
        "area": _mean(inside.mean(dim=1)),
        "pointing": _mean((largest * inside).sum(dim=1) / largest.sum(dim=1)),
    }


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None


def replace_head(images: Tensor, masks: Tensor) -> Tensor:
    """Fill every head from its surroundings (inpainting, Bertalmio, Bertozzi and Sapiro 2001).

    Args:
        images: (N, 1, H, W) uint8.
        masks: (N, H, W) bool; where one is empty its image stays.

    Returns:
        (N, 1, H, W) uint8.
    """
    holes = masks.numpy().astype(np.uint8)
    filled = [
        np.asarray(cv2.inpaint(image, hole, _INPAINT_RADIUS, cv2.INPAINT_NS), np.uint8)
        for image, hole in zip(images[:, 0].numpy(), holes, strict=True)
    ]
    return torch.from_numpy(np.stack(filled)).unsqueeze(1) if filled else images.clone()


def replace_background(images: Tensor, masks: Tensor, seed: int) -> Tensor:
    """Put every head in front of another image's background, from which the head was taken out.

    The other image is drawn without a look at its class, so that a background tells no more of
    the head's pose than how often poses are. Shoulders belong to the background.

    Args:
        images: (N, 1, H, W) uint8.
        masks: (N, H, W) bool; images with an empty mask stay, and lend no background.
        seed: of the choice. Every image lends once, and none to itself unless it is alone.

    Returns:
        (N, 1, H, W) uint8.
    """
    rows = masks.flatten(1).any(dim=1).nonzero().flatten().numpy()
    order = np.random.default_rng(seed).permutation(rows)
    takers, lenders = torch.from_numpy(order), torch.from_numpy(np.roll(order, 1))
    backgrounds = replace_head(images[lenders], masks[lenders])
    replaced = images.clone()
    replaced[takers] = torch.where(masks[takers].unsqueeze(1), images[takers], backgrounds)
    return replaced


def head_or_background(
    network: Network, faces: LabelledImages, masks: Tensor, seed: int
) -> dict[str, int | float]:
    """How right a network stays when only the head is left to it, or only the background.

    Args:
        network: in evaluation mode.
        faces: N images.
        masks: (N, H, W) bool, their heads. Images whose mask is empty are left out.
        seed: as for `replace_background`.

    Returns:
        `images` that count and `without_head`; `majority`, the share of the most frequent class,
        which any constant answer can reach; the `accuracy` of the images as they are, with
        `head_only` (the background replaced) and `background_only` (the head inpainted). Each
        comes with a `balanced` one, for which chance is one over the number of classes that occur.
        Without a single head only the two counts.
    """
    seen = masks.flatten(1).any(dim=1)
    masked = masks[seen]
    chosen = LabelledImages(faces.images[seen], faces.truth[seen.numpy()])
    result: dict[str, int | float] = {"images": len(chosen), "without_head": int((~seen).sum())}
    if not len(chosen):
        return result
    labels = chosen.labels(network.spec)
    result["majority"] = int(labels.bincount().max()) / len(labels)
    variants = {
        "accuracy": chosen.images,
        "head_only": replace_background(chosen.images, masked, seed),
        "background_only": replace_head(chosen.images, masked),
    }
    for name, images in variants.items():
        logits = logits_of(network, images)
        figures = scores(network.spec, logits, chosen)
        result[name] = figures["accuracy"]
        result[f"balanced_{name}"] = figures["balanced_accuracy"]
    return result
