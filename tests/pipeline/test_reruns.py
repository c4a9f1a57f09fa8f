"""What runs again after a change, and what experiments show of it: real DVC, in a repository."""

import json
import shutil
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from happymaps.calibration import rescaled_by_others
from happymaps.params import SplitMethod
from projects import NETWORKS, Project, each, read_json, stages_that_ran
from toys import ROOT

UP_TO_DATE = "Data and pipelines are up to date."


def test_a_change_of_how_decisions_are_explained_redraws_them_alone(project: Project) -> None:
    done = project.dvc("exp", "run", "-n", "examples", "-S", "explain.examples=2")
    assert stages_that_ran(done) == each("explain")
    done = project.dvc("exp", "run", "-n", "fine", "-S", "attributions.lime.superpixels=4")
    assert stages_that_ran(done) == each("audit", "explain")


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert UP_TO_DATE in project.dvc("repro")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"test__examples": 3}, each("test")),
        ({"happymaps__steps": 4}, each("happymaps")),
        (
            {"networks__four_class__dropout": 0.4},
            {"train@four_class", "augmentations", "compare"},
        ),
        ({"split__test_share": 0.2}, {"split"}),
        ({"extract__rate": 2.0}, {"extract"}),
        ({"crop__recordings": "stretch"}, {"crop", "heads", "cast"}),
        (
            {"networks__experiment0__epochs": 3},
            {"train@experiment0", "augmentations", "compare"},
        ),
        (
            {"networks__four_class__augment__shift": 0.3},
            {"train@four_class", "augmentations", "compare"},
        ),
        ({"leaks__runs": 3, "cross_validate__folds": 3}, set()),
    ],
)
def test_a_param_reruns_what_depends_on_it_and_nothing_else(
    project: Project, change: dict[str, object], expected: set[str]
) -> None:
    """What comes after is decided when it is known whether the stage's outputs have changed."""
    project.set_params(**change)
    status = json.loads(project.dvc("status", "--json"))
    changed = {
        stage
        for stage, reasons in status.items()
        if any("params.yaml" in reason.get("changed deps", {}) for reason in reasons)
    }
    assert changed == expected


def test_how_recordings_are_cropped_is_no_matter_of_training(project: Project) -> None:
    project.set_params(crop__recordings="stretch")
    ran = stages_that_ran(project.dvc("repro"))
    again = each("test", "happymaps", "feature_maps", "audit", "explain")
    # Heads are looked for in frames; the cast is drawn again, and comes out the same.
    assert ran == {"crop", "heads", "cast", "compare", *again}


def test_how_maps_are_drawn_is_no_matter_of_training(project: Project) -> None:
    done = project.dvc("exp", "run", "-n", "steps", "-S", "happymaps.steps=5")
    assert stages_that_ran(done) == {"compare", *each("happymaps")}
    diff = json.loads(project.dvc("metrics", "diff", "HEAD", "steps", "--json"))
    assert "dense_1.activation_ratio" in diff["metrics/happymaps/experiment0.json"]


def test_an_experiment_retrains_that_network_alone_and_the_diff_shows_it(
    project: Project,
) -> None:
    change = "networks.experiment0.filters=[2,3,3]"
    done = project.dvc("exp", "run", "-n", "half", "-S", change)
    assert stages_that_ran(done) == {
        "augmentations",
        "compare",
        *(
            f"{stage}@experiment0"
            for stage in (
                "train",
                "control",
                "test",
                "happymaps",
                "feature_maps",
                "audit",
                "explain",
            )
        ),
    }
    diff = json.loads(project.dvc("metrics", "diff", "HEAD", "half", "--json"))
    parameters = diff["metrics/train/experiment0.json"]["parameters"]
    assert parameters["new"] < parameters["old"]
    assert "metrics/train/four_class.json" not in diff
    shown = json.loads(project.dvc("exp", "show", "--json"))
    assert "half" in json.dumps(shown)
    sheets = project.dvc("plots", "diff", "HEAD", "half", "-o", "compared")
    assert "index.html" in sheets
    pictures = [file.name for file in (project.folder / "compared/static").iterdir()]
    for sheet in ("false_negatives", "dense_2", "filters", "decision_layer"):
        assert any("half" in name and sheet in name for name in pictures), sheet
    shutil.rmtree(project.folder / "compared")


def test_networks_are_tested_on_people_they_have_never_seen(project: Project) -> None:
    study = project.folder / "studies/people"
    study.mkdir(parents=True)
    shutil.copy(ROOT / "studies/people/dvc.yaml", study)
    project.set_params(cross_validate__folds=2, split__folds=2, leaks__runs=2)
    project.dvc("repro", "studies/people/dvc.yaml")
    for network in (*NETWORKS, "poses", "changed"):
        found = read_json(project.folder / f"metrics/cross_validate/{network}.json")
        answers = pd.read_csv(project.folder / f"data/cross_validated/{network}.csv")
        assert answers.groupby("subject")["fold"].nunique().eq(1).all()
        right = (answers["actual"] == answers["predicted"]).groupby(answers["fold"]).mean()
        assert found["accuracy"]["mean"] == pytest.approx(right.mean())
        assert found["accuracy"]["worst_person"] == pytest.approx(right.min())
        assert set(found["by"]) == {"eyes", "expression", "scale", "subject"}
        assert found["calibration"]["expected_error"] == pytest.approx(calibration_error(answers))
        assert set(found["recordings"]) == {"accuracy", "left_accuracy", "left_balanced_accuracy"}
        assert all(0 <= share <= 1 for share in found["recordings"].values())
    found = read_json(project.folder / "metrics/cross_validate/experiment0.json")
    answers = pd.read_csv(project.folder / "data/cross_validated/experiment0.csv")
    rescaled = calibration_error(answers.assign(confidence=as_by_other_folds(answers)))
    assert found["calibration"]["expected_error_rescaled"] == pytest.approx(rescaled)
    leaks = read_json(project.folder / "metrics/leaks.json")
    assert {len(leaks[split]["by_seed"]) for split in get_args(SplitMethod)} == {2}
    # What nobody has committed is gone before the next test.
    project.run("git", "clean", "-fdq")


def calibration_error(answers: pd.DataFrame) -> float:
    """In 15 bins of equal width (Guo et al. 2017)."""
    right = answers["actual"] == answers["predicted"]
    bins = (answers["confidence"] * 15).astype(int).clip(upper=14)
    gaps = (right - answers["confidence"]).groupby(bins).sum().abs()
    return float(gaps.sum() / len(answers))


def as_by_other_folds(answers: pd.DataFrame) -> NDArray[np.float64]:
    """Confidences in one of two answers, by the temperature that suits the other folds."""
    chances = answers["confidence"].to_numpy()
    logits = torch.from_numpy(np.log([chances, 1 - chances]).T)
    wrong = torch.tensor(answers["actual"] != answers["predicted"]).long()
    rescaled = rescaled_by_others(logits, wrong, answers["fold"].to_numpy())
    return rescaled.softmax(dim=1)[:, 0].numpy()


def test_an_experiment_in_a_folder_of_its_own_runs_that_folders_code(project: Project) -> None:
    """`--temp` copies the project: its stages must not run the code of the place it came from."""
    code = project.folder / "src/happymaps/stages/split.py"
    code.write_text(code.read_text().replace('"train": int', '"learnt_from": int'))
    project.dvc("exp", "run", "--temp", "-n", "edited", "split")
    diff = json.loads(project.dvc("metrics", "diff", "HEAD", "edited", "--json"))
    assert "learnt_from" in diff["metrics/split.json"]
    assert "train" in read_json(project.folder / "metrics/split.json")


def test_a_person_whom_nobody_has_labelled_is_counted_and_left_out(project: Project) -> None:
    (project.folder / "data/annotations/umo.csv").write_text("start,end,pose\n")
    project.dvc("repro", "test@four_class", "audit@four_class")
    assert read_json(project.folder / "metrics/label.json")["umo"]["unlabelled"] > 0
    assert read_json(project.folder / "metrics/audit/four_class.json")["diagnosis"]["umo"] == {}
    assert read_json(project.folder / "metrics/test/four_class.json")["umo"] == {"images": 0}
