"""Whether a map names the pixels that a decision hangs on: deletion and insertion.

The pixels that a map calls important are taken out of the image, or given back to an image without
detail, and the network is asked again (Petsiuk et al. 2018, "RISE"). A faithful map makes the
confidence fall early in the one case and rise early in the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from happymaps.answering import logits_of
from happymaps.networks import Network, apply_head
from happymaps.understanding.attributions import blurred
from happymaps.understanding.intervals import mean_interval


@dataclass(frozen=True)
class Curves:
    """Confidence in the explained class, while pixels go or come in the order of a map.

    Attributes:
        deletion: (N, steps + 1) float32 in [0, 1] on the CPU, from the image to the blurred image.
        insertion: the same, from the blurred image to the image.
    """

    deletion: Tensor
    insertion: Tensor


@torch.inference_mode()
def curves(
    network: Network,
    images: Tensor,
    classes: Tensor,
    maps: Tensor,
    *,
    blur: float,
    steps: int,
    cell: int,
    seed: int,
) -> Curves:
    """Delete and insert every image's pixels, those with the highest attribution first.

    They go and come in small squares, in the order of their mean attribution. Single pixels
    scattered over the image are a halftone of it: a network reads it from a random tenth, so maps
    that scatter, and noise above all, would be taken for faithful.

    Pixels are exchanged with those of the blurred image: a grey or black hole has edges of its
    own, which a network may answer to. The confidence is a softmax head's probability; a linear
    head's output is cut off at 0 and 1, the two answers that it was trained to give.

    Args:
        network: in evaluation mode.
        images: (N, C, H, W) float32 in [0, 1].
        classes: (N,) int64, the class that each map explains.
        maps: (N, H, W), positive where a pixel speaks for the class.
        blur: standard deviation of the blur, as a fraction of the image's side.
        steps: in which all squares are exchanged, equally many in each (to the nearest one).
        cell: side of the squares in pixels; at the far edges they are cut off.
        seed: of the order of squares with the same attribution.

    Raises:
        ValueError: when the maps do not fit the images, or hold anything but finite numbers.
    """
    if maps.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"maps of {tuple(maps.shape)} for images of {tuple(images.shape)}")
    if not maps.isfinite().all():
        raise ValueError("a map holds anything but finite numbers: its pixels have no order")
    ranks = _ranks(maps.cpu(), cell, seed).unsqueeze(1)
    squares = int(ranks.max()) + 1 if len(ranks) else 0
    exchanged = torch.linspace(0, squares, steps + 1).round().view(-1, 1, 1, 1)
    deletion = torch.zeros(len(images), steps + 1)
    insertion = torch.zeros_like(deletion)
    for number, (image, without) in enumerate(zip(images, blurred(images, blur), strict=True)):
        # (steps + 1, 1, H, W)
        first = (ranks[number] < exchanged).to(images.device)
        deleted = _confidence(network, torch.where(first, without, image))
        inserted = _confidence(network, torch.where(first, image, without))
        deletion[number] = deleted[:, classes[number]]
        insertion[number] = inserted[:, classes[number]]
    return Curves(deletion, insertion)


def _ranks(maps: Tensor, cell: int, seed: int) -> Tensor:
    """(N, H, W) -> the place of each pixel's square in its map, int64; 0 has the highest mean.

    Equals stand in random order, another for every map. In the image's own order they would lie
    side by side, and take whole rows out of the image.
    """
    generator = torch.Generator().manual_seed(seed)
    means = nn.functional.avg_pool2d(
        maps.double().unsqueeze(1), cell, ceil_mode=True, count_include_pad=False
    ).squeeze(1)
    ranks = torch.empty(means.shape, dtype=torch.int64)
    for values, places in zip(means.flatten(1), ranks.flatten(1), strict=True):
        shuffled = torch.randperm(len(values), generator=generator)
        order = shuffled[values[shuffled].argsort(descending=True, stable=True)]
        places[order] = torch.arange(len(values))
    pixels = ranks.repeat_interleave(cell, dim=1).repeat_interleave(cell, dim=2)
    return pixels[:, : maps.shape[1], : maps.shape[2]]


def _confidence(network: Network, images: Tensor) -> Tensor:
    """(N, C, H, W) float32 in [0, 1] -> (N, classes) in [0, 1] on the CPU."""
    return apply_head(network.spec, logits_of(network, images)).clamp(0, 1)


@torch.inference_mode()
def decided_by_detail(network: Network, images: Tensor, classes: Tensor, blur: float) -> Tensor:
    """Which images lose their answer with their detail: the only ones that a map can be tested on.

    Where the blurred image is given the same answer, there is nothing to delete and nothing to
    gain: such curves tell maps apart by noise, and would pull every method towards the others.

    Args:
        network: in evaluation mode.
        images: (N, C, H, W) float32 in [0, 1].
        classes: (N,) int64, the answers to be explained.
        blur: as for `curves`.

    Returns:
        (N,) bool on the CPU, true where the blurred image is taken for another class.
    """
    return logits_of(network, blurred(images, blur)).argmax(dim=1) != classes.cpu()


def area(curves: Tensor) -> Tensor:
    """(N, steps + 1) -> (N,) areas under the curves, where the whole of the pixels counts as 1."""
    return torch.trapezoid(curves.double(), dim=1) / (curves.shape[1] - 1)


def faithfulness(
    found: Mapping[str, Curves], *, seed: int, control: str = "random"
) -> dict[str, dict[str, Any]]:
    """How faithful each method's maps are, against a control that knows nothing.

    A method beats the control when its intervals lie wholly on the good side of the control's:
    deletion below and insertion above. Intervals that touch may still be of different means, so
    this asks for more than a test of the difference would.

    Args:
        found: per method the curves of the same images; at least one image.
        seed: of the intervals.
        control: the method that the others should beat.

    Returns:
        Per method `deletion` and `insertion`, the mean areas; `deletion_interval` and
        `insertion_interval`, their 95 % intervals over the images; and `beats_<control>`.

    Raises:
        KeyError: when the control has no curves.
        ValueError: when there is no image.
    """
    areas = {
        method: (
            mean_interval(area(one.deletion), seed=seed),
            mean_interval(area(one.insertion), seed=seed),
        )
        for method, one in found.items()
    }
    (_, least_deletion, _), (_, _, most_insertion) = areas[control]
    return {
        method: {
            "deletion": deletion,
            "deletion_interval": [deletion_low, deletion_high],
            "insertion": insertion,
            "insertion_interval": [insertion_low, insertion_high],
            f"beats_{control}": deletion_high < least_deletion and insertion_low > most_insertion,
        }
        for method, (
            (deletion, deletion_low, deletion_high),
            (insertion, insertion_low, insertion_high),
        ) in areas.items()
    }
