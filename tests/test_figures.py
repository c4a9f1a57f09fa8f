from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from happymaps.figures import (
    Curve,
    Row,
    as_picture,
    draw_curves,
    draw_heat_maps,
    draw_sheet,
    heat,
    zoom_of,
)


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
    # Letters have edges of any grey, but none that is as large.
    windows = np.lib.stride_tricks.sliding_window_view(grey == 77, (32, 32))
    assert windows.all(axis=(2, 3)).sum() == 4


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
    title = "wider_dense: random test images (above each image: its truth, and the answer)"
    draw_sheet(tmp_path / "a.png", title, [row], columns=1)
    with Image.open(tmp_path / "a.png") as sheet:
        assert (np.asarray(sheet.convert("L"))[:40, -8:] == 255).all()


def test_rows_of_a_table_are_drawn_as_rows(tmp_path: Path) -> None:
    table = np.array([[1.0, 1.0], [-1.0, -1.0]])
    draw_heat_maps(tmp_path / "a.png", "", ["a", "b"], {"panel": table})
    with Image.open(tmp_path / "a.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    ends = ((103, 0, 31), (5, 48, 97))  # of the colours: 1 and -1
    above, below = (np.flatnonzero((pixels == end).all(axis=2).any(axis=1)) for end in ends)
    assert above.max() < below.min()


@pytest.mark.parametrize("name", ["$_{$.png", r"$\foo$", "a$b$c"])
def test_dollar_signs_are_no_formula(tmp_path: Path, name: str) -> None:
    image = np.zeros((8, 8), np.uint8)
    sizes = set()
    for number, written in enumerate((name, name.replace("$", "S"))):
        draw_sheet(tmp_path / f"{number}.png", written, [Row(written, [image], [written])], 1)
        sizes.add(ink(tmp_path / f"{number}.png"))
    assert max(sizes) < 1.2 * min(sizes)


def ink(path: Path) -> float:
    """How much darkness is on a sheet."""
    with Image.open(path) as sheet:
        return float(255 - np.asarray(sheet.convert("L")).mean())


# --- curves


def test_the_same_curves_give_the_same_bytes_and_other_curves_do_not(tmp_path: Path) -> None:
    at = [0.0, 0.5, 1.0]
    for name, dashed, last in (
        ("a", False, 1.0),
        ("b", False, 1.0),
        ("c", True, 1.0),
        ("d", False, 0.5),
    ):
        panels = {
            "one": [Curve("random", at, [0.0, 0.2, last], dashed)],
            "two": [Curve("random", at, [0.0, 0.1, 0.2], dashed)],
        }
        draw_curves(tmp_path / f"{name}.png", panels, x="share", y="confidence")
    first, again, dashed_one, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abcd")
    assert first == again
    assert len({first, dashed_one, other}) == 3
    assert b"Matplotlib" not in first


def blue(path: Path) -> int:
    """How many pixels have the colour of the first curve."""
    with Image.open(path) as drawn:
        return int((np.asarray(drawn.convert("RGB")) == (31, 119, 180)).all(axis=2).sum())


def test_a_dashed_curve_has_gaps(tmp_path: Path) -> None:
    for name, dashed in (("solid", False), ("dashed", True)):
        curve = Curve("edges", [0.0, 1.0], [0.5, 0.5], dashed)
        draw_curves(tmp_path / f"{name}.png", {"one": [curve]}, x="share", y="confidence")
    solid, gaps = blue(tmp_path / "solid.png"), blue(tmp_path / "dashed.png")
    assert 0.4 * solid < gaps < 0.9 * solid


def test_names_on_the_x_axis_stand_in_the_order_given(tmp_path: Path) -> None:
    """Falling in the order given; sorted by name it would rise, as the other does."""
    falling = Curve("lime", ["c", "b", "a"], [1.0, 0.5, 0.0])
    rising = Curve("lime", ["a", "b", "c"], [0.0, 0.5, 1.0])
    slopes = []
    for number, curve in enumerate((falling, rising)):
        path = tmp_path / f"{number}.png"
        draw_curves(path, {"one": [curve]}, x="layer", y="likeness")
        with Image.open(path) as drawn:
            pixels = np.asarray(drawn.convert("RGB"))[:, : drawn.width * 3 // 4]
        rows, columns = np.nonzero((pixels == (31, 119, 180)).all(axis=2))
        slopes.append(np.polyfit(columns, -rows, 1)[0])
    assert slopes[0] < -0.3 < 0.3 < slopes[1]


# --- tables


def draw_tables(
    path: Path, least: float, columns: int | None, value: float = 0.5
) -> tuple[int, int]:
    table = np.array([[value, np.nan], [1.0, 0.25]])
    panels = {f"panel {number}": table for number in range(4)}
    draw_heat_maps(path, "title", ["a", "b"], panels, least=least, columns=columns)
    with Image.open(path) as drawn:
        return drawn.size


def test_tables_stand_beside_each_other_or_in_so_many_columns(tmp_path: Path) -> None:
    width, height = draw_tables(tmp_path / "row.png", -1, None)
    assert draw_tables(tmp_path / "square.png", -1, 2) == (width // 2, height * 2)
    assert draw_tables(tmp_path / "column.png", -1, 1) == (width // 4, height * 4)
    # A place stays empty.
    assert draw_tables(tmp_path / "three.png", -1, 3) == (width * 3 // 4, height * 2)


def test_colours_reach_from_least_to_one(tmp_path: Path) -> None:
    middle, lowest = (247, 247, 247), (5, 48, 97)  # of the colour map
    for least, value in ((-1.0, 0.0), (0.0, 0.5)):
        shares = {}
        for shown in (least, value):
            draw_tables(tmp_path / "a.png", least, 2, shown)
            with Image.open(tmp_path / "a.png") as drawn:
                pixels = np.asarray(drawn.convert("RGB")).astype(int)
            shares[shown] = [
                float((np.abs(pixels - colour).max(axis=2) <= 2).mean())
                for colour in (middle, lowest)
            ]
        assert shares[value][0] > shares[least][0] + 0.02
        assert shares[least][1] > shares[value][1] + 0.02


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    for name, value in (("a", 0.5), ("b", 0.5), ("c", 0.75)):
        draw_tables(tmp_path / f"{name}.png", 0, 2, value)
    first, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == again
    assert first != other


# --- heat


def shade(channels: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((channels, 20, 20), dtype=np.float32)


def pale(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image where nothing lies over it."""
    colour = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    return np.asarray((255 * (0.35 + 0.65 * colour)).round(), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_is_red_where_positive_and_blue_where_negative_and_clear_at_zero(
    channels: int,
) -> None:
    attribution = np.zeros((20, 20), np.float32)
    attribution[:5], attribution[15:] = 2, -2
    image = shade(channels)
    drawn = heat(image, attribution)
    assert drawn.shape == (20, 20, 3)
    assert drawn.dtype == np.uint8
    red, green, blue = np.moveaxis(drawn.astype(int), 2, 0)
    assert (red[:5] > blue[:5] + 20).all()
    assert (blue[15:] > red[15:] + 20).all()
    assert (green[:5] < red[:5]).all()
    assert np.array_equal(drawn[5:15], pale(image)[5:15])


def test_pictures_of_both_kinds_keep_their_pixels() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    assert np.array_equal(as_picture(grey), grey[0])
    colour = np.arange(36, dtype=np.uint8).reshape(3, 3, 4)
    assert as_picture(colour).shape == (3, 4, 3)
    assert np.array_equal(as_picture(colour)[1, 2], colour[:, 1, 2])


def test_small_images_are_enlarged_and_large_ones_are_not() -> None:
    assert [zoom_of(size) for size in (16, 32, 100, 128, 300)] == [8, 4, 1, 1, 1]
    assert zoom_of(32, 384) == 12


def test_panels_may_have_axes_of_their_own(tmp_path: Path) -> None:
    panels = {"a": [Curve("x", [0, 1], [0, 1])], "b": [Curve("x", [0, 1], [0, 1000])]}
    drawn = {}
    for share in (True, False):
        draw_curves(tmp_path / "a.png", panels, x="x", y="y", share_y=share)
        with Image.open(tmp_path / "a.png") as picture:
            drawn[share] = np.asarray(picture.convert("L")).astype(int)
    # On one axis the small curve is flat: its panel differs from the one that it has alone.
    width = min(image.shape[1] for image in drawn.values()) // 2
    assert np.abs(drawn[True][:, :width] - drawn[False][:, :width]).max() > 100


def test_heat_knows_no_scale() -> None:
    attribution = np.random.default_rng(1).normal(size=(20, 20)).astype(np.float32)
    drawn = heat(shade(), attribution)
    assert np.abs(drawn.astype(int) - heat(shade(), attribution * 1024)).max() <= 1


def test_one_bright_pixel_does_not_hide_the_others() -> None:
    attribution = np.zeros((20, 20), np.float32)
    attribution[:10] = 1
    usual = heat(shade(), attribution)
    attribution[15, 15] = 1000
    drawn = heat(shade(), attribution)
    others = np.ones((20, 20), bool)
    others[15, 15] = False
    assert np.array_equal(drawn[others], usual[others])
    red, _, blue = drawn[15, 15].astype(int)
    assert red > blue + 40


def test_a_single_pixel_that_speaks_is_seen() -> None:
    attribution = np.zeros((20, 20), np.float32)
    attribution[3, 4] = -1e-6
    drawn = heat(shade(), attribution)
    changed = (drawn != pale(shade())).any(axis=2)
    assert np.argwhere(changed).tolist() == [[3, 4]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-38, 1e30])
def test_heat_of_a_constant_map_is_even(value: float) -> None:
    grey = np.full((1, 20, 20), 0.5, np.float32)
    drawn = heat(grey, np.full((20, 20), value, np.float32))
    assert (drawn == drawn[0, 0]).all()
    red, _, blue = drawn[0, 0].astype(int)
    assert np.sign(red - blue) == np.sign(value)
