import numpy as np
import pandas as pd
import pytest

from happymaps.errors import InputError
from happymaps.params import Params, SplitParams
from happymaps.photographs import photographs_of
from happymaps.splitting import folds_by_person, split

SCALES = ("", "_2", "_4")


@pytest.fixture
def truth() -> pd.DataFrame:
    """200 images of 10 people, who take turns."""
    people = [f"person{number % 10}" for number in range(200)]
    return pd.DataFrame({"image": [f"{n:06d}.png" for n in range(200)], "subject": people})


@pytest.fixture
def chosen(params: Params) -> SplitParams:
    return params.split


def by_person(chosen: SplitParams, **changes: object) -> SplitParams:
    return chosen.model_copy(update={"method": "by_person", **changes})


def people_of(truth: pd.DataFrame, parts: pd.DataFrame, part: str) -> set[str]:
    return set(truth["subject"][(parts["part"] == part).to_numpy()])


def test_the_published_split_tests_on_187_of_1872(chosen: SplitParams) -> None:
    truth = pd.DataFrame({"image": np.arange(1872).astype(str), "subject": "somebody"})
    parts = split(truth, truth["image"], chosen, seed=0)
    assert parts["part"].value_counts().to_dict() == {"train": 1685, "test": 187}
    assert parts["image"].tolist() == truth["image"].tolist()


def test_the_share_of_images_is_rounded_to_the_nearest(chosen: SplitParams) -> None:
    truth = pd.DataFrame({"image": np.arange(18).astype(str), "subject": "somebody"})
    parts = split(truth, truth["image"], chosen.model_copy(update={"test_share": 0.1}), seed=0)
    assert (parts["part"] == "test").sum() == 2


def test_random_follows_its_seed(truth: pd.DataFrame, chosen: SplitParams) -> None:
    first, again, other = (split(truth, truth["image"], chosen, seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_named_people_are_tested_on_and_nobody_else(
    truth: pd.DataFrame, chosen: SplitParams
) -> None:
    named = by_person(chosen, people=["person3", "person7"])
    parts = split(truth, truth["image"], named, seed=0)
    assert people_of(truth, parts, "test") == {"person3", "person7"}
    assert len(people_of(truth, parts, "train")) == 8


def test_folds_test_everybody_once_and_share_nobody(
    truth: pd.DataFrame, chosen: SplitParams
) -> None:
    tested: list[str] = []
    for fold in range(5):
        parts = split(truth, truth["image"], by_person(chosen, fold=fold), seed=0)
        test, train = (people_of(truth, parts, part) for part in ("test", "train"))
        assert not test & train
        assert len(test) == 2
        tested += test
    assert sorted(tested) == sorted(set(truth["subject"]))


def test_folds_follow_their_seed(truth: pd.DataFrame, chosen: SplitParams) -> None:
    folds = [
        people_of(truth, split(truth, truth["image"], by_person(chosen), seed), "test")
        for seed in range(6)
    ]
    assert len({frozenset(fold) for fold in folds}) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"people": ["nobody"]}, "no images of nobody; there are person0"),
        ({"people": [f"person{n}" for n in range(10)]}, "nobody is left"),
        ({"folds": 11}, "11 folds of 10 people"),
        ({"method": "random", "test_share": 0.001}, "leaves a part empty"),
        ({"method": "by_photograph", "test_share": 0.999}, "leaves a part empty"),
    ],
)
def test_a_split_without_two_sides_is_refused(
    truth: pd.DataFrame, chosen: SplitParams, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split(truth, truth["image"], by_person(chosen, **changes), seed=0)


# --- whole photographs


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


@pytest.fixture
def by_photograph(params: Params) -> SplitParams:
    changes = {"method": "by_photograph", "test_share": 0.2}
    return params.split.model_copy(update=changes)


def sides_of(parts: pd.DataFrame, groups: "pd.Series[str]") -> "pd.Series[int]":
    """On how many sides each group is."""
    return parts["part"].groupby(groups).nunique()


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


# --- folds of people


@pytest.fixture
def uneven() -> pd.DataFrame:
    """Ten people, of whom some have more images than others, in no order."""
    rng = np.random.default_rng(0)
    people = np.concatenate([np.arange(10), rng.choice(10, 190, p=np.arange(1, 11) / 55)])
    return pd.DataFrame({"subject": [f"person{number}" for number in rng.permutation(people)]})


@pytest.mark.parametrize("folds", [2, 3, 10])
def test_nobody_is_in_two_folds_and_everybody_in_one(uneven: pd.DataFrame, folds: int) -> None:
    found = folds_by_person(uneven, folds, seed=0)
    assert len(found) == folds
    people = [set(uneven["subject"].iloc[rows]) for rows in found]
    assert sum(len(some) for some in people) == 10
    assert set.union(*people) == set(uneven["subject"])
    # No fold is much larger than another, and no image is forgotten.
    assert {len(some) for some in people} <= {10 // folds, -(-10 // folds)}
    assert sorted(np.concatenate(found).tolist()) == list(range(len(uneven)))


def test_leave_one_out_has_one_person_a_fold(uneven: pd.DataFrame) -> None:
    found = folds_by_person(uneven, None, seed=0)
    people = [uneven["subject"].iloc[rows].unique().tolist() for rows in found]
    assert sorted(people) == [[f"person{number}"] for number in range(10)]
    assert sorted(np.concatenate(found).tolist()) == list(range(len(uneven)))


def test_of_two_people_each_can_be_left_out() -> None:
    found = folds_by_person(pd.DataFrame({"subject": ["a", "b", "a"]}), None, seed=0)
    assert [rows.tolist() for rows in found] == [[0, 2], [1]]


def test_who_is_tested_with_whom_is_up_to_the_seed(uneven: pd.DataFrame) -> None:
    def found(seed: int) -> list[list[int]]:
        return [rows.tolist() for rows in folds_by_person(uneven, 5, seed)]

    assert found(0) == found(0)
    assert found(0) != found(1)


def test_folds_are_numbers_of_rows_and_not_names(uneven: pd.DataFrame) -> None:
    odd = uneven.set_index(pd.Index(range(1000, 1000 + len(uneven))))
    assert [rows.tolist() for rows in folds_by_person(odd, 5, 0)] == (
        [rows.tolist() for rows in folds_by_person(uneven, 5, 0)]
    )


def test_more_folds_than_people_are_refused(uneven: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="11 folds of 10 people"):
        folds_by_person(uneven, 11, seed=0)


def test_one_person_alone_cannot_be_left_out() -> None:
    with pytest.raises(InputError):
        folds_by_person(pd.DataFrame({"subject": ["a", "a"]}), None, seed=0)
