"""From `experiment0` to the generalist: what each step does to people never seen."""

import statistics
from typing import Any

import pandas as pd

from happymaps.cross_validation import Everybody, answer_everybody
from happymaps.datasets import Faces, load_faces, load_with_heads
from happymaps.errors import exit_on_error
from happymaps.evaluation import predictions, scores
from happymaps.files import replacing, write_json
from happymaps.params import NetworkParams, Params
from happymaps.stages.layout import HEADS, METRICS, PLOTS, PROCESSED

_RECORDED = ("accuracy", "left_accuracy", "left_balanced_accuracy")


def main() -> None:
    """Write metrics/steps.json; plots/steps.csv has the accuracy of "left or not"."""
    params = Params.load()
    metrics: dict[str, dict[str, Any]] = {}
    for name, spec in params.step_by_step().items():
        views = load_with_heads(PROCESSED / "cmu_faces", HEADS, spec.views)
        frames = load_faces(PROCESSED / "recordings", spec.crop)
        found = answer_everybody(
            spec, views, params.train, params.cross_validate, params.seed, frames.images
        )
        folds = found.figures(predictions(spec, found.logits, views[0][0]))
        metrics[name] = {"folds": folds, "recordings": _of_recordings(spec, found, frames)}
    write_json(METRICS / "steps.json", metrics)
    rows = [
        (name, found["folds"]["left_accuracy"]["mean"], found["recordings"]["left_accuracy"])
        for name, found in metrics.items()
    ]
    with replacing(PLOTS / "steps.csv") as draft:
        pd.DataFrame(rows, columns=["step", "folds", "recordings"]).to_csv(draft, index=False)


def _of_recordings(spec: NetworkParams, found: Everybody, frames: Faces) -> dict[str, float]:
    """Means over the networks of the folds: none of them has seen anybody of the recordings."""
    each = [
        scores(spec, logits, frames, predictions(spec, logits, frames)) for logits in found.also
    ]
    return {key: statistics.mean(one[key] for one in each) for key in _RECORDED}


if __name__ == "__main__":
    exit_on_error(main)
