"""Networks whose way of looking is known, and faces that are moved and mirrored."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from happymaps.datasets import LabelledImages
from happymaps.networks import Network
from happymaps.params import NetworkParams
from happymaps.understanding.invariance import Position, mirror, moved, position, to_bytes
from toys import by_hand

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32
POSES = ("straight", "left", "right", "up")


def faces_with(spots: dict[str, tuple[slice, slice]], count: int = 40) -> LabelledImages:
    """Dark images; a bright spot tells the pose, where it has one."""
    poses = np.array(POSES)[np.arange(count) % 4]
    images = torch.zeros(count, 1, SIZE, SIZE, dtype=torch.uint8)
    for image, pose in zip(images, poses, strict=True):
        if pose in spots:
            image[0][spots[pose]] = 255
    truth = pd.DataFrame({"image": "a", "left": (poses == "left").astype(np.int64), "pose": poses})
    return LabelledImages(images, truth.assign(subject="b"))


def spot(rows: slice, columns: slice) -> Tensor:
    weight = torch.zeros(SIZE, SIZE)
    weight[rows, columns] = 1
    return weight


MIDDLE = (slice(14, 18), slice(14, 18))
EVERYWHERE = (slice(0, 32), slice(0, 32))


def look(
    network: Network, faces: LabelledImages, *, images: int = 8, scales: tuple[float, ...] = (1.0,)
) -> Position:
    return position(network, faces, images=images, reach=0.25, offsets=5, scales=scales, seed=0)


def test_an_image_is_moved_right_and_down_with_its_border_continued() -> None:
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    shifted = moved(images, 4 / SIZE, -2 / SIZE, 1.0)
    torch.testing.assert_close(shifted[..., :-2, 4:], images[..., 2:, :-4], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        shifted[..., :-2, :4], images[..., 2:, :1].expand(-1, -1, -1, 4), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(moved(images, 0.0, 0.0, 1.0), images, atol=1e-5, rtol=0)


def test_an_image_is_scaled_about_its_centre_and_then_moved() -> None:
    image = torch.zeros(1, 1, SIZE, SIZE)
    image[..., 12:20, 14:18] = 1
    doubled = moved(image, 0.0, 0.0, 2.0)[0, 0] > 0.5
    assert torch.equal(doubled, spot(slice(8, 24), slice(12, 20)).bool())
    both = moved(image, 0.25, 0.0, 2.0)[0, 0] > 0.5
    assert torch.equal(both, spot(slice(8, 24), slice(20, 28)).bool())


def test_which_faces_are_moved_is_chosen_by_seed(spec: NetworkParams) -> None:
    """The first ones would be of few people. Each face holds as far as its spot is wide."""
    faces = faces_with({"left": MIDDLE})
    for wider, image in enumerate(faces.images[1::4]):
        image[0, 14:18, 14 - wider : 18 + wider] = 255
    network = by_hand(spec, {"left": spot(*MIDDLE)}, bias=-8)
    held = [
        position(
            network, faces, images=6, reach=0.25, offsets=9, scales=(1.0,), seed=seed
        ).held_left
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(held[0], held[1])
    assert not np.array_equal(held[0], held[2])


def test_a_network_that_looks_at_one_place_holds_there_only(spec: NetworkParams) -> None:
    network = by_hand(spec, {"left": spot(*MIDDLE)}, bias=-8)
    result = look(network, faces_with({"left": MIDDLE}))
    assert result.images == {"left": 4, "others": 4}
    assert result.offsets.tolist() == [-0.25, -0.125, 0, 0.125, 0.25]
    # A step is as wide as the spot.
    expected = np.zeros((1, 5, 5))
    expected[0, 2, 2] = 1
    assert np.array_equal(result.held_left, expected)
    assert (result.held_others == 1).all()
    assert np.array_equal(result.held, (expected + 1) / 2)
    assert result.figures()["share_left"] == 1 / 25
    assert 1 >= result.score_left[0, 2, 2] > 0.99
    assert 0.01 > result.score_left[0, 0, 0] >= 0


def test_maps_have_rows_down_and_columns_to_the_right(spec: NetworkParams) -> None:
    network = by_hand(spec, {"left": spot(slice(14, 18), slice(14, 32))}, bias=-8)
    held = look(network, faces_with({"left": MIDDLE})).held_left[0]
    assert held[2].tolist() == [0, 0, 1, 1, 1]
    assert not np.delete(held, 2, axis=0).any()


def test_a_network_that_averages_everything_holds_everywhere(spec: NetworkParams) -> None:
    network = by_hand(spec, {"left": spot(*EVERYWHERE)}, bias=-100)
    result = look(network, faces_with({"left": EVERYWHERE}), scales=(0.75, 1.0, 1.25))
    assert result.figures() == {
        "images": {"left": 4, "others": 4},
        "share": 1.0,
        "share_left": 1.0,
        "share_others": 1.0,
        "by_scale": {"0.75": 1.0, "1": 1.0, "1.25": 1.0},
    }


def test_scales_are_told_apart(spec: NetworkParams) -> None:
    # At half its size the spot fills too little of where it is looked for.
    network = by_hand(spec, {"left": spot(*MIDDLE)}, bias=-12)
    shares = look(network, faces_with({"left": MIDDLE}), scales=(0.5, 1.0)).held_left[:, 2, 2]
    assert shares.tolist() == [0, 1]


def test_only_right_answers_are_moved(spec: NetworkParams) -> None:
    never = by_hand(spec, {}, bias=-1)
    result = look(never, faces_with({"left": MIDDLE}), images=100)
    assert result.images == {"left": 0, "others": 30}
    assert (result.held_others == 1).all()
    # What was never answered rightly cannot be kept.
    assert (result.held == 0.5).all()
    assert result.figures()["share_left"] == 0
    assert np.isnan(result.score_left).all()
    others = look(never, faces_with({}).subset(pd.Series([True, False] * 20)), images=100)
    assert others.images == {"left": 0, "others": 20}
    assert others.figures()["share_left"] is None
    assert others.figures()["share"] == 1
    always = look(by_hand(spec, {}, bias=1), faces_with({}).subset(pd.Series([True, False] * 20)))
    assert always.images == {"left": 0, "others": 0}
    assert always.figures()["share"] == 0


def test_a_linear_head_is_moved_too(spec: NetworkParams) -> None:
    network = by_hand(
        spec,
        {"left": spot(*MIDDLE) / 16},
        bias=-0.1,
        head="linear",
        loss="mean_squared_error",
    )
    result = look(network, faces_with({"left": MIDDLE}))
    assert result.score_left[0, 2, 2] == pytest.approx(0.9, abs=1e-4)
    assert result.score_left[0, 0, 0] == pytest.approx(-0.1, abs=1e-4)


RIGHT_HALF, LEFT_HALF = (slice(8, 24), slice(20, 28)), (slice(8, 24), slice(4, 12))


def test_a_network_with_a_mirrors_weights_knows_the_mirrored_face(spec: NetworkParams) -> None:
    weight = spot(*RIGHT_HALF) - spot(*LEFT_HALF)
    network = by_hand(spec, {"left": weight}, bias=-1)
    assert mirror(network, faces_with({"left": RIGHT_HALF, "right": LEFT_HALF})) == {
        "images": 40,
        "share": 1.0,
        "left": 10,
        "right": 10,
        "right_found": 1.0,
        "left_kept": 0.0,
    }


def test_a_network_that_knows_left_by_a_corner_does_not(spec: NetworkParams) -> None:
    corner = (slice(0, 4), slice(0, 4))
    network = by_hand(spec, {"left": spot(*corner)}, bias=-1)
    figures = mirror(network, faces_with({"left": corner, "right": LEFT_HALF}))
    # Straight and up need nothing, and the mirrored left has lost its corner.
    assert figures["share"] == 0.75
    assert (figures["right_found"], figures["left_kept"]) == (0.0, 0.0)


def test_a_network_that_cannot_tell_sides_keeps_its_answer(spec: NetworkParams) -> None:
    network = by_hand(spec, {"left": spot(*EVERYWHERE)}, bias=-1)
    figures = mirror(network, faces_with({"left": RIGHT_HALF}))
    assert figures["left_kept"] == 1
    assert figures["share"] == 0.5


def test_four_poses_swap_only_their_sides(spec: NetworkParams) -> None:
    top = (slice(0, 4), slice(0, 32))
    weights = {"left": spot(*RIGHT_HALF), "right": spot(*LEFT_HALF), "up": spot(*top)}
    network = by_hand(spec, weights, target="pose")
    faces = faces_with({"left": RIGHT_HALF, "right": LEFT_HALF, "up": top})
    assert mirror(network, faces)["share"] == 1
    # Of those it gets wrong nothing is asked.
    blind = by_hand(spec, {"up": spot(*top)}, target="pose")
    figures = mirror(blind, faces)
    assert (figures["images"], figures["share"], figures["right_found"]) == (20, 1, None)


def test_figures_are_of_their_own_kind_and_scale() -> None:
    left, others = np.array([[[0.0]], [[0.5]]]), np.array([[[0.2]], [[1.0]]])
    images = {"left": 1, "others": 1}
    found = Position((1.0, 2.0), np.zeros(1), images, left, others, left, others)
    assert found.figures() == {
        "images": images,
        "share": pytest.approx(0.425),
        "share_left": 0.25,
        "share_others": 0.6,
        "by_scale": {"1": pytest.approx(0.1), "2": 0.75},
    }


def test_bytes_are_rounded_to_the_nearest() -> None:
    levels = torch.arange(256).view(1, 1, 16, 16)
    assert torch.equal(to_bytes((levels - 0.4).clamp(min=0) / 255), levels.to(torch.uint8))


def test_of_no_image_there_is_no_share(spec: NetworkParams) -> None:
    none = faces_with({}).subset(pd.Series([False] * 40))
    figures = look(by_hand(spec, {}), none).figures()
    assert (figures["share"], figures["by_scale"]) == (None, {"1": None})
