"""Photographs that are there at several scales, and a split that has none on both sides."""

from pathlib import Path

import pandas as pd
import pytest

from happymaps.errors import InputError
from happymaps.params import Params, SplitParams
from happymaps.photographs import finest_copies, photographs_of, read_index
from happymaps.splitting import split

SCALES = ("", "_2", "_4")


@pytest.fixture
def index() -> pd.DataFrame:
    """40 photographs of 4 people at three scales, which are not next to each other."""
    rows = [
        {"subject": f"person{photo % 4}", "source": f"person{photo % 4}/shot{photo}{scale}.pgm"}
        for scale in SCALES
        for photo in range(40)
    ]
    table = pd.DataFrame(rows)
    return table.assign(image=[f"{number:06d}.png" for number in range(len(table))])


def test_somebody_may_be_called_nan(index: pd.DataFrame, tmp_path: Path) -> None:
    called = index.assign(subject="nan", image=[f"{number:06d}" for number in range(len(index))])
    called.to_csv(tmp_path / "index.csv", index=False)
    read = read_index(tmp_path)
    assert set(read["subject"]) == {"nan"}
    assert read["image"].tolist() == called["image"].tolist()


@pytest.fixture
def by_photograph(params: Params) -> SplitParams:
    changes = {"method": "by_photograph", "test_share": 0.2}
    return params.split.model_copy(update=changes)


def sides_of(parts: pd.DataFrame, groups: "pd.Series[str]") -> "pd.Series[int]":
    """On how many sides each group is."""
    return parts["part"].groupby(groups).nunique()


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


@pytest.mark.parametrize("seed", range(5))
def test_all_scales_of_a_photograph_are_on_one_side(
    index: pd.DataFrame, by_photograph: SplitParams, seed: int
) -> None:
    photographs = photographs_of(index)
    parts = split(index, photographs, by_photograph, seed)
    assert parts["image"].tolist() == index["image"].tolist()
    assert set(sides_of(parts, photographs)) == {1}
    # A fifth of 40 photographs at three scales.
    assert parts["part"].value_counts().to_dict() == {"train": 96, "test": 24}


def test_a_random_split_does_part_them(index: pd.DataFrame, by_photograph: SplitParams) -> None:
    at_random = by_photograph.model_copy(update={"method": "random"})
    photographs = photographs_of(index)
    parts = split(index, photographs, at_random, seed=0)
    assert 2 in set(sides_of(parts, photographs))


def test_people_may_be_on_both_sides(index: pd.DataFrame, by_photograph: SplitParams) -> None:
    parts = split(index, photographs_of(index), by_photograph, seed=0)
    assert 2 in set(sides_of(parts, index["subject"]))


def test_photographs_belong_to_images_by_their_place(
    index: pd.DataFrame, by_photograph: SplitParams
) -> None:
    # A table whose rows have other numbers, as one that was filtered.
    odd = index.set_index(pd.Index(range(1000, 1000 + len(index))))
    photographs = photographs_of(index)
    assert split(odd, photographs, by_photograph, 0)["part"].tolist() == (
        split(index, photographs, by_photograph, 0)["part"].tolist()
    )


def test_the_split_follows_its_seed(index: pd.DataFrame, by_photograph: SplitParams) -> None:
    photographs = photographs_of(index)
    first, again, other = (split(index, photographs, by_photograph, seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize(("photographs", "share"), [(1, 0.2), (3, 0.9)])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(
    index: pd.DataFrame, by_photograph: SplitParams, photographs: int, share: float
) -> None:
    known = photographs_of(index)
    few = index[known.isin(known.unique()[:photographs])]
    params = by_photograph.model_copy(update={"test_share": share})
    with pytest.raises(InputError, match="leaves a part empty"):
        split(few, photographs_of(few), params, seed=0)
