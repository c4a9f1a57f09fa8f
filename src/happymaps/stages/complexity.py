"""Tell by numbers whether the maps of one network grow more complex from layer to layer."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file
from torch import Tensor

from happymaps.errors import exit_on_error
from happymaps.figures import Curve, draw_curves
from happymaps.files import write_json
from happymaps.stages.layout import HAPPYMAPS, METRICS, PLOTS
from happymaps.understanding.complexity import complexity

_FIGURES = {
    "colour_variance": "variance of colour over a map",
    "spatial_frequency": "mean frequency (cycles per image side)",
    "orientation_entropy": "entropy of edge directions (0 one, 1 all)",
}


def main() -> None:
    """Write the figures of each layer's maps as metrics, and draw each figure over the layers."""
    name = sys.argv[1]
    maps = load_file(HAPPYMAPS / f"{name}.safetensors")
    # The table has the layers in the network's order, the file of maps in the alphabet's.
    table = pd.read_csv(HAPPYMAPS / f"{name}.csv")
    layers = {
        str(layer): _of_layer(neurons, maps[f"trained/{layer}"], maps[f"untrained/{layer}"])
        for layer, neurons in table.groupby("layer", sort=False)
    }
    write_json(METRICS / "complexity" / f"{name}.json", layers)
    _draw(PLOTS / "complexity" / f"{name}.png", layers)


def _of_layer(neurons: pd.DataFrame, trained: Tensor, untrained: Tensor) -> dict[str, Any]:
    """The figures of a layer; None where all its neurons are dead."""
    # No image makes a dead neuron active: its map is no part of what the network looks for.
    alive = neurons.loc[neurons["flag"] != "dead", "neuron"].to_list()
    return {
        "neurons": len(neurons),
        "dead": len(neurons) - len(alive),
        **(complexity(trained[alive]) if alive else dict.fromkeys(_FIGURES)),
        "untrained": complexity(untrained),
    }


def _draw(path: Path, layers: Mapping[str, dict[str, Any]]) -> None:
    untrained = [figures["untrained"] for figures in layers.values()]
    panels = {
        title: [
            Curve("trained", list(layers), [one[figure] for one in layers.values()]),
            Curve("untrained", list(layers), [one[figure] for one in untrained], dashed=True),
        ]
        for figure, title in _FIGURES.items()
    }
    draw_curves(path, panels, x="layer", y="mean over the maps", columns=2, share_y=False)


if __name__ == "__main__":
    exit_on_error(main)
