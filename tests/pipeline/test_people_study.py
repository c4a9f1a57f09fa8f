"""The study of people never seen, on two of the drawn cast: real DVC, in a repository."""

import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from happymaps.calibration import rescaled_by_others
from happymaps.params import SplitMethod
from projects import NETWORKS, Project, read_json, unlisted
from toys import ROOT


def test_networks_are_tested_on_people_they_have_never_seen(
    changeable: Project, tmp_path: Path
) -> None:
    study = changeable.folder / "studies/people"
    study.mkdir(parents=True)
    shutil.copy(ROOT / "studies/people/dvc.yaml", study)
    changeable.set_params(cross_validate__folds=2, split__folds=2, leaks__runs=2)
    for network in NETWORKS:  # not so sure that confidences are rounded to 1
        brief = {"epochs": 2, "learning_rate": 0.01}
        changeable.set_params(**{f"networks__{network}__{key}": brief[key] for key in brief})
    opened = changeable.folder.parent / "opened"
    opened.mkdir()
    changeable.dvc("repro", "studies/people/dvc.yaml")
    assert not unlisted(study / "dvc.lock", opened.rename(tmp_path / "read"))
    for network in (*NETWORKS, "poses", "changed"):
        found = read_json(changeable.folder / f"metrics/cross_validate/{network}.json")
        answers = pd.read_csv(changeable.folder / f"data/cross_validated/{network}.csv")
        assert answers.groupby("subject")["fold"].nunique().eq(1).all()
        right = answers["actual"] == answers["predicted"]
        of_folds, of_people = (right.groupby(answers[by]).mean() for by in ("fold", "subject"))
        assert found["accuracy"]["mean"] == pytest.approx(of_folds.mean())
        assert found["accuracy"]["worst_person"] == pytest.approx(of_people.min())
        assert set(found["by"]) == {"eyes", "expression", "scale", "subject"}
        assert found["by"]["subject"] == pytest.approx(of_people.to_dict())
        plots = changeable.folder / "plots/cross_validate" / network
        people = pd.read_csv(plots / "people.csv", index_col="subject")["accuracy"]
        assert people.to_dict() == pytest.approx(of_people.to_dict())
        confusion = pd.read_csv(plots / "confusion.csv")
        assert confusion.equals(answers[["actual", "predicted"]])
        assert found["calibration"]["expected_error"] == pytest.approx(calibration_error(answers))
        assert set(found["recordings"]) == {"accuracy", "left_accuracy", "left_balanced_accuracy"}
        assert all(0 <= share <= 1 for share in found["recordings"].values())
    found = read_json(changeable.folder / "metrics/cross_validate/experiment0.json")
    answers = pd.read_csv(changeable.folder / "data/cross_validated/experiment0.csv")
    rescaled = calibration_error(answers.assign(confidence=as_by_other_folds(answers)))
    assert found["calibration"]["expected_error_rescaled"] == pytest.approx(rescaled)
    leaks = read_json(changeable.folder / "metrics/leaks.json")
    assert {len(leaks[split]["by_seed"]) for split in get_args(SplitMethod)} == {2}


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
