"""Which images train a network and which test it."""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    LeaveOneGroupOut,
    train_test_split,
)

from happymaps.errors import InputError
from happymaps.params import SplitParams

Rows = NDArray[np.intp]


def split(
    truth: pd.DataFrame, photographs: "pd.Series[str]", params: SplitParams, seed: int
) -> pd.DataFrame:
    """Give every image the part `train` or `test`.

    `random` is the published way: single images, so the same photo at another scale and the same
    person stand on both sides. `by_photograph` keeps the scales of a photo together. `by_person`
    tests on people that training has never seen: the named `people`, or, where none are named,
    fold number `fold` of `folds`.

    Args:
        truth: columns `image` and `subject`.
        photographs: which photo each image is a copy of.
        params: the method and what it needs.
        seed: of the random choice.

    Returns:
        Columns `image,part`, in the order of `truth`.

    Raises:
        InputError: unknown or all people named, more folds than people, or a part left empty.
    """
    if params.method == "random":
        test_rows = _random_rows(len(truth), params.test_share, seed)
    elif params.method == "by_photograph":
        test_rows = _rows_of_photographs(photographs, params.test_share, seed)
    elif params.people:
        test_rows = _rows_of_people(truth, params.people)
    else:
        test_rows = folds_by_person(truth, params.folds, seed)[params.fold]
    part = np.full(len(truth), "train")
    part[test_rows] = "test"
    return pd.DataFrame({"image": truth["image"], "part": part})


def _random_rows(images: int, share: float, seed: int) -> Rows:
    wanted = round(images * share)
    if not 0 < wanted < images:
        raise InputError(f"split.test_share {share:g} of {images} images leaves a part empty")
    _, test = train_test_split(np.arange(images), test_size=wanted, random_state=seed)
    return np.asarray(test)


def _rows_of_photographs(photographs: "pd.Series[str]", share: float, seed: int) -> Rows:
    count = photographs.nunique()
    if not 0 < math.ceil(count * share) < count:
        raise InputError(f"split.test_share {share:g} of {count} photographs leaves a part empty")
    splitter = GroupShuffleSplit(1, test_size=share, random_state=seed)
    ((_, test),) = splitter.split(photographs, groups=photographs)
    return np.asarray(test)


def _rows_of_people(truth: pd.DataFrame, people: list[str]) -> Rows:
    known = set(truth["subject"])
    unknown = sorted(set(people) - known)
    if unknown:
        raise InputError(
            f"split.people: no images of {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    if known <= set(people):
        raise InputError("split.people: names everybody, so nobody is left to train on")
    return np.flatnonzero(truth["subject"].isin(people))


def folds_by_person(truth: pd.DataFrame, folds: int | None, seed: int) -> list[Rows]:
    """Numbers of the images of each fold: nobody is in two of them, and everybody is in one.

    Args:
        truth: column `subject`.
        folds: how many; None for one a person.
        seed: of who comes into which.

    Raises:
        InputError: more folds than people.
    """
    people = truth["subject"].nunique()
    if people < (folds or 2):
        raise InputError(f"{folds or 'as many'} folds of {people} people leave a fold empty")
    splitter = (
        LeaveOneGroupOut() if folds is None else GroupKFold(folds, shuffle=True, random_state=seed)
    )
    return [np.asarray(test) for _, test in splitter.split(truth, groups=truth["subject"])]
