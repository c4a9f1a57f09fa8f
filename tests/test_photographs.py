"""Photographs that are there at several scales, and a split that has none on both sides."""

from pathlib import Path

import pandas as pd
import pytest

from happymaps.photographs import finest_copies, photographs_of, read_index

SCALES = ("", "_2", "_4")


@pytest.mark.parametrize("name", ["nan", "007"])
def test_somebody_may_be_called_nan_or_a_number(tmp_path: Path, name: str) -> None:
    called = pd.DataFrame({"image": ["000000", "000001"], "subject": name})
    called.to_csv(tmp_path / "index.csv", index=False)
    read = read_index(tmp_path)
    assert set(read["subject"]) == {name}
    assert read["image"].tolist() == called["image"].tolist()


def test_a_photograph_is_its_source_without_the_scale() -> None:
    sources = ["a/b_left_open.pgm", "a/b_left_open_2.pgm", "a/b_left_open_4.pgm", "a/c_2_4.pgm",
               "a/d_3.pgm", "a_2.pgm/e.pgm"]  # fmt: skip
    photographs = photographs_of(pd.DataFrame({"source": sources}))
    assert photographs.tolist() == ["a/b_left_open"] * 3 + ["a/c_2", "a/d_3", "a_2.pgm/e"]


def test_the_finest_copy_is_the_one_that_was_shrunk_least() -> None:
    # As text, like the tables are read, and in no order; of the last there is only a small copy.
    index = pd.DataFrame(
        {
            "image": ["0", "1", "2", "3", "4"],
            "source": ["a_4.pgm", "b.pgm", "a.pgm", "a_2.pgm", "c_4.pgm"],
            "scale": ["4", "1", "1", "2", "4"],
        }
    )
    assert finest_copies(index).tolist() == ["2", "1", "2", "2", "4"]


def test_frames_are_their_own_only_copies() -> None:
    index = pd.DataFrame({"image": ["0", "1"], "source": ["a.mp4", "a.mp4"]})
    assert finest_copies(index).tolist() == ["0", "1"]
