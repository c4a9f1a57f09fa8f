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
    assert (grey == 77).sum() == 4 * 32**2


def test_an_image_is_drawn_as_it_is(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    colour = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    row = Row("", [grey, colour], ["", ""])
    draw_sheet(tmp_path / "a.png", "", [row], columns=2, zoom=3)
    with Image.open(tmp_path / "a.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    for image in (np.stack([grey] * 3, axis=2), colour):
        enlarged = np.kron(image, np.ones((3, 3, 1), np.uint8))
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (60, 90, 3))[:, :, 0]
        assert (windows == enlarged).all(axis=(2, 3, 4)).sum() == 1


def test_a_sheet_of_nothing_can_be_drawn(tmp_path: Path) -> None:
    draw_sheet(tmp_path / "a.png", "title", [Row("none", [], [])], columns=15)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 1000


def test_a_long_title_is_not_cut_off(tmp_path: Path) -> None:
    row = Row("", [np.zeros((8, 8), np.uint8)], [""])
    draw_sheet(tmp_path / "a.png", "W" * 60, [row], columns=1)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 500
