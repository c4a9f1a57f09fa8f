from pathlib import Path

from happymaps.images.boxes import Box, in_fractions, in_pixels, seen_in, write_boxes


def test_a_part_in_pixels_of_a_copy_by_hand() -> None:
    shares = in_fractions(Box(4, 6, 12, 18), (120, 128))
    assert in_pixels(shares, (30, 64)) == (2, 1.5, 6, 4.5)
    assert in_pixels(shares, (120, 128)) == (4, 6, 12, 18)


def test_a_box_in_pixels_of_a_crop_by_hand() -> None:
    assert seen_in(Box(10, 20, 60, 120), Box(20, 40, 50, 140), 100) == Box(20, 20, 80, 120)
    assert seen_in(Box(10, 10, 20, 20), Box(0, 5, 30, 30), 20) == Box(-20, -10, 40, 40)


def test_edges_are_rounded_to_the_nearest_pixel() -> None:
    assert seen_in(Box(0, 0, 30, 30), Box(2, 5, 8, 11), 10) == Box(1, 2, 3, 4)


def test_edges_are_whole_numbers_where_some_are_missing_too(tmp_path: Path) -> None:
    table = tmp_path / "boxes.csv"
    write_boxes(table, ["image"], [("a", Box(1, 2, 3, 4)), ("b", None)])
    assert table.read_text().splitlines() == ["image,left,top,right,bottom", "a,1,2,3,4", "b,,,,"]
