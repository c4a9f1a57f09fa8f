"""How the stage `compare` puts the networks' decision maps beside each other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from happymaps.figures import Row
from happymaps.params import POSES
from happymaps.stages import compare
from happymaps.understanding.comparison import Kind, Side


def sides(classes: tuple[str, ...], shade: int) -> dict[Kind, Side]:
    """Of a network whose map for its n-th class is as bright as `shade` and n say."""
    pixels = torch.arange(shade, shade + len(classes)).view(-1, 1, 1, 1) / 255
    side = Side(classes, "dense_1", {"dense_1": pixels.expand(-1, 1, 4, 4)}, {}, {}, {})
    return {"trained": side}


def test_networks_of_the_same_classes_stand_side_by_side_and_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[tuple[Sequence[Row], int]] = []

    def draw(path: Path, title: str, rows: Sequence[Row], columns: int) -> None:
        drawn.append((rows, columns))

    monkeypatch.setattr(compare, "draw_sheet", draw)
    asked = ("not left", "left")
    kinds = {"one": sides(asked, 10), "poses": sides(POSES, 50), "other": sides(asked, 20)}
    compare._draw_decision_maps(Path("sheet.png"), kinds)
    ((rows, columns),) = drawn
    shades = [[int(np.median(image)) for image in row.images] for row in rows]
    assert [(row.title, row.captions) for row in rows] == [
        ('"not left"', ["one", "other"]),
        ('"left"', ["one", "other"]),
        ("poses", [f'"{pose}"' for pose in POSES]),
    ]
    assert shades == [[10, 20], [11, 21], [50, 51, 52, 53]]
    assert columns == 4
