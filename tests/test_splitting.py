import numpy as np
import pandas as pd
import pytest

from happymaps.errors import InputError
from happymaps.params import Params, SplitParams
from happymaps.splitting import split


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


def test_the_copies_of_a_photograph_stay_together(truth: pd.DataFrame, chosen: SplitParams) -> None:
    photographs = pd.Series([f"photo{number % 40}" for number in range(200)])
    wanted = chosen.model_copy(update={"method": "by_photograph", "test_share": 0.1})
    first, again, other = (
        set(photographs[split(truth, photographs, wanted, seed)["part"] == "test"])
        for seed in (0, 0, 1)
    )
    parts = split(truth, photographs, wanted, seed=0)["part"]
    assert not first & set(photographs[parts == "train"])
    assert len(first) == 4
    assert first == again != other
