"""Differences that are planted, and a network that minds one of them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from happymaps.answering import logits_of
from happymaps.datasets import LabelledImages
from happymaps.images.boxes import Box
from happymaps.networks import Network
from happymaps.params import NetworkParams
from happymaps.understanding.diagnosis import (
    ALL,
    DIFFERENCES,
    changed,
    describe,
    diagnose,
    shown_classes,
    turn_curve,
    turn_row,
    typical,
)
from happymaps.understanding.focus import box_masks
from toys import answers_left

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32
HEAD = Box(8, 6, 24, 26)
MASK = box_masks([HEAD], SIZE, SIZE)[0]
HERE = pd.Series(
    {"x": 0.5, "y": 0.5, "size": 0.625, "brightness": 0.4, "contrast": 0.1, "background": 0.1}
)


def heads(levels: list[float], poses: list[str]) -> LabelledImages:
    """Flat heads of these brightnesses before a background of 0.2."""
    images = torch.full((len(levels), 1, SIZE, SIZE), 51, dtype=torch.uint8)
    for image, level in zip(images, levels, strict=True):
        image[0, MASK] = round(255 * level)
    left = [int(pose == "left") for pose in poses]
    truth = pd.DataFrame({"image": "a", "left": left, "pose": poses, "subject": "b"})
    return LabelledImages(images, truth)


def says_left_above(spec: NetworkParams, threshold: float) -> Network:
    """Knows left by the mean brightness of the head's place."""
    return answers_left(spec, MASK.float(), threshold)


def other(**values: float) -> "pd.Series[float]":
    return pd.concat([HERE.drop(list(values)), pd.Series(values)])[HERE.index]


def table(values: "pd.Series[float]", poses: list[str], found: int) -> pd.DataFrame:
    """Describes as many images as poses, of which a head is found in the first `found`."""
    rows = pd.DataFrame([values] * len(poses)).reset_index(drop=True)
    rows.iloc[found:] = np.nan
    rows.insert(0, "pose", poses)
    return rows


def test_a_head_is_described_by_place_and_light() -> None:
    faces = heads([0.8, 0.8], ["left", "up"])
    faces.images[0, 0, :16][MASK[:16]] = 102
    described = describe(faces, [HEAD, None])
    numbers = described.drop(columns="pose")
    assert described["pose"].tolist() == ["left", "up"]
    assert list(numbers.loc[0]) == pytest.approx([0.5, 0.5, 0.625, 0.6, 0.2, 0.2], abs=0.001)
    assert numbers.loc[1].isna().all()
    assert described["x"].notna().sum() == 1


def test_every_figure_of_a_head_stands_under_its_own_name() -> None:
    head = Box(2, 10, 14, 30)
    (mask,) = box_masks([head], SIZE, SIZE)
    image = torch.full((SIZE, SIZE), 51, dtype=torch.uint8)
    lower = torch.arange(SIZE).unsqueeze(1).expand(SIZE, SIZE) >= 20
    image[mask & ~lower], image[mask & lower] = 204, 153
    faces = LabelledImages(image.view(1, 1, SIZE, SIZE), pd.DataFrame({"pose": ["left"]}))
    found = describe(faces, [head]).drop(columns="pose").loc[0].to_dict()
    assert found == pytest.approx(
        {"x": 0.25, "y": 0.625, "size": 0.625, "brightness": 0.7, "contrast": 0.1,
         "background": 0.2},
        abs=0.001,
    )  # fmt: skip


def test_what_is_typical_does_not_depend_on_how_often_people_turn() -> None:
    rows = (
        [("straight", 0.5)] * 5
        + [("left", 0.7)] * 2
        + [("up", 0.0), ("left", 0.9), ("left", np.nan)]
    )
    described = pd.DataFrame(rows, columns=["pose", "x"])
    assert typical(described, ["straight", "left"])["x"] == pytest.approx(0.6)


def change(image: torch.Tensor, *names: str, **values: float) -> torch.Tensor:
    there = other(**values)
    return changed(image.view(1, 1, SIZE, SIZE), [HEAD], names, HERE, there)[0, 0]


def test_each_change_touches_its_own_part() -> None:
    image = heads([0.4], ["up"]).images[0, 0]
    image[16, 16] = 122
    brighter = change(image, "brightness", brightness=0.6)
    assert torch.equal(brighter[~MASK], image[~MASK])
    assert (brighter[MASK] == image[MASK] + 51).all()
    around = change(image, "background", background=0.3, brightness=0.9)
    assert torch.equal(around[MASK], image[MASK])
    assert (around[~MASK] == 51 + 51).all()
    contrasty = change(image, "contrast", contrast=0.3)
    assert torch.equal(contrasty[~MASK], image[~MASK])
    assert contrasty[16, 16].item() == pytest.approx(102 + 60, abs=1)
    assert contrasty[10, 16] == 102
    # No further than white.
    assert change(image, "brightness", brightness=1.4)[MASK].min() == 255


def test_a_head_is_moved_and_scaled_about_itself() -> None:
    image = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    image[4:12, 4:12] = 255
    lower = change(image, "position", y=0.75, size=0.9) > 127
    assert torch.equal(lower, (image > 127).roll(8, 0))
    aside = change(image, "position", x=0.75, size=0.9) > 127
    assert torch.equal(aside, (image > 127).roll(8, 1))
    box = Box(4, 4, 12, 12)
    pictures = image.view(1, 1, SIZE, SIZE)
    half = changed(pictures, [box], ["size"], HERE, other(size=0.3125))[0, 0] > 127
    assert half.sum() == 16
    assert half[6:10, 6:10].all()


def test_what_a_network_minds_comes_first(spec: NetworkParams) -> None:
    faces = heads([0.6, 0.6, 0.3, 0.3, 0.3, 0.9], ["left", "left", "up", "up", "up", "straight"])
    poses = ["left", "up"]
    # The last face is answered wrongly and the fourth not found: neither is changed.
    boxes = [HEAD, HEAD, HEAD, None, HEAD, HEAD]
    rows = diagnose(
        says_left_above(spec, 0.45),
        faces,
        boxes,
        table(HERE, poses, 2),
        # A pose that nobody of the training has does not count.
        table(other(brightness=0.2, background=0.15, x=0.52), [*poses, "right"], 3),
        turn={"difference": "turn", "cost": None},
    )
    assert [row["difference"] for row in rows][:2] == ["brightness", ALL]
    assert rows[-1]["difference"] == "turn"
    assert {row["difference"] for row in rows} == {*DIFFERENCES, ALL, "turn"}
    assert rows[0] == {
        "difference": "brightness",
        "faces": [0.4],
        "subject": [pytest.approx(0.2)],
        "heads": 2,
        "images": 4,
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "left_recall": 0.0,
        "cost": 0.5,
    }
    assert [row["cost"] for row in rows[2:-1]] == [0.0] * 4


def test_who_never_turns_left_cannot_be_missed_there(spec: NetworkParams) -> None:
    faces = heads([0.6, 0.6, 0.3, 0.3], ["left", "left", "up", "straight"])
    training = table(HERE, ["left", "up", "straight"], 3)

    def brightness(poses: list[str], level: float) -> dict[str, Any]:
        person = table(other(brightness=level), poses, len(poses))
        rows = diagnose(says_left_above(spec, 0.45), faces, [HEAD] * 4, training, person)
        return next(row for row in rows if row["difference"] == "brightness")

    # A darker person's left turns are missed, a brighter one's others are called left.
    assert brightness(["left", "up"], 0.2)["cost"] == 0.5
    assert brightness(["up"], 0.2) | {"faces": [], "subject": []} == {
        "difference": "brightness", "faces": [], "subject": [], "heads": 1, "images": 2,
        "accuracy": 1.0, "balanced_accuracy": 1.0, "left_recall": None, "cost": 0.0,
    }  # fmt: skip
    assert brightness(["up"], 0.6)["cost"] == 1.0
    assert brightness(["left"], 0.2)["cost"] == 1.0


def test_a_person_whose_heads_are_hardly_found_is_not_compared(spec: NetworkParams) -> None:
    faces = heads([0.6, 0.3], ["left", "up"])
    training = table(HERE, ["up"] * 4, 4)
    turn = {"difference": "turn", "cost": 0.1}

    def rows(subject: pd.DataFrame, boxes: list[Box | None]) -> int:
        return len(diagnose(says_left_above(spec, 0.45), faces, boxes, training, subject, turn))

    assert rows(table(HERE, ["up"] * 5, 1), [HEAD, HEAD]) == 1
    assert rows(table(HERE, ["up"] * 4, 1), [HEAD, HEAD]) == 7
    # Another pose cannot be compared, and without a known face nothing can be changed.
    assert rows(table(HERE, ["left"], 1), [HEAD, HEAD]) == 1
    assert rows(table(HERE, ["up"], 1), [None, None]) == 1


def test_the_curve_tells_where_a_turn_is_seen_and_what_it_costs(spec: NetworkParams) -> None:
    yaws = torch.tensor([0.0, 30, 60, 0, 30, 60])
    levels = [0.1, 0.3, 0.8, 0.1, 0.6, 0.9]
    network = says_left_above(spec, 0.45)
    curve = turn_curve(network, heads(levels, ["left"] * 6).images, yaws)
    assert curve == {0.0: 0.0, 30.0: 0.5, 60.0: 1.0}
    row = turn_row(curve, full=60, turn=30, classes=2)
    assert (row["left_recall"], row["cost"]) == (0.5, 0.25)
    # Of who shows all four poses, the left turns' recall is a quarter.
    assert turn_row(curve, full=60, turn=30, classes=4)["cost"] == 0.125


def test_of_four_poses_a_head_is_called_left_where_left_is_the_likeliest(
    spec: NetworkParams,
) -> None:
    network = says_left_above(spec.model_copy(update={"target": "pose"}), 0.445)
    images = heads([0.44, 0.45], ["left"] * 2).images
    chances = logits_of(network, images).softmax(dim=1)[:, network.spec.classes.index("left")]
    assert 0.25 < chances[1] < 0.5
    assert turn_curve(network, images, torch.tensor([0.0, 30.0])) == {0.0: 0.0, 30.0: 1.0}
    faces, alike = heads([0.45] * 2, ["left"] * 2), table(HERE, ["left"], 2)
    rows = diagnose(network, faces, [HEAD] * 2, alike, alike)
    assert [(row["left_recall"], row["cost"]) for row in rows] == [(1, 0)] * len(rows)
    assert rows


def test_a_person_shows_the_classes_of_their_poses(spec: NetworkParams) -> None:
    of_poses = spec.model_copy(update={"target": "pose"})
    assert shown_classes(of_poses, {"up", "left"}).tolist() == [1, 3]
    assert shown_classes(spec, {"straight", "up"}).tolist() == [0]
    assert shown_classes(spec, {"straight", "left", "up"}).tolist() == [0, 1]


@pytest.mark.parametrize("curve", [{0.0: 0.0, 30.0: 0.2, 60.0: 0.4}, {0.0: 1.0, 30.0: 1, 60.0: 1}])
def test_a_network_that_does_not_know_drawn_heads_has_no_such_cost(
    curve: dict[float, float],
) -> None:
    row = turn_row(curve, full=60, turn=30, classes=2)
    assert row["cost"] is None
    assert row["left_recall"] == curve[30.0]


def test_each_head_is_scaled_about_its_own_middle_before_it_is_moved() -> None:
    boxes = [Box(4, 8, 12, 16), Box(16, 2, 24, 10)]
    images = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.uint8)
    expected = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    for image, where, box in zip(images[:, 0], expected, boxes, strict=True):
        image[box.top : box.bottom, box.left : box.right] = 255
        # Half as large, 8 pixels to the right and 4 down.
        row, column = (box.top + box.bottom) // 2 + 4, (box.left + box.right) // 2 + 8
        where[row - 2 : row + 2, column - 2 : column + 2] = True
    there = other(size=0.3125, x=0.75, y=0.625)
    found = changed(images, boxes, ["size", "position"], HERE, there)[:, 0] > 127
    assert torch.equal(found, expected)


def test_no_head_gets_darker_than_black() -> None:
    image = heads([0.4], ["up"]).images[0, 0]
    assert change(image, "brightness", brightness=-0.6)[MASK].max() == 0
    assert change(image, "background", background=-0.6)[~MASK].max() == 0


def test_contrast_is_spread_about_each_heads_own_mean_and_of_flat_ones_not_at_all() -> None:
    flat = heads([0.2, 0.6], ["up", "up"]).images
    for here in (HERE, other(contrast=0.0)):
        assert torch.equal(changed(flat, [HEAD] * 2, ["contrast"], here, other(contrast=0.3)), flat)


def test_a_turn_costs_what_is_lost_of_the_full_turn() -> None:
    row = turn_row({0.0: 0.1, 30.0: 0.5, 60.0: 0.8}, full=60, turn=30, classes=2)
    assert row["cost"] == pytest.approx(0.15)
