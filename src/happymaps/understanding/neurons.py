"""What is to be said of each neuron: its map, the images it likes, and whether it is any use."""

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from torch import Tensor, argsort, nn

from happymaps.datasets import LabelledImages
from happymaps.networks import Network
from happymaps.params import HappymapsParams
from happymaps.understanding.activation_maximization import HappyMaps
from happymaps.understanding.layers import activations
from happymaps.understanding.similarity import correlations

Flag = Literal["", "dead", "twin", "static"]
FLAGS: tuple[Flag, ...] = ("dead", "twin", "static")

# Of the untrained network's maps: with less structure than nearly all of these, it is not chance.
_UNTRAINED_SHARE = 0.05
_CELLS = 8


@dataclass(frozen=True)
class Neuron:
    """What is to be said of one neuron; `twin` is the neuron that a twin repeats."""

    flag: Flag = ""
    twin: int | None = None


def judge(
    maps: Tensor, reachable: Tensor, real: Tensor, untrained: Tensor, twins: float
) -> list[Neuron]:
    """Tell apart a layer's neurons; the first rule that holds counts.

    - *dead*: never active on a real image, or without any gradient.
    - *twin*: its map correlates by `twins` or more with that of another neuron, which stays. Of
      two, the one that real images make less active is the twin. `twins` should be above what the
      untrained maps reach among themselves: all begin alike, and after few steps still are.
    - *static* (or "all on"): its map has less spatial structure than 95 of 100 maps that the same
      layer has before training (see `structure`); in a layer of up to 20 neurons, than all.

    Args:
        maps: (K, C, H, W) in [0, 1], all from the same start.
        reachable: (K,) bool: whether a neuron ever had a gradient.
        real: (N, K) activations on real images, the mean over a filter's map.
        untrained: (K, C, H, W) maps of the layer of the untrained network.
        twins: correlation from which two maps are the same.
    """
    largest = real.max(dim=0).values
    dead = (largest <= 0) | ~reachable
    alike = correlations(maps, maps)
    static = are_static(maps, untrained)
    found = [Neuron("dead") if is_dead else Neuron() for is_dead in dead.tolist()]
    stays: list[int] = []
    for number in argsort(largest, descending=True, stable=True).tolist():
        if found[number].flag == "dead":
            continue
        model = max(stays, key=lambda other: alike[number, other].item(), default=None)
        if model is not None and alike[number, model] >= twins:
            found[number] = Neuron("twin", model)
            continue
        stays.append(number)
        if static[number]:
            found[number] = Neuron("static")
    return found


def are_static(maps: Tensor, untrained: Tensor) -> Tensor:
    """Which of a layer's maps have too little structure, as `judge` says: (K,) bool."""
    # At most 5 in 100 of the untrained maps are below the lower one.
    limit = structure(untrained).quantile(_UNTRAINED_SHARE, interpolation="lower")
    return structure(maps) < limit


def structure(maps: Tensor) -> Tensor:
    """How unevenly a map's detail is spread over the image: (K, C, H, W) -> (K,), at least 0.

    Detail is the mean absolute difference between neighbours, in an 8x8 grid of cells; the figure
    is its standard deviation over its mean. A face has its detail in some places and not in
    others; television static and a pattern that fills the image have the same everywhere; a
    constant image has none, which counts as 0.
    """
    inner = maps[..., :-1, :-1]
    detail = (maps[..., 1:, :-1] - inner).abs() + (maps[..., :-1, 1:] - inner).abs()
    cells = nn.functional.adaptive_avg_pool2d(detail.mean(dim=1), _CELLS).flatten(1)
    return cells.std(dim=1) / cells.mean(dim=1).clamp_min(1e-6)


def neuron_table(
    network: Network,
    maps: dict[str, HappyMaps],
    real: dict[str, Tensor],
    verdicts: dict[str, list[Neuron]],
    train: LabelledImages,
    settings: HappymapsParams,
) -> pd.DataFrame:
    """Everything known of each neuron, one row for each.

    Args:
        network: in evaluation mode.
        maps: per layer, of all neurons.
        real: per layer (N, K) activations on the training images.
        verdicts: per layer but the decision layer, of all neurons.
        train: the N images.
        settings: what the maps were made with.

    Returns:
        Columns `layer,neuron,name,activation,largest_real,flag,twin_of,examples,liked`: `name` is
        the class of a neuron of the decision layer, `activation` what its map reaches,
        `examples` the images it likes best and `liked` how much, separated by spaces.
    """
    rows = []
    names = train.truth["image"].to_numpy()
    for layer, drawn in maps.items():
        answers = activations(network, drawn.images, settings.filters, settings.decision, [layer])[
            layer
        ]
        best = real[layer].topk(min(settings.examples, len(train)), dim=0)
        is_decision = layer == network.decision_layer
        for number in range(len(answers)):
            known = Neuron() if is_decision else verdicts[layer][number]
            rows.append(
                {
                    "layer": layer,
                    "neuron": number,
                    "name": network.spec.classes[number] if is_decision else "",
                    "activation": answers[number, number].item(),
                    "largest_real": best.values[0, number].item(),
                    "flag": known.flag,
                    "twin_of": known.twin,
                    "examples": " ".join(names[best.indices[:, number].numpy()]),
                    "liked": " ".join(f"{value:.4g}" for value in best.values[:, number].tolist()),
                }
            )
    return pd.DataFrame(rows).astype({"twin_of": "Int64"})


def layer_figures(rows: pd.DataFrame) -> dict[str, Any]:
    """Counts of a layer's rows of `neuron_table`, and how far its maps beat the real images.

    `activation_ratio` is the median, over the neurons that some image makes active, of the map's
    activation over the largest on a real image; None where there is no such neuron.
    """
    live = rows[rows["largest_real"] > 0]
    ratio = float((live["activation"] / live["largest_real"]).median()) if len(live) else None
    flags = {flag: int((rows["flag"] == flag).sum()) for flag in FLAGS}
    return {
        "neurons": len(rows),
        "dead": flags["dead"],
        "static": flags["static"],
        "twins": flags["twin"],
        "activation_ratio": ratio,
    }
