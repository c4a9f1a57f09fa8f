"""Test one network on the test part of the faces and on each recorded person."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from happymaps.answering import answer
from happymaps.datasets import LabelledImages, joined
from happymaps.devices import best_device, configure_torch
from happymaps.errors import exit_on_error
from happymaps.evaluation import left_roc, predictions, says_left, scores, some_of
from happymaps.figures import Row, draw_sheet
from happymaps.files import write_csv, write_json
from happymaps.networks import load_network
from happymaps.params import NetworkParams, Params
from happymaps.stages.layout import METRICS, MODELS, PLOTS, PREDICTIONS
from happymaps.stages.sets import tests


def main() -> None:
    """Write metrics, predictions, confusion and ROC data, and sheets of errors."""
    name = sys.argv[1]
    params = Params.load()
    configure_torch(params.threads)
    network = load_network(MODELS / f"{name}.safetensors").network.to(best_device())
    metrics: dict[str, dict[str, Any]] = {}
    answered, tables = {}, {}
    sets = tests(params, network.spec)
    for set_name, faces in sets.items():
        answered[set_name] = answer(network, faces.images)
        tables[set_name] = predictions(network.spec, answered[set_name], faces)
        metrics[set_name] = scores(network.spec, answered[set_name], faces)
    metrics["recordings"] = _pooled(network.spec, answered, sets, tables, params.subjects)
    write_json(METRICS / "test" / f"{name}.json", metrics)
    table = pd.concat(tables, names=["set"]).reset_index("set")
    write_csv(PREDICTIONS / f"{name}.csv", table)
    is_cmu = table["set"] == "cmu_test"
    _write_plot_data(PLOTS / "test" / name, "cmu_test", table[is_cmu])
    _write_plot_data(PLOTS / "test" / name, "recordings", table[~is_cmu])
    # For the sheets alone: whoever reads the predictions has the outputs.
    for set_name, logits in answered.items():
        tables[set_name]["said_left"] = says_left(network.spec, logits)
    for error, wrong_answer in (("false positives", True), ("false negatives", False)):
        rows = [
            _examples(set_name, error, wrong_answer, sets[set_name], tables[set_name], params)
            for set_name in sets
        ]
        path = PLOTS / "test" / name / f"{error.replace(' ', '_')}.png"
        title = f"{name}: {error} (above each image: its truth; the network's output for left)"
        draw_sheet(path, title, rows, params.test.examples)


def _pooled(
    spec: NetworkParams,
    answered: dict[str, Tensor],
    sets: dict[str, LabelledImages],
    tables: dict[str, pd.DataFrame],
    subjects: list[str],
) -> dict[str, Any]:
    """The figures of all recorded people together, and the accuracy on the worst of them."""
    there = [subject for subject in subjects if len(sets[subject])]
    if not there:
        return {"images": 0}
    faces = joined([sets[subject] for subject in there])
    logits = torch.cat([answered[subject] for subject in there])
    table = pd.concat([tables[subject] for subject in there], ignore_index=True)
    right = (table["actual"] == table["predicted"]).groupby(table["subject"]).mean()
    return {**scores(spec, logits, faces), "worst_person": float(right.min())}


def _write_plot_data(folder: Path, group: str, table: pd.DataFrame) -> None:
    write_csv(folder / f"confusion_{group}.csv", table[["actual", "predicted"]])
    write_csv(folder / f"roc_{group}.csv", left_roc(table))


def _examples(
    set_name: str,
    error: str,
    wrong_answer: bool,
    faces: LabelledImages,
    table: pd.DataFrame,
    params: Params,
) -> Row:
    """A seeded choice among the images wrongly called "left" (or wrongly not)."""
    is_left = table["pose"] == "left"
    rows = np.flatnonzero((table["said_left"] == wrong_answer) & (is_left != wrong_answer)).tolist()
    chosen = some_of(rows, params.test.examples, params.seed, f"{set_name} {error}")
    if len(rows) == 0:
        title = f"{set_name}: none among {len(table)} images"
    elif len(chosen) < len(rows):
        title = f"{set_name}: {len(chosen)} of {len(rows)}, chosen at random"
    else:
        title = f"{set_name}: all {len(rows)}"
    return Row(
        title,
        [faces.images[row, 0].numpy() for row in chosen],
        [f"{table['pose'][row]}; left: {table['left_score'][row]:.2f}" for row in chosen],
    )


if __name__ == "__main__":
    exit_on_error(main)
