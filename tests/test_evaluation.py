import json

import pandas as pd
import pytest
import torch

from happymaps.answering import logits_of
from happymaps.datasets import LabelledImages
from happymaps.evaluation import (
    answers,
    left_roc,
    object_scores,
    predictions,
    says_left,
    scores,
)
from happymaps.networks import build_network
from happymaps.params import OBJECTS, NetworkParams
from toys import toy_faces, toy_objects


def faces_with(poses: list[str]) -> LabelledImages:
    faces = toy_faces(len(poses))
    truth = faces.truth.assign(pose=poses, left=[int(pose == "left") for pose in poses])
    return LabelledImages(faces.images, truth)


def logits_for(spec: NetworkParams, said: list[str], sure: float = 4.0) -> torch.Tensor:
    rows = [[sure if name == answer else 0.0 for name in spec.classes] for answer in said]
    return torch.tensor(rows)


def test_left_or_not_by_hand(spec: NetworkParams) -> None:
    faces = faces_with(["left", "left", "left", "up", "right", "straight", "straight", "straight"])
    said = ["left", "left", "not left", "left"] + ["not left"] * 4
    found = scores(spec, logits_for(spec, said), faces)
    probability = torch.tensor([4.0, 0.0]).softmax(0)[0].item()
    loss = -(
        6 * torch.log(torch.tensor(probability)) + 2 * torch.log(torch.tensor(1 - probability))
    )
    assert found == {
        "images": 8,
        "left": 3,
        "loss": pytest.approx(loss.item() / 8, rel=1e-5),
        "accuracy": 6 / 8,
        "balanced_accuracy": pytest.approx((2 / 3 + 4 / 5) / 2),
        "left_accuracy": 6 / 8,
        "left_balanced_accuracy": pytest.approx((2 / 3 + 4 / 5) / 2),
        "always_not_left": 5 / 8,
        "true_positives": 2,
        "true_negatives": 4,
        "false_positives": 1,
        "false_negatives": 1,
    }


def test_four_poses_are_judged_as_four_and_as_left_or_not(spec: NetworkParams) -> None:
    spec = spec.model_copy(update={"target": "pose"})
    faces = faces_with(["left", "left", "up", "right", "straight"])
    said = ["left", "up", "straight", "left", "straight"]
    found = scores(spec, logits_for(spec, said), faces)
    assert found["accuracy"] == 2 / 5
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 0 + 0 + 1) / 4)
    assert found["left_balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["left_accuracy"] == 3 / 5  # "straight" for "up" is right about "not left"
    assert (found["false_positives"], found["false_negatives"]) == (1, 1)


def test_of_four_poses_left_has_to_be_likelier_than_all_others_together(
    spec: NetworkParams,
) -> None:
    spec = spec.model_copy(update={"target": "pose"})
    logits = torch.tensor([[0.0, 0.5, 0.0, 0.0], [0.0, 1.5, 0.0, 0.0]])  # 0.35 and 0.60 of "left"
    faces = faces_with(["up", "left"])
    table = predictions(spec, logits, faces)
    assert table["predicted"].tolist() == ["left", "left"]
    assert says_left(spec, logits).tolist() == [False, True]
    found = scores(spec, logits, faces)
    assert found["accuracy"] == 1 / 2
    assert found["left_accuracy"] == 1
    assert found["false_positives"] == 0
    # Outputs of a linear head are no shares of a whole: there the largest decides.
    linear = spec.model_copy(update={"head": "linear", "loss": "mean_squared_error"})
    assert says_left(linear, logits).tolist() == [True, True]


def test_objects_are_judged_class_by_class(spec: NetworkParams) -> None:
    spec = spec.model_copy(update={"target": "object"})
    given = toy_objects(12)  # each of the ten once, and the first two again
    said = [*OBJECTS, "truck", "automobile"]
    said[3] = "dog"
    logits = logits_for(spec, said)
    table = predictions(spec, logits, given)
    assert list(table.columns) == ["image", "actual", "predicted", "confidence"]
    found = object_scores(spec, logits, given, table)
    assert found["images"] == 12
    assert found["accuracy"] == pytest.approx(10 / 12)
    expected = dict.fromkeys(OBJECTS, 1.0) | {"cat": 0.0, "airplane": 0.5}
    assert found["by_class"] == expected
    right = torch.tensor([4.0] + [0.0] * 9).softmax(0)
    loss = -(10 * right[0].log() + 2 * right[1].log()) / 12
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("target", ["left", "pose"])
@pytest.mark.filterwarnings("error")
def test_a_person_who_never_turns_left(spec: NetworkParams, target: str) -> None:
    spec = spec.model_copy(update={"target": target})
    faces = faces_with(["straight"] * 4)
    said = ["left", *[spec.classes[0]] * 3]
    found = scores(spec, logits_for(spec, said), faces)
    assert found["balanced_accuracy"] == found["accuracy"] == 3 / 4
    assert found["always_not_left"] == 1
    assert (found["false_positives"], found["false_negatives"]) == (1, 0)


@pytest.mark.parametrize("target", ["left", "pose"])
def test_no_labelled_image_gives_no_figure(spec: NetworkParams, target: str) -> None:
    spec = spec.model_copy(update={"target": target})
    faces = faces_with([])
    logits = logits_of(build_network(spec, 32, seed=0), faces.images)
    assert logits.shape == (0, len(spec.classes))
    assert scores(spec, logits, faces) == {"images": 0}
    assert predictions(spec, logits, faces).empty


def test_figures_can_be_written_as_json(spec: NetworkParams) -> None:
    faces = faces_with(["left", "up"])
    found = scores(spec, logits_for(spec, ["left", "left"], sure=1e4), faces)
    json.dumps(found, allow_nan=False)


def test_predictions_say_truth_answer_and_score(spec: NetworkParams) -> None:
    faces = faces_with(["left", "up"])
    table = predictions(spec, logits_for(spec, ["not left", "not left"], sure=2.0), faces)
    sure = torch.tensor([2.0, 0.0]).softmax(0)[0].item()
    assert table["actual"].tolist() == ["left", "not left"]
    assert table["predicted"].tolist() == ["not left", "not left"]
    assert table["confidence"].tolist() == pytest.approx([sure, sure])
    assert table["left_score"].tolist() == pytest.approx([1 - sure, 1 - sure])


def test_a_linear_head_may_overshoot_but_its_confidence_does_not(spec: NetworkParams) -> None:
    linear = spec.model_copy(update={"head": "linear", "loss": "mean_squared_error"})
    logits = torch.tensor([[1.3, -0.2], [-0.4, -0.1], [0.2, 0.6]])
    assert answers(linear, logits) == (
        ["not left", "left", "left"],
        [1.0, 0.0, pytest.approx(0.6)],
    )


def test_roc_by_hand() -> None:
    table = pd.DataFrame(
        {"pose": ["left", "up", "left", "right"], "left_score": [0.9, 0.8, 0.7, 0.1]}
    )
    curve = left_roc(table)
    assert curve["tpr"].tolist() == [0, 0.5, 0.5, 1, 1]
    assert curve["fpr"].tolist() == [0, 0, 0.5, 0.5, 1]


@pytest.mark.parametrize("poses", [["up", "right"], ["left", "left"], []])
def test_without_both_kinds_there_is_no_roc(poses: list[str]) -> None:
    assert left_roc(pd.DataFrame({"pose": poses, "left_score": [0.5] * len(poses)})).empty


def test_left_turns_are_counted_by_the_truth(spec: NetworkParams) -> None:
    faces = faces_with(["left", "up", "up"])
    assert scores(spec, logits_for(spec, ["not left", "left", "left"]), faces)["left"] == 1


def test_who_cannot_decide_does_not_say_left(spec: NetworkParams) -> None:
    assert says_left(spec, torch.zeros(1, 2)).tolist() == [False]
