"""Draw one network's filters, and what its layers make of single images."""

import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from happymaps.answering import logits_of
from happymaps.datasets import LabelledImages
from happymaps.devices import best_device, configure_torch
from happymaps.errors import exit_on_error
from happymaps.evaluation import predictions, some_of
from happymaps.figures import Row, as_picture, draw_sheet, in_rows, to_pixels, zoom_of
from happymaps.files import replacing_folder
from happymaps.networks import Network, load_network
from happymaps.params import load_study
from happymaps.stages.layout import MODELS, PLOTS
from happymaps.stages.sets import tests
from happymaps.understanding.feature_maps import feature_maps, kernels

_COLUMNS = 16
_KERNEL_ZOOM = 32


def main() -> None:
    """Write filters.png, and a sheet a test set: right answers and an error, layer by layer."""
    name = sys.argv[1]
    params = load_study()
    configure_torch(params.threads)
    network = load_network(MODELS / f"{name}.safetensors").network.to(best_device())
    sets = tests(params, network.spec)
    with replacing_folder(PLOTS / "feature_maps" / name) as folder:
        first = to_pixels(kernels(network))
        title = f"{name}: kernels of the first layer (grey is 0; one scale for all)"
        rows = in_rows("", first, [str(number) for number in range(len(first))], _COLUMNS)
        draw_sheet(folder / "filters.png", title, rows, _COLUMNS, zoom=_KERNEL_ZOOM)
        for set_name, faces in sets.items():
            table = predictions(network.spec, logits_of(network, faces.images), faces)
            rows = [
                row
                for kind, chosen in _kinds(table).items()
                for row in _example(network, set_name, kind, chosen, faces, table, params.seed)
            ]
            draw_sheet(
                folder / f"{set_name}.png",
                f"{name}, {set_name}: what each layer hands on (white: the layer's largest output;"
                " after a standardization grey is 0)",
                rows,
                _COLUMNS,
                zoom=zoom_of(network.image_size),
            )


def _kinds(table: pd.DataFrame) -> dict[str, "pd.Series[bool]"]:
    correct = table["actual"] == table["predicted"]
    if "pose" not in table:
        return {"correct": correct, "error": ~correct}
    left = table["pose"] == "left"
    return {"correct left": correct & left, "correct not left": correct & ~left, "error": ~correct}


def _example(
    network: Network,
    set_name: str,
    kind: str,
    chosen: "pd.Series[bool]",
    faces: LabelledImages,
    table: pd.DataFrame,
    seed: int,
) -> Iterator[Row]:
    """Rows of one image, a seeded choice among the chosen: itself, then layer by layer."""
    candidates = np.flatnonzero(chosen).tolist()
    if len(candidates) == 0:
        yield Row(f"{kind}: none among {len(table)} images", [], [])
        return
    (number,) = some_of(candidates, 1, seed, f"{set_name} {kind}")
    about = table.iloc[number]
    truth = about["pose" if faces.are_faces else "actual"]
    caption = f"{truth}; {about['predicted']}: {about['confidence']:.2f}"
    image = faces.images[number]
    picture = as_picture(image.numpy())
    yield Row(f"{kind} ({about['image']}: its truth; the answer)", [picture], [caption])
    for layer, maps in feature_maps(network, image).items():
        enlarged = _enlarged(maps, network.image_size)
        yield from in_rows(layer, enlarged, [""] * len(maps), _COLUMNS)


def _enlarged(maps: Tensor, size: int) -> list[NDArray[np.uint8]]:
    """As near to the image's own size as whole pixels allow."""
    zoom = max(1, size // maps.shape[-1])
    pixels = to_pixels(maps.unsqueeze(1).numpy())
    return [image.repeat(zoom, axis=0).repeat(zoom, axis=1) for image in pixels]


if __name__ == "__main__":
    exit_on_error(main)
