"""Which images the stages `test` and `feature_maps` show."""

import numpy as np
import pandas as pd
import pytest

from happymaps.params import Params
from happymaps.stages import feature_maps, test
from toys import toy_faces

POSES = ["left", "left", "up", "up"]


@pytest.mark.parametrize(
    ("error", "said_left", "number"), [("false positives", True, 2), ("false negatives", False, 1)]
)
def test_a_sheet_of_errors_shows_errors(
    params: Params, error: str, said_left: bool, number: int
) -> None:
    faces = toy_faces(4)
    scores = [0.9, 0.2, 0.8, 0.1]
    table = pd.DataFrame(
        {"pose": POSES, "said_left": [score > 0.5 for score in scores], "left_score": scores}
    )
    row = test._examples("me", error, said_left, faces, table, params)
    assert row.title == "me: all 1"
    (shown,), (caption,) = row.images, row.captions
    assert np.array_equal(shown, faces.images[number, 0].numpy())
    assert caption == f"{POSES[number]}; left: {scores[number]:.2f}"


def test_feature_maps_are_of_one_right_answer_of_each_kind_and_an_error() -> None:
    table = pd.DataFrame(
        {"actual": ["left", "left", "not left", "not left"],
         "predicted": ["left", "not left", "left", "not left"], "pose": POSES},
    )  # fmt: skip
    kinds = feature_maps._kinds(table)
    assert {kind: np.flatnonzero(chosen).tolist() for kind, chosen in kinds.items()} == {
        "correct left": [0],
        "correct not left": [3],
        "error": [1, 2],
    }
    kinds = feature_maps._kinds(table.drop(columns="pose"))
    assert {kind: np.flatnonzero(chosen).tolist() for kind, chosen in kinds.items()} == {
        "correct": [0, 3],
        "error": [1, 2],
    }
