from pathlib import Path

import numpy as np
from PIL import Image

from happymaps.figures import Row, draw_sheet


def rows(brightness: int) -> list[Row]:
    image = np.full((32, 32), brightness, np.uint8)
    return [
        Row("three", [image] * 3, ["a", "b", "c"]),
        Row("none among 7 images", [], []),
        Row("one", [image], ["d"]),
    ]


def test_the_same_rows_give_the_same_bytes_and_other_rows_do_not(tmp_path: Path) -> None:
    for name, brightness in (("a", 80), ("b", 80), ("c", 200)):
        draw_sheet(tmp_path / f"{name}.png", "title", rows(brightness), columns=4)
    first, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == again
    assert first != other
    assert b"Matplotlib" not in first


def test_every_image_of_every_row_is_drawn(tmp_path: Path) -> None:
    draw_sheet(tmp_path / "a.png", "title", rows(77), columns=4)
    with Image.open(tmp_path / "a.png") as sheet:
        grey = np.asarray(sheet.convert("L"))
    # 128 pixels in the square, give or take the edge.
    assert 4 * 126**2 < (grey == 77).sum() < 4 * 130**2


def test_a_sheet_of_nothing_can_be_drawn(tmp_path: Path) -> None:
    draw_sheet(tmp_path / "a.png", "title", [Row("none", [], [])], columns=15)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 1000
