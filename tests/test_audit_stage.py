"""Which images the stage `audit` explains."""

import numpy as np

from happymaps.stages.audit import in_turns


def test_kinds_take_turns_as_long_as_there_are_some() -> None:
    rows = np.array([9, 4, 7, 1, 8, 2, 5])
    kinds = np.array([0, 0, 0, 2, 0, 1, 2])
    assert in_turns(rows, kinds).tolist() == [9, 1, 2, 4, 5, 7, 8]
    assert in_turns(rows[:0], kinds[:0]).tolist() == []
