"""Test one network on the test part of the objects."""

import sys

import pandas as pd

from happymaps.answering import answer
from happymaps.datasets import LabelledImages
from happymaps.devices import best_device, configure_torch
from happymaps.errors import exit_on_error
from happymaps.evaluation import object_scores, predictions, some_of
from happymaps.figures import Row, as_picture, draw_sheet, zoom_of
from happymaps.files import write_csv, write_json
from happymaps.networks import load_network
from happymaps.params import Cifar10Params
from happymaps.stages.layout import METRICS, MODELS, PLOTS, PREDICTIONS
from happymaps.stages.sets import parts


def main() -> None:
    """Write metrics, predictions, the confusion by class, and sheets of random and wrong ones."""
    name = sys.argv[1]
    params = Cifar10Params.load()
    configure_torch(params.threads)
    network = load_network(MODELS / f"{name}.safetensors").network.to(best_device())
    test = parts(params, network.spec)["test"]
    logits = answer(network, test.images)
    table = predictions(network.spec, logits, test)
    metrics = {"test": object_scores(network.spec, logits, test, table)}
    write_json(METRICS / "test" / f"{name}.json", metrics)
    write_csv(PREDICTIONS / f"{name}.csv", table)
    plots = PLOTS / "test" / name
    write_csv(plots / "confusion.csv", table[["actual", "predicted"]])
    right = table["actual"] == table["predicted"]
    drawn = {"random": ("random test images", table), "wrong": ("wrong answers", table[~right])}
    for kind, (title, chosen) in drawn.items():
        rows = _rows(kind, chosen, test, params)
        heading = f"{name}: {title} (above each image: its truth; the answer and its confidence)"
        zoom = zoom_of(network.image_size)
        draw_sheet(plots / f"{kind}.png", heading, rows, params.test.examples, zoom=zoom)


def _rows(
    kind: str,
    chosen: pd.DataFrame,
    test: LabelledImages,
    params: Cifar10Params,
) -> list[Row]:
    """A row a class: a seeded choice among those of its predictions that are chosen."""
    rows = []
    for name, of_class in chosen.groupby("actual", sort=False):
        rows_of = of_class.index.tolist()
        shown = some_of(rows_of, params.test.examples, params.seed, f"{kind} {name}")
        captions = [f"{chosen['predicted'][row]}: {chosen['confidence'][row]:.2f}" for row in shown]
        images = [as_picture(test.images[row].numpy()) for row in shown]
        title = f"{name}: {len(shown)} of {len(of_class)}, chosen at random"
        rows.append(Row(title, images, captions))
    return rows


if __name__ == "__main__":
    exit_on_error(main)
