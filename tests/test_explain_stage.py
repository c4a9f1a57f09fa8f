import numpy as np
import pandas as pd

from happymaps.evaluation import some_of
from happymaps.stages.explain import _choose, _kinds


def is_left(names: list[str]) -> list[bool]:
    return [name == "left" for name in names]


def table(**columns: list[str] | list[bool]) -> pd.DataFrame:
    count = len(columns["actual"])
    names = [f"{number}.png" for number in range(count)]
    return pd.DataFrame({"image": names, "confidence": np.linspace(0.5, 1, count), **columns})


def test_every_answer_is_of_one_kind_and_a_wrong_pose_is_no_true_negative() -> None:
    pose = ["left", "left", "up", "up", "straight", "right"]
    said = ["left", "up", "left", "straight", "straight", "up"]
    kinds = _kinds(table(actual=pose, predicted=said, pose=pose, said_left=is_left(said)))
    assert {kind: np.flatnonzero(chosen).tolist() for kind, chosen in kinds.items()} == {
        "true positive": [0],
        "true negative": [4],
        "false positive": [2],
        "false negative": [1],
        "wrong pose": [3, 5],
    }


def test_left_or_not_is_what_the_test_counts_and_not_the_likeliest_pose() -> None:
    pose, said = ["left", "up", "straight"], ["left", "left", "straight"]
    doubtful = [False, False, False]
    kinds = _kinds(table(actual=pose, predicted=said, pose=pose, said_left=doubtful))
    assert {kind: np.flatnonzero(chosen).tolist() for kind, chosen in kinds.items()} == {
        "true positive": [],
        "true negative": [2],
        "false positive": [],
        "false negative": [0],
        "wrong pose": [1],
    }


def test_a_network_of_two_answers_knows_no_wrong_pose() -> None:
    pose = ["left", "up", "straight"]
    actual = ["left", "not left", "not left"]
    said = ["not left", "left", "not left"]
    kinds = _kinds(table(actual=actual, predicted=said, pose=pose, said_left=is_left(said)))
    assert "wrong pose" not in kinds
    assert np.flatnonzero(kinds["true negative"]).tolist() == [2]


def test_of_wrong_poses_the_most_confident_is_shown_too() -> None:
    pose = ["straight"] * 8
    said = ["up"] * 6 + ["straight"] * 2
    answers = table(actual=pose, predicted=said, pose=pose, said_left=is_left(said))
    chosen = dict(_choose("me", answers, 1, seed=0))
    wrong = {title: row for title, row in chosen.items() if title.startswith("wrong pose")}
    assert len(wrong) == 2
    (surest,) = [row for title, row in wrong.items() if "most confident" in title]
    assert surest == max({5, 4} - {row for row in wrong.values() if row != surest})
    assert chosen["false negative: none among 8 images"] is None
    everything = [row for _, row in _choose("me", answers, 6, seed=0)]
    assert everything.count(5) == 1  # not again among the most confident


def test_a_choice_is_the_seeds_and_the_names() -> None:
    rows = list(range(0, 200, 2))
    one = some_of(rows, 10, 0, "me false positives")
    assert one == sorted(set(one) & set(rows))
    assert len(one) == 10
    assert some_of(rows, 10, 0, "me false positives") == one
    assert some_of(rows, 10, 1, "me false positives") != one
    assert some_of(rows, 10, 0, "you false positives") != one
    assert some_of([4, 2], 10, 0, "few") == [2, 4]
    assert some_of([], 10, 0, "none") == []
