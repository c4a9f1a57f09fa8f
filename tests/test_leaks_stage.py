"""Whom the stage `leaks` tests on."""

import numpy as np
import pandas as pd
import pytest

from happymaps.params import Params
from happymaps.stages.leaks import rows_tested

PEOPLE = 7


def chosen_rows(params: Params, method: str, runs: int) -> tuple[pd.DataFrame, list[list[int]]]:
    """Two photographs of everybody in two sizes each, and what every run tests on."""
    names = np.repeat([f"person{number}" for number in range(PEOPLE)], 4)
    truth = pd.DataFrame({"image": [f"{row:02d}" for row in range(len(names))], "subject": names})
    photographs = pd.Series([str(row // 2) for row in range(len(names))])
    split = params.split.model_copy(update={"folds": 3, "test_share": 0.2})
    leaks = params.leaks.model_copy(update={"runs": runs})
    chosen = params.model_copy(update={"split": split, "leaks": leaks})
    rows = rows_tested(method, truth, photographs, chosen)  # type: ignore[arg-type]
    return truth, [sorted(one.tolist()) for one in rows]


def test_by_person_everybody_is_tested_once_before_anybody_is_again(params: Params) -> None:
    truth, runs = chosen_rows(params, "by_person", runs=6)
    for round_ in (runs[:3], runs[3:]):
        assert sorted(row for rows in round_ for row in rows) == list(range(len(truth)))
    assert sorted(runs[:3]) != sorted(runs[3:])


@pytest.mark.parametrize("method", ["random", "by_photograph"])
def test_other_runs_test_on_other_images(params: Params, method: str) -> None:
    _, runs = chosen_rows(params, method, runs=4)
    assert len({tuple(rows) for rows in runs}) == 4
