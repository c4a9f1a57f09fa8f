"""Compare what the networks have learned, pair by pair, and decide the published claims."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from happymaps.answering import answer
from happymaps.datasets import LabelledImages, to_input
from happymaps.devices import best_device, configure_torch
from happymaps.errors import exit_on_error
from happymaps.evaluation import says_left
from happymaps.figures import Row, draw_heat_maps, draw_sheet, to_pixels
from happymaps.files import write_json
from happymaps.networks import Network, load_network, parameter_count
from happymaps.params import Params
from happymaps.stages.layout import (
    CONTROLS,
    HAPPYMAPS,
    METRICS,
    MODELS,
    PLOTS,
)
from happymaps.stages.sets import parts, tests
from happymaps.understanding.comparison import (
    Kind,
    Kinds,
    Side,
    compare,
    published_claims,
    readability,
    static_shares,
    table_of,
)
from happymaps.understanding.layers import layer_outputs, neuron_layers
from happymaps.understanding.similarity import gram
from happymaps.whitening import untrained_like


def main() -> None:
    """Write metrics/compare.json, heat maps of the pairs, and all decision maps on one sheet."""
    params = Params.load()
    names = list(params.networks)
    configure_torch(params.threads)
    kinds, parameters, readable = {}, {}, {}
    for name in tqdm(names, unit="network", desc="looking at"):
        trained = load_network(MODELS / f"{name}.safetensors").network
        # Each sees the same pictures in its own view.
        train = parts(params, trained.spec)["train"]
        sets = {part: faces for part, faces in tests(params, trained.spec).items() if len(faces)}
        kinds[name] = _kinds(name, trained, params.seed, train, sets)
        parameters[name] = parameter_count(trained)
        labels = train.labels(trained.spec)
        readable[name] = {
            kind: readability(side.maps[trained.decision_layer], train.images, labels)
            for kind, side in kinds[name].items()
        }
    pairs = {
        f"{one}-{other}": compare(kinds[one], kinds[other])
        for one, other in tqdm([*combinations(names, 2)], unit="pair", desc="comparing")
    }
    metrics = {
        name: json.loads((METRICS / "happymaps" / f"{name}.json").read_text()) for name in names
    }
    of_trained = {name: found["trained"] for name, found in readable.items()}
    static: dict[str, dict[Kind, dict[str, float]]] = {
        name: {
            kind: static_shares(sides[kind], sides["untrained"]) for kind in ("trained", "shuffled")
        }
        for name, sides in kinds.items()
    }
    claims = published_claims(pairs, metrics, parameters, of_trained, static)
    write_json(
        METRICS / "compare.json",
        {"pairs": pairs, "claims": [asdict(claim) for claim in claims], "readability": readable},
    )
    for key, title in _TITLES.items():
        panels = {
            heading: table_of(names, pairs, key, figure) for figure, heading in _PANELS.items()
        }
        draw_heat_maps(PLOTS / "compare" / f"{key}.png", title, names, panels, columns=2)
    _draw_decision_maps(PLOTS / "compare" / "decision_layer.png", kinds)


_TITLES = {
    "agreement": "Agreement of predictions, mean over the test sets",
    "decision_maps": "Similarity of decision maps",
    "layer_maps": "Similarity of inner maps after the best matching, mean over the layers",
    "cka": "Linear CKA of activations on the test images, mean over the layers",
}
_PANELS = {
    "similarity": "similarity",
    "untrained": "control: untrained",
    "shuffled": "control: shuffled labels",
    "above_control": "above the higher control",
}


def _kinds(
    name: str,
    trained: Network,
    seed: int,
    train: LabelledImages,
    sets: Mapping[str, LabelledImages],
) -> Kinds:
    maps = load_file(HAPPYMAPS / f"{name}.safetensors")
    untrained = untrained_like(trained, train.images, seed=seed)
    shuffled = load_network(CONTROLS / f"{name}.safetensors").network
    return {
        "trained": _side(trained, "trained", maps, sets),
        "untrained": _side(untrained, "untrained", maps, sets),
        "shuffled": _side(shuffled, "shuffled", maps, sets),
    }


def _side(
    network: Network, kind: str, maps: dict[str, Tensor], sets: Mapping[str, LabelledImages]
) -> Side:
    network.to(best_device())
    answered = {name: answer(network, faces.images) for name, faces in sets.items()}
    return Side(
        classes=network.spec.classes,
        decision_layer=network.decision_layer,
        maps={layer: maps[f"{kind}/{layer}"] for layer in neuron_layers(network)},
        grams=_grams(network, sets["cmu_test"]),
        predicted={name: logits.argmax(dim=1).numpy() for name, logits in answered.items()},
        said_left={name: says_left(network.spec, logits) for name, logits in answered.items()},
    )


@torch.inference_mode()
def _grams(network: Network, faces: LabelledImages) -> dict[str, Any]:
    wanted = neuron_layers(network)
    images = to_input(faces.images.to(best_device()))
    return {
        layer: gram(outputs) for layer, outputs in layer_outputs(network, images) if layer in wanted
    }


def _draw_decision_maps(path: Path, kinds: Mapping[str, Kinds]) -> None:
    """A row a class, the networks that have these classes beside each other.

    Where there are fewer networks than classes, a row a network.
    """
    sides = {name: sides["trained"] for name, sides in kinds.items()}
    maps = {name: side.maps[side.decision_layer].float() for name, side in sides.items()}
    pixels = {name: to_pixels(drawn.numpy()) for name, drawn in maps.items()}
    rows = []
    for classes in dict.fromkeys(side.classes for side in sides.values()):
        names = [name for name, side in sides.items() if side.classes == classes]
        if len(names) < len(classes):
            rows += [Row(name, pixels[name], [f'"{one}"' for one in classes]) for name in names]
            continue
        rows += [
            Row(f'"{one}"', [pixels[name][number] for name in names], names)
            for number, one in enumerate(classes)
        ]
    columns = max(len(row.images) for row in rows)
    draw_sheet(path, "What makes each network's decision happiest", rows, columns)


if __name__ == "__main__":
    exit_on_error(main)
