"""How much of a network's accuracy is memory of a person: the same training under three splits."""

import shutil
import statistics
import sys
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pandas as pd

from happymaps.cross_validation import Training, answer_all
from happymaps.datasets import load_with_heads
from happymaps.errors import exit_on_error
from happymaps.files import write_csv, write_json
from happymaps.params import Params, SplitMethod
from happymaps.photographs import photographs_of, read_index
from happymaps.splitting import Rows, split
from happymaps.stages.layout import CHECKPOINTS, INTERIM, METRICS, PLOTS, PROCESSED
from happymaps.stages.sets import more_people

PUBLISHED_ACCURACY = 0.9947  # of one run, on a random split


def main() -> None:
    """Write metrics/leaks.json: test accuracies from several seeds, and their spread."""
    name = sys.argv[1]
    params = Params.load()
    spec = params.network(name)
    views = load_with_heads(PROCESSED / "cmu_faces", spec.views)
    faces, _ = views[0]
    index = read_index(INTERIM / "cmu_faces")
    photographs = photographs_of(index)
    keys, trainings = [], []
    for method in get_args(SplitMethod):
        for run, test in enumerate(rows_tested(method, faces.truth, photographs, params)):
            keys.append((method, params.seed + run))
            trainings.append(Training(spec, test, params.seed + run))
    checkpoints = CHECKPOINTS / "leaks"
    answers = answer_all(
        trainings,
        views,
        params.train,
        params.cross_validate,
        more=more_people(spec),
        checkpoints=checkpoints,
    )
    labels = faces.labels(spec)
    rows = [
        (*key, (logits.argmax(dim=1) == labels[training.test]).double().mean().item())
        for key, training, (logits, _) in zip(keys, trainings, answers, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["split", "seed", "accuracy"])
    write_csv(PLOTS / "leaks.csv", table)
    figures = {
        str(method): {
            "mean": statistics.mean(runs["accuracy"]),
            "std": statistics.stdev(runs["accuracy"]),
            "by_seed": dict(zip(runs["seed"].astype(str), runs["accuracy"], strict=True)),
        }
        for method, runs in table.groupby("split", sort=False)
    }
    published = {"published_random": PUBLISHED_ACCURACY}
    write_json(METRICS / "leaks.json", {"network": name, **published, **figures})
    shutil.rmtree(checkpoints, ignore_errors=True)


def rows_tested(
    method: SplitMethod, truth: pd.DataFrame, photographs: "pd.Series[str]", params: Params
) -> Iterator[Rows]:
    """Numbers of the images that each of the runs tests on, for one way to split.

    By person everybody is tested once before anybody is again.
    """
    folds = params.split.folds
    for run in range(params.leaks.runs):
        changes: dict[str, object] = {"method": method, "people": [], "fold": run % folds}
        chosen = params.split.model_copy(update=changes)
        dealt = run // folds if method == "by_person" else run
        parts = split(truth, photographs, chosen, params.seed + dealt)
        yield np.flatnonzero(parts["part"] == "test")


if __name__ == "__main__":
    exit_on_error(main)
