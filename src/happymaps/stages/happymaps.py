"""Draw what every neuron of one network wants to see, and tell which of them it would not miss."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from tqdm import tqdm

from happymaps.datasets import LabelledImages
from happymaps.devices import best_device, configure_torch
from happymaps.errors import exit_on_error
from happymaps.figures import Row, as_picture, draw_sheet, in_rows, to_pixels, zoom_of
from happymaps.files import replacing, replacing_folder, write_csv, write_json
from happymaps.networks import Network, load_network
from happymaps.params import HappymapsParams, load_study
from happymaps.stages.layout import CONTROLS, HAPPYMAPS, METRICS, MODELS, PLOTS
from happymaps.stages.sets import Study, parts, pooled_tests
from happymaps.understanding.activation_maximization import HappyMaps, happy_maps
from happymaps.understanding.layers import activations, neuron_layers
from happymaps.understanding.neurons import judge, layer_figures, neuron_table
from happymaps.understanding.pruning import prove
from happymaps.understanding.similarity import mean_pairwise_correlation
from happymaps.whitening import untrained_like

_COLUMNS = 16
_THUMBNAIL = 64  # pixels wide and high, about
_DECISION_COLUMNS, _DECISION_SIZE = 5, 384


def main() -> None:
    """Write maps as arrays, what is known of each neuron as a table, metrics, and sheets.

    Beside the network stand the untrained one and, where a control was trained, that one.
    """
    name = sys.argv[1]
    params = load_study()
    configure_torch(params.threads)
    device = best_device()
    trained = load_network(MODELS / f"{name}.safetensors").network.to(device)
    split = parts(params, trained.spec)
    train, settings = split["train"], params.happymaps
    untrained = untrained_like(trained, train.images, seed=params.seed)
    networks = {"trained": trained, "untrained": untrained}
    control = CONTROLS / f"{name}.safetensors"
    if control.is_file():
        networks["shuffled"] = load_network(control).network.to(device)

    count = sum(neuron_layers(trained).values())
    with tqdm(total=len(networks) * count, unit="map", desc="happymaps") as bar:
        sets = {
            kind: _maps_of(network, settings, params.seed, bar)
            for kind, network in networks.items()
        }
    _write_maps(HAPPYMAPS / f"{name}.safetensors", sets)
    maps, untrained_maps = sets["trained"], sets["untrained"]

    real = activations(trained, train.images, settings.filters, settings.decision)
    # Active is a filter that is so anywhere, whichever of its places is asked for.
    means = real
    if settings.filters != "mean":
        means = activations(trained, train.images, "mean", settings.decision)
    verdicts = {
        layer: judge(drawn.images, drawn.reachable, means[layer],
                     untrained_maps[layer].images, settings.twins)
        for layer, drawn in maps.items() if layer != trained.decision_layer
    }  # fmt: skip
    table = neuron_table(trained, maps, real, verdicts, train, settings)
    write_csv(HAPPYMAPS / f"{name}.csv", table)

    tests = pooled_tests(params, trained.spec, split)
    metrics = {
        **{layer: layer_figures(rows) for layer, rows in table.groupby("layer", sort=False)},
        "decision": _decision_metrics(trained, untrained, maps, untrained_maps, params),
        "advice": prove(trained, verdicts, train, tests, params.seed),
    }
    write_json(METRICS / "happymaps" / f"{name}.json", metrics)
    _draw_sheets(PLOTS / "happymaps" / name, name, trained, maps, table, train)


def _maps_of(
    network: Network, settings: HappymapsParams, seed: int, bar: "tqdm[Any]"
) -> dict[str, HappyMaps]:
    return {
        layer: happy_maps(network, layer, settings, seed=seed, bar=bar)
        for layer in neuron_layers(network)
    }


def _write_maps(path: Path, sets: dict[str, dict[str, HappyMaps]]) -> None:
    # Half precision: steps of 1/2000 are finer than any screen's.
    tensors = {
        f"{kind}/{layer}": drawn.images.half().contiguous()
        for kind, maps in sets.items()
        for layer, drawn in maps.items()
    }
    with replacing(path) as draft:
        save_file(tensors, draft)


def _decision_metrics(
    trained: Network,
    untrained: Network,
    maps: dict[str, HappyMaps],
    untrained_maps: dict[str, HappyMaps],
    params: Study,
) -> dict[str, float]:
    layer = trained.decision_layer
    return {
        "complementarity": mean_pairwise_correlation(maps[layer].images),
        "untrained_complementarity": mean_pairwise_correlation(untrained_maps[layer].images),
        "seed_stability": _seed_stability(trained, maps[layer], params),
        "untrained_seed_stability": _seed_stability(untrained, untrained_maps[layer], params),
    }


def _seed_stability(network: Network, first: HappyMaps, params: Study) -> float:
    """Mean correlation of a decision map with itself from other seeds, over the classes."""
    seeds = range(params.seed + 1, params.seed + params.happymaps.seeds)
    layer = network.decision_layer
    drawn = [happy_maps(network, layer, params.happymaps, seed=seed).images for seed in seeds]
    by_class = torch.stack([first.images, *drawn], dim=1)
    return float(np.mean([mean_pairwise_correlation(images) for images in by_class]))


def _draw_sheets(
    folder: Path,
    name: str,
    network: Network,
    maps: dict[str, HappyMaps],
    table: pd.DataFrame,
    train: LabelledImages,
) -> None:
    """One sheet a layer with all its maps, and one with the images that each neuron likes best."""
    position = {image: row for row, image in enumerate(train.truth["image"])}
    with replacing_folder(folder) as draft:
        for layer, neurons in table.groupby("layer", sort=False):
            pixels = to_pixels(maps[str(layer)].images.numpy())
            is_decision = layer == network.decision_layer
            columns = min(len(pixels), _DECISION_COLUMNS) if is_decision else _COLUMNS
            size = network.image_size
            captions = [caption(one) for one in _records(neurons)]
            draw_sheet(
                draft / f"{layer}.png",
                f"{name}, {layer}: what makes each neuron happiest"
                " (activation of the map / largest on a real image; flag)",
                in_rows("", pixels, captions, columns),
                columns,
                zoom=zoom_of(size, _DECISION_SIZE) if is_decision else zoom_of(size),
            )
            best = [
                _liked_row(one, pixels[one["neuron"]], position, train)
                for one in _records(neurons)
                if one["flag"] != "dead"
            ]
            draw_sheet(
                draft / f"{layer}_examples.png",
                f"{name}, {layer}: the map, and the training images that the neuron likes best",
                best,
                columns=1 + max((len(row.images) - 1 for row in best), default=0),
                zoom=zoom_of(size, _THUMBNAIL),
            )


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return rows.to_dict("records")  # type: ignore[return-value]


def caption(neuron: dict[str, Any]) -> str:
    """What is said of a neuron (a row of its table) above its map."""
    flag = f"twin of {neuron['twin_of']}" if neuron["flag"] == "twin" else neuron["flag"]
    title = neuron["name"] or neuron["neuron"]
    return f"{title}: {neuron['activation']:.3g} / {neuron['largest_real']:.3g} {flag}".rstrip()


def _liked_row(
    neuron: dict[str, Any],
    pixels: NDArray[np.uint8],
    position: dict[str, int],
    train: LabelledImages,
) -> Row:
    images = neuron["examples"].split()
    shown = [as_picture(train.images[position[image]].numpy()) for image in images]
    captions = [f"{neuron['name'] or neuron['neuron']}: {neuron['activation']:.3g}"]
    return Row(
        "", [_thumbnail(one) for one in (pixels, *shown)], captions + neuron["liked"].split()
    )


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).reduce(max(1, len(image) // _THUMBNAIL)))


if __name__ == "__main__":
    exit_on_error(main)
