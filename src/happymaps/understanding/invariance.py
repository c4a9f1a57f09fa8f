"""Does a network know its class wherever the head is, and for the mirrored head too?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from happymaps.answering import logits_of
from happymaps.datasets import LabelledImages
from happymaps.networks import Network, apply_head
from happymaps.params import MIRRORED_POSES, POSES

Maps = NDArray[np.float64]

_MIRRORED = {pose: POSES[number] for pose, number in zip(POSES, MIRRORED_POSES, strict=True)}


def moved(images: Tensor, x: float, y: float, scale: float) -> Tensor:
    """Scale images about their centre, then move them; their borders are continued outwards.

    Args:
        images: (N, C, H, W) in [0, 1].
        x: to the right, as a fraction of the width.
        y: down, as a fraction of the height.
        scale: above 1 enlarges.

    Returns:
        The same shape and range.
    """
    # Where each pixel comes from, in coordinates that run from -1 to 1.
    matrix = torch.tensor([[1, 0, -2 * x], [0, 1, -2 * y]], dtype=images.dtype) / scale
    matrices = matrix.to(images.device).expand(len(images), 2, 3)
    grid = nn.functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] -> uint8, as they are stored."""
    return (images * 255).round().to(torch.uint8)


@dataclass(frozen=True)
class Position:
    """What moving does to decisions that were right.

    Attributes:
        scales: S of them.
        offsets: (K,) fractions of the image's side, ascending; to the right and down.
        images: how many left turns and how many others were moved.
        held_left: (S, K, K) share of the left turns still answered rightly; rows are offsets down,
            columns offsets to the right.
        held_others: (S, K, K) the same of the others.
        score_left: (S, K, K) mean output for "left" for the left turns, after the head.
        score_others: (S, K, K) the same for the others.
    """

    scales: tuple[float, ...]
    offsets: Maps
    images: dict[str, int]
    held_left: Maps
    held_others: Maps
    score_left: Maps
    score_others: Maps

    @property
    def held(self) -> Maps:
        """(S, K, K): both kinds with equal weight, so that "never left" has no more than 0.5."""
        kinds = (self.held_left, self.held_others)
        there = [maps for maps in kinds if not np.isnan(maps).any()]
        return np.mean(there, axis=0) if there else self.held_left

    def figures(self) -> dict[str, Any]:
        """Numbers for a metrics file; None of a kind that does not occur.

        `share` is the mean of `held`, `share_left` and `share_others` those of its halves, and
        `by_scale` the mean of `held` at each scale.
        """
        return {
            "images": self.images,
            "share": _mean(self.held),
            "share_left": _mean(self.held_left),
            "share_others": _mean(self.held_others),
            "by_scale": {
                f"{scale:g}": _mean(maps)
                for scale, maps in zip(self.scales, self.held, strict=True)
            },
        }


def _mean(maps: Maps) -> float | None:
    return None if np.isnan(maps).any() else float(maps.mean())


def position(
    network: Network,
    faces: LabelledImages,
    *,
    images: int,
    reach: float,
    offsets: int,
    scales: Sequence[float],
    seed: int,
) -> Position:
    """Move images that the network answers rightly, and see where it still does.

    Args:
        network: in evaluation mode.
        faces: what to choose from.
        images: how many at most, half of them left turns and half others; where there are fewer
            of a kind, all of that kind.
        reach: largest offset, as a fraction of the image's side.
        offsets: number of places each way, evenly spaced from -reach to reach.
        scales: at each of which all offsets are tried.
        seed: of the choice.

    Returns:
        Maps over the offsets. Of a kind of which no image is answered rightly, shares are 0; of one
        that does not occur they are NaN. So are the scores of both.
    """
    labels = faces.labels(network.spec)
    right = logits_of(network, faces.images).argmax(dim=1) == labels
    is_left = torch.tensor((faces.truth["pose"] == "left").to_numpy())
    kinds = {"left": is_left, "others": ~is_left}
    generator = np.random.default_rng(seed)
    places = np.linspace(-reach, reach, offsets)
    held, score, counts = {}, {}, {}
    for kind, mask in kinds.items():
        known = np.flatnonzero((right & mask).numpy())
        some = np.sort(generator.permutation(known)[: images // 2])
        counts[kind] = len(some)
        chosen = torch.from_numpy(some)
        held[kind], score[kind] = _move_about(
            network, faces.images[chosen], labels[chosen], places, scales
        )
        if not len(known) and mask.any():
            # Of what was never answered rightly nothing can be kept.
            held[kind][:] = 0
    return Position(
        tuple(scales), places, counts, held["left"], held["others"], score["left"], score["others"]
    )


def _move_about(
    network: Network, images: Tensor, labels: Tensor, places: Maps, scales: Sequence[float]
) -> tuple[Maps, Maps]:
    """(S, K, K) share of right answers, and mean output for "left"."""
    held = np.full((len(scales), len(places), len(places)), np.nan)
    score = held.copy()
    if not len(images):
        return held, score
    left = network.spec.classes.index("left")
    still = images.float() / 255
    for level, down, across in np.ndindex(held.shape):
        pictures = moved(still, float(places[across]), float(places[down]), scales[level])
        logits = logits_of(network, to_bytes(pictures))
        held[level, down, across] = (logits.argmax(dim=1) == labels).double().mean()
        score[level, down, across] = apply_head(network.spec, logits)[:, left].double().mean()
    return held, score


def mirror(network: Network, faces: LabelledImages) -> dict[str, int | float | None]:
    """Whether a network knows the mirrored face, whose left is the other's right.

    Args:
        network: in evaluation mode.
        faces: not mirrored.

    Returns:
        Of the `images` that are answered rightly as they are, `share`: how many are answered
        rightly when mirrored, by the mirrored truth. Of them, `left` counts the left turns and
        `right` the right ones; `right_found` is the share of right turns that are called left
        when mirrored, as they should, and `left_kept` the share of left turns that wrongly still
        are. Shares are None where there is no image.
    """
    spec = network.spec
    truth = faces.truth.copy()
    truth["pose"] = truth["pose"].replace(_MIRRORED)
    truth["left"] = (truth["pose"] == "left").astype(np.int64)
    flipped = LabelledImages(faces.images.flip(3), truth)
    known = logits_of(network, faces.images).argmax(dim=1) == faces.labels(spec)
    answers = logits_of(network, flipped.images).argmax(dim=1)
    poses = faces.truth["pose"].to_numpy()
    was_left, was_right = (known & torch.from_numpy(poses == pose) for pose in ("left", "right"))
    are_left = answers == spec.classes.index("left")
    return {
        "images": int(known.sum()),
        "share": _share((answers == flipped.labels(spec))[known]),
        "left": int(was_left.sum()),
        "right": int(was_right.sum()),
        "right_found": _share(are_left[was_right]),
        "left_kept": _share(are_left[was_left]),
    }


def _share(yes: Tensor) -> float | None:
    return float(yes.double().mean()) if len(yes) else None
