"""Test a network, or a step towards one, on everybody, each time trained without them."""

import shutil
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from happymaps.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
    rescaled_by_others,
)
from happymaps.cross_validation import OutOfFold, answer_out_of_fold
from happymaps.datasets import LabelledImages, load_faces, load_with_heads
from happymaps.errors import exit_on_error
from happymaps.evaluation import predictions, scores
from happymaps.files import write_csv, write_json
from happymaps.params import NetworkParams, Params
from happymaps.photographs import read_index
from happymaps.stages.layout import (
    CHECKPOINTS,
    CROSS_VALIDATED,
    INTERIM,
    METRICS,
    PLOTS,
    PROCESSED,
)
from happymaps.stages.sets import more_people

_RECORDED = ("accuracy", "left_accuracy", "left_balanced_accuracy")
_LOOKS = ["eyes", "expression", "scale", "subject"]


def main() -> None:
    """Write metrics, everybody's answers, and what is drawn of them."""
    name = sys.argv[1]
    params = Params.load()
    spec = _spec_of(name, params)
    views = load_with_heads(PROCESSED / "cmu_faces", spec.views)
    faces, _ = views[0]
    frames = load_faces(PROCESSED / "recordings", spec.crop)
    checkpoints = CHECKPOINTS / f"cross_validate_{name}"
    found = answer_out_of_fold(
        spec,
        views,
        params.train,
        params.cross_validate,
        params.seed,
        also=frames.images,
        more=more_people(spec),
        checkpoints=checkpoints,
    )
    table = predictions(spec, found.logits, faces).assign(fold=found.fold)
    index = read_index(INTERIM / "cmu_faces").set_index("image")
    table = table.join(index[["expression", "eyes", "scale"]], on="image")
    table["right"] = table["actual"] == table["predicted"]
    calibration, diagram = _calibration(spec, found, faces.labels(spec))
    figures = {
        **found.figures(spec, table),
        "recordings": _of_recordings(spec, found.also, frames),
        "by": {look: _means(table, look) for look in _LOOKS},
        "errors": _errors(table),
        **calibration,
    }
    write_json(METRICS / "cross_validate" / f"{name}.json", figures)
    write_csv(CROSS_VALIDATED / f"{name}.csv", table)
    folder = PLOTS / "cross_validate" / name
    write_csv(folder / "confusion.csv", table[["actual", "predicted"]])
    people = table.groupby("subject")["right"].mean().rename("accuracy").reset_index()
    write_csv(folder / "people.csv", people)
    write_csv(folder / "reliability.csv", diagram)
    shutil.rmtree(checkpoints, ignore_errors=True)


def _spec_of(name: str, params: Params) -> NetworkParams:
    """Of a step or a network; a step that is wrong is no matter of the networks."""
    is_step = name in {step.name for step in params.steps}
    return params.step_by_step()[name] if is_step else params.network(name)


def _of_recordings(
    spec: NetworkParams, answers: Sequence[Tensor], frames: LabelledImages
) -> dict[str, float]:
    """Means over the networks of the folds: none of them has seen anybody of the recordings."""
    if len(frames) == 0:
        return {}
    each = [scores(spec, logits, frames) for logits in answers]
    return {key: statistics.mean(one[key] for one in each) for key in _RECORDED}


def _calibration(
    spec: NetworkParams, found: OutOfFold, labels: Tensor
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Whether it is right as often as it says: figures and a diagram, none without the softmax."""
    if spec.head != "softmax":
        return {}, pd.DataFrame(columns=["confidences", "images", "confidence", "accuracy"])
    rescaled = rescaled_by_others(found.logits, labels, found.fold)
    tables = {
        "as trained": reliability(found.logits, labels),
        "rescaled": reliability(rescaled, labels),
    }
    figures = {
        "temperature": fit_temperature(found.logits, labels),
        # Not "error": DVC takes a figure of that name for a file that it cannot read.
        "expected_error": expected_calibration_error(tables["as trained"]),
        "expected_error_rescaled": expected_calibration_error(tables["rescaled"]),
    }
    diagram = pd.concat(tables, names=["confidences"]).reset_index("confidences")
    return {"calibration": figures}, diagram


def _means(table: pd.DataFrame, look: str) -> dict[str, float]:
    return {str(key): float(share) for key, share in table.groupby(look)["right"].mean().items()}


def _errors(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Per person who was not always answered rightly, how often what was taken for what."""
    wrong = table[~table["right"]]
    kinds = wrong["actual"] + " as " + wrong["predicted"]
    return {
        str(person): {str(kind): int(times) for kind, times in found.value_counts().items()}
        for person, found in kinds.groupby(wrong["subject"])
    }


if __name__ == "__main__":
    exit_on_error(main)
