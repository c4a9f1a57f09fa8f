"""Draw the README's pictures: the cast, and curves and maps of the committed results."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.torch import load_file
from tables import CIFAR10, OBJECTS, PARAMS, PROJECT, SHOWN

from happymaps.demo import draw_cast_sheet
from happymaps.figures import Curve, Row, draw_curves, draw_sheet, in_rows, to_pixels
from happymaps.sources.sample import draw_cast
from happymaps.stages.happymaps import caption
from happymaps.understanding.comparison import PUBLISHED

DOCS = Path(__file__).parent
PEOPLE = 5


def main() -> None:
    """Write the pictures beside this file, of what `make reproduce` and `make cifar10` leave."""
    with tempfile.TemporaryDirectory() as folder:
        cast = draw_cast(Path(folder) / "cast", people=PEOPLE)
        draw_cast_sheet(cast.destination / "cmu_faces", DOCS / "cast.png")
    panels = {name: _curves(name) for name in PUBLISHED}
    draw_curves(DOCS / "curves.png", panels, x="epoch", y="accuracy")
    draw_curves(DOCS / "steps.png", {"left or not": _steps()}, x="", y="accuracy")
    panels = {name: _curves(name, CIFAR10, "validation") for name in OBJECTS["networks"]}
    draw_curves(DOCS / "cifar10_curves.png", panels, x="epoch", y="accuracy")
    _draw_dense(DOCS / "dense_1.png")
    _draw_layers(DOCS / "cifar10_layers.png")
    for source, picture in COPIES.items():
        shutil.copyfile(PROJECT / source, DOCS / picture)
    with Image.open(PROJECT / "plots/audit/experiment0/cast.png") as sheet:
        # The noise on it packs badly: without the transparency that nothing has, and packed tight.
        sheet.convert("RGB").save(DOCS / "explanations.png", optimize=True)


def _draw_dense(path: Path) -> None:
    """All maps of a dense layer, with what the pipeline's own sheet says of them."""
    maps = load_file(PROJECT / "data/happymaps/experiment0.safetensors")["trained/dense_1"]
    table = pd.read_csv(PROJECT / "data/happymaps/experiment0.csv", keep_default_na=False)
    neurons = table[table["layer"] == "dense_1"].to_dict("records")
    captions = [caption(one) for one in neurons]  # type: ignore[arg-type]
    pixels = to_pixels(maps.float().numpy())
    rows = in_rows("", pixels, captions, BESIDE)
    draw_sheet(path, "dense_1 of experiment0: what makes each neuron happiest", rows, BESIDE)


def _draw_layers(path: Path) -> None:
    """Some maps of each layer of a network of objects, evenly spread, and of all its classes."""
    maps = load_file(CIFAR10 / f"data/happymaps/{SHOWN}.safetensors")
    table = pd.read_csv(CIFAR10 / f"data/happymaps/{SHOWN}.csv")
    rows = []
    for layer, neurons in table.groupby("layer", sort=False):
        alive = neurons[neurons["flag"] != "dead"]
        some = alive.iloc[np.linspace(0, len(alive) - 1, MAPS).astype(int)]
        pixels = to_pixels(maps[f"trained/{layer}"][some["neuron"].to_list()].float().numpy())
        captions = some["name"].fillna("").to_list()
        rows.append(Row(str(layer), pixels, captions))
    title = f"What makes neurons of {SHOWN} happiest, layer by layer"
    draw_sheet(path, title, rows, MAPS, zoom=3)


def _curves(network: str, study: Path = PROJECT, watched: str = "test") -> list[Curve]:
    folder = study / "plots/train" / network / "plots/metrics"
    tables = {
        part: pd.read_csv(folder / part / "accuracy.tsv", sep="\t") for part in ("train", watched)
    }
    return [
        Curve(part, table["step"].tolist(), table["accuracy"].tolist())
        for part, table in tables.items()
    ]


def _steps() -> list[Curve]:
    """From `experiment0` to the generalist, on people never seen."""
    steps = [step["name"] for step in PARAMS["steps"]]
    names = ["experiment0", *steps, "generalist"]
    folder = PROJECT / "metrics/cross_validate"
    found = [json.loads((folder / f"{name}.json").read_text()) for name in names]
    folds = [one["left_accuracy"]["mean"] for one in found]
    worst = [one["left_accuracy"]["worst_person"] for one in found]
    recordings = [one["recordings"]["left_balanced_accuracy"] for one in found]
    # Short enough to stand beside each other.
    shown = [name.replace("normalization", "norm").replace("_", "\n") for name in names]
    return [
        Curve("CMU, mean over the folds", shown, folds),
        Curve("CMU, worst person", shown, worst),
        Curve("recordings, balanced", shown, recordings),
    ]


MAPS = 10  # of a layer
BESIDE = 8  # of the neurons of a dense layer: more could not be read on a page

# What the pipeline draws and holds no photograph.
COPIES = {
    "plots/compare/decision_layer.png": "decision_layer.png",
    "plots/compare/decision_maps.png": "decision_maps.png",
    f"studies/cifar10/plots/complexity/{SHOWN}.png": "cifar10_complexity.png",
}

if __name__ == "__main__":
    main()
