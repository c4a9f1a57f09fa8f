"""Explain single decisions of one network, right ones and wrong ones."""

import sys
import zlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from happymaps.datasets import load_test_sets
from happymaps.errors import exit_on_error
from happymaps.evaluation import predictions
from happymaps.explanation import draw_explanations, explain, read_failures
from happymaps.files import replacing_folder
from happymaps.networks import load_network
from happymaps.params import Params
from happymaps.stages.layout import METRICS, MODELS, PLOTS, PROCESSED, SPLIT
from happymaps.training import best_device, configure_torch, logits_of
from happymaps.understanding.attributions import with_controls


def main() -> None:
    """Draw a sheet a test set: an image a row, with every method's map, and what failed marked."""
    name = sys.argv[1]
    params = Params.load()
    configure_torch(params.threads)
    network = load_network(MODELS / f"{name}.safetensors").network.to(best_device())
    methods = with_controls(params.attributions.methods)
    failures = read_failures(METRICS / "audit" / f"{name}.json", methods)
    sets = load_test_sets(PROCESSED, SPLIT, params.subjects, network.spec.crop)
    with replacing_folder(PLOTS / "explain" / name) as folder:
        for set_name, faces in tqdm(sets.items(), unit="set", desc="explaining"):
            table = predictions(network.spec, logits_of(network, faces.images), faces)
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
    left, said_left = (table[column] == "left" for column in ("pose", "predicted"))
    kinds = {
        "true positive": left & said_left,
        "true negative": ~left & ~said_left,
        "false positive": ~left & said_left,
        "false negative": left & ~said_left,
    }
    for kind, chosen in kinds.items():
        rows = np.flatnonzero(chosen)
        if len(rows) == 0:
            yield f"{kind}: none among {len(table)} images", None
            continue
        generator = np.random.default_rng([seed, zlib.crc32(f"{set_name} {kind}".encode())])
        shown = np.sort(generator.permutation(rows)[:examples])
        for row in shown:
            yield _title(kind, table, row), int(row)
        if kind.startswith("false"):
            surest = table["confidence"].iloc[rows].sort_values(ascending=False, kind="stable")
            for row in surest.index.drop(shown)[:examples]:
                yield _title(f"{kind}, among the most confident", table, row), int(row)


def _title(kind: str, table: pd.DataFrame, row: int) -> str:
    return f"{kind}: {table['image'][row]}, whose truth is {table['pose'][row]}"


if __name__ == "__main__":
    exit_on_error(main)
