"""Explain single decisions of one network, right ones and wrong ones."""

import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from happymaps.answering import logits_of
from happymaps.devices import best_device, configure_torch
from happymaps.errors import exit_on_error
from happymaps.evaluation import predictions, says_left, some_of
from happymaps.explanation import draw_explanations, explain, read_failures
from happymaps.files import replacing_folder
from happymaps.networks import load_network
from happymaps.params import load_study
from happymaps.stages.layout import METRICS, MODELS, PLOTS
from happymaps.stages.sets import tests
from happymaps.understanding.attributions import with_controls


def main() -> None:
    """Draw a sheet a test set: an image a row, with every method's map, and what failed marked."""
    name = sys.argv[1]
    params = load_study()
    configure_torch(params.threads)
    network = load_network(MODELS / f"{name}.safetensors").network.to(best_device())
    methods = with_controls(params.attributions.methods)
    failures = read_failures(METRICS / "audit" / f"{name}.json", methods)
    sets = tests(params, network.spec)
    with replacing_folder(PLOTS / "explain" / name) as folder:
        for set_name, faces in tqdm(sets.items(), unit="set", desc="explaining"):
            logits = logits_of(network, faces.images)
            table = predictions(network.spec, logits, faces)
            if faces.are_faces:
                table["said_left"] = says_left(network.spec, logits)
            chosen = list(_choose(set_name, table, params.explain.examples, params.seed))
            rows = torch.tensor([row for _, row in chosen if row is not None], dtype=torch.int64)
            explained = iter(explain(network, faces.images[rows], params.attributions, params.seed))
            draw_explanations(
                folder / f"{set_name}.png",
                f"{name}, {set_name}",
                [(title, None if row is None else next(explained)) for title, row in chosen],
                failures,
            )


def _choose(
    set_name: str, table: pd.DataFrame, examples: int, seed: int
) -> Iterator[tuple[str, int | None]]:
    """Titles and row numbers: a seeded choice of each kind, and the most confident errors."""
    for kind, chosen in _kinds(table).items():
        rows = np.flatnonzero(chosen).tolist()
        if len(rows) == 0:
            yield f"{kind}: none among {len(table)} images", None
            continue
        shown = some_of(rows, examples, seed, f"{set_name} {kind}")
        for row in shown:
            yield _title(kind, table, row), row
        if kind.startswith(("false", "wrong")):
            surest = table["confidence"].iloc[rows].sort_values(ascending=False, kind="stable")
            for row in surest.index.drop(shown)[:examples]:
                yield _title(f"{kind}, among the most confident", table, row), int(row)


def _kinds(table: pd.DataFrame) -> "dict[str, pd.Series[bool]]":
    if "pose" not in table:
        right = table["actual"] == table["predicted"]
        return {"right": right, "wrong": ~right}
    left, said_left = table["pose"] == "left", table["said_left"]
    right = table["actual"] == table["predicted"]
    wrong_pose = ~left & ~said_left & ~right
    return {
        "true positive": left & said_left,
        "true negative": ~left & ~said_left & right,
        "false positive": ~left & said_left,
        "false negative": left & ~said_left,
        **({"wrong pose": wrong_pose} if wrong_pose.any() else {}),
    }


def _title(kind: str, table: pd.DataFrame, row: int) -> str:
    truth = table["pose" if "pose" in table else "actual"][row]
    return f"{kind}: {table['image'][row]}, whose truth is {truth}"


if __name__ == "__main__":
    exit_on_error(main)
