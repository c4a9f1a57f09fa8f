"""What lies on a head, and what a network is left with when the rest is taken away."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from happymaps.datasets import LabelledImages
from happymaps.images.boxes import Box
from happymaps.params import NetworkParams
from happymaps.understanding.focus import (
    box_masks,
    focus,
    head_or_background,
    replace_background,
    replace_head,
)
from toys import answers_left

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32
HEAD = Box(8, 6, 24, 26)
MASK = box_masks([HEAD], SIZE, SIZE)


def planted() -> LabelledImages:
    """Left turns, every third image, have a bright head and a bright corner."""
    left = np.arange(24) % 3 == 0
    images = np.random.default_rng(0).integers(60, 90, (24, 1, SIZE, SIZE), dtype=np.uint8)
    images[left] = np.where(MASK, np.uint8(240), images[left])
    images[left, :, :4, :4] = 240
    poses = np.where(left, "left", "up")
    truth = pd.DataFrame({"image": "a", "left": left.astype(np.int64), "pose": poses})
    return LabelledImages(torch.from_numpy(images), truth.assign(subject="b"))


def corner() -> Tensor:
    weight = torch.zeros(SIZE, SIZE)
    weight[:4, :4] = 1
    return weight


def test_a_map_on_the_head_has_all_of_its_share_there() -> None:
    maps = MASK.double()
    maps[0, 16, 16] = 2
    # What speaks against the decision does not count.
    maps[0, 0, 0] = -50
    figures = focus(maps, MASK)
    assert figures["share"] == figures["pointing"] == 1
    assert figures["area"] == pytest.approx(np.pi / 4 * 16 * 20 / SIZE**2, rel=0.02)
    assert focus(-maps, MASK)["share"] == figures["pointing"] - 1


@pytest.mark.parametrize("level", [3.0, 0.0, -1.0])
def test_a_map_that_names_no_place_scores_as_chance(level: float) -> None:
    figures = focus(torch.full((1, SIZE, SIZE), level), MASK)
    assert figures["share"] == pytest.approx(figures["area"])
    assert figures["pointing"] == pytest.approx(figures["area"])
    assert figures["silent"] == int(level <= 0)


def test_the_figures_are_means_over_the_images_with_a_head() -> None:
    masks = torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
    masks[0, :, :8] = True
    masks[1, :, 16:] = True
    maps = torch.zeros(3, SIZE, SIZE)
    maps[0, 0, 0], maps[1, 0, 31], maps[1, 0, 0] = 1, 1, 3
    figures = focus(maps, masks)
    assert figures == {
        "images": 2,
        "without_head": 1,
        "silent": 0,
        "share": (1 + 0.25) / 2,
        "area": (0.25 + 0.5) / 2,
        "pointing": 0.5,
    }
    nothing = focus(maps[2:], masks[2:])
    assert (nothing["images"], nothing["without_head"], nothing["share"]) == (0, 1, None)


def test_a_box_holds_an_ellipse() -> None:
    masks = box_masks([None, HEAD, Box(-10, -10, 10, 10)], SIZE, SIZE)
    assert not masks[0].any()
    rows, columns = (masks[1].any(dim=axis).nonzero().flatten() for axis in (1, 0))
    assert rows.tolist() == list(range(6, 26))
    assert columns.tolist() == list(range(8, 24))
    assert not masks[1, 6, 8]
    # Cut off by the image's edges, not moved inside.
    assert masks[2].sum() == pytest.approx(np.pi / 4 * 100, rel=0.05)


def test_a_head_that_is_replaced_looks_like_its_surroundings() -> None:
    images = torch.full((2, 1, SIZE, SIZE), 70, dtype=torch.uint8)
    images[:, 0, 10:20, 12:20] = 250
    masks = torch.cat([MASK, torch.zeros_like(MASK)])
    replaced = replace_head(images, masks)
    assert (replaced[0] == 70).all()
    assert torch.equal(replaced[1], images[1])


def test_heads_change_their_backgrounds_and_bring_no_other_head() -> None:
    levels = torch.tensor([20, 60, 100, 140, 180], dtype=torch.uint8).view(5, 1, 1, 1)
    boxes = [HEAD, Box(2, 2, 16, 20), Box(16, 8, 30, 30), Box(10, 10, 22, 26), None]
    masks = box_masks(boxes, SIZE, SIZE)
    images = torch.where(masks.unsqueeze(1), torch.tensor(250, dtype=torch.uint8), levels)
    replaced = replace_background(images, masks, seed=0)
    assert torch.equal(replaced[4], images[4])
    lent = []
    for mask, before, after in zip(masks[:4], images[:4, 0], replaced[:4, 0], strict=True):
        assert (after[mask] == 250).all()
        outside = after[~mask].unique()
        assert outside.numel() == 1
        assert outside != before[0, 0]
        lent.append(int(outside))
    assert sorted(lent) == [20, 60, 100, 140]
    assert torch.equal(replaced, replace_background(images, masks, seed=0))
    assert not torch.equal(replaced, replace_background(images, masks, seed=1))


@pytest.mark.parametrize("heads", [2, 3])
def test_of_few_heads_each_gets_another_s_background(heads: int) -> None:
    levels = torch.arange(20, 20 + 40 * heads, 40, dtype=torch.uint8).view(-1, 1, 1, 1)
    masks = MASK.repeat(heads, 1, 1)
    images = torch.where(masks.unsqueeze(1), torch.tensor(250, dtype=torch.uint8), levels)
    corners = replace_background(images, masks, seed=0)[:, 0, 0, 0]
    assert (corners != levels.flatten()).all()
    assert sorted(corners.tolist()) == levels.flatten().tolist()


def test_a_network_that_looks_at_a_corner_is_caught(spec: NetworkParams) -> None:
    faces = planted()
    figures = head_or_background(
        answers_left(spec, corner(), 0.6), faces, MASK.repeat(24, 1, 1), seed=0
    )
    assert figures["accuracy"] == figures["background_only"] == 1
    assert figures["balanced_background_only"] == 1
    # Other images' corners tell nothing.
    assert figures["balanced_head_only"] < 0.7
    assert figures["majority"] == pytest.approx(2 / 3)


def test_a_network_that_looks_at_the_head_needs_the_head_only(spec: NetworkParams) -> None:
    masks = MASK.repeat(24, 1, 1)
    masks[5:7] = False
    figures = head_or_background(answers_left(spec, MASK[0].float(), 0.6), planted(), masks, 0)
    assert (figures["images"], figures["without_head"]) == (22, 2)
    assert figures["head_only"] == figures["balanced_head_only"] == 1
    assert figures["balanced_background_only"] == 0.5
    assert figures["background_only"] == figures["majority"]
    none = head_or_background(answers_left(spec, corner(), 0.6), planted(), masks & False, 0)
    assert none == {"images": 0, "without_head": 24}
