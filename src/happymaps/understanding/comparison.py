"""Whether two networks have learned the same, held against networks that have learned nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from happymaps.understanding.neurons import are_static
from happymaps.understanding.similarity import correlations, linear_cka, matched_similarity

Kind = Literal["trained", "untrained", "shuffled"]
CONTROLS: tuple[Kind, ...] = ("untrained", "shuffled")

# A similarity has to lie so much above both controls to count as learned.
MARGIN = 0.2


@dataclass(frozen=True)
class Side:
    """What is compared of a network.

    Attributes:
        classes: names of the decision layer's neurons.
        decision_layer: its name.
        maps: per layer (K, C, H, W), all from the same start.
        grams: per layer, of its activations on the same images (`similarity.gram`).
        predicted: per test set (N,) numbers of the classes that it answers.
        said_left: per test set (N,) bool.
    """

    classes: tuple[str, ...]
    decision_layer: str
    maps: Mapping[str, Tensor]
    grams: Mapping[str, NDArray[np.float64]]
    predicted: Mapping[str, NDArray[np.int64]]
    said_left: Mapping[str, NDArray[np.bool_]]


Kinds = Mapping[Kind, Side]


def compare(one: Kinds, other: Kinds) -> dict[str, Any]:
    """Every similarity of two networks, each beside what the controls reach.

    `agreement` per test set is the share of images that both answer alike, which for networks of
    different classes means that both say left, or both don't; `decision_maps` the mean correlation
    of the maps of the classes that both have; `layer_maps` and `cka` are per layer that both have
    (inner layers, and `decision` for `cka`).

    Args:
        one: a network and its controls, all of `trained`, `untrained` and `shuffled`.
        other: another and its own, asked for the same images.

    Returns:
        As named above, each figure as `similarity` beside `untrained`, `shuffled` and
        `above_control`: what remains above the higher of these two.
    """
    first, second = one["trained"], other["trained"]
    inner = [
        layer
        for layer in first.maps
        if layer in second.maps and layer not in (first.decision_layer, second.decision_layer)
    ]
    return {
        "agreement": {
            name: _beside_controls(one, other, partial(_agreement, test_set=name))
            for name in first.said_left
        },
        "decision_maps": _beside_controls(one, other, _decision_similarity),
        "layer_maps": {
            layer: _beside_controls(one, other, partial(_map_similarity, layer=layer))
            for layer in inner
        },
        "cka": {
            layer: _beside_controls(one, other, partial(_cka, layer=layer))
            for layer in [*inner, "decision"]
        },
    }


def _beside_controls(
    one: Kinds, other: Kinds, measure: Callable[[Side, Side], float]
) -> dict[str, float]:
    """The similarity of two trained networks, and of each with the other's controls."""
    similarity = measure(one["trained"], other["trained"])
    controls: dict[str, float] = {
        kind: (measure(one["trained"], other[kind]) + measure(one[kind], other["trained"])) / 2
        for kind in CONTROLS
    }
    above = similarity - max(controls.values())
    return {"similarity": similarity, **controls, "above_control": above}


def _agreement(one: Side, other: Side, test_set: str) -> float:
    if one.classes == other.classes:
        return float((one.predicted[test_set] == other.predicted[test_set]).mean())
    return float((one.said_left[test_set] == other.said_left[test_set]).mean())


def _decision_similarity(one: Side, other: Side) -> float:
    shared = [name for name in one.classes if name in other.classes]
    table = correlations(one.maps[one.decision_layer], other.maps[other.decision_layer])
    pairs = [table[one.classes.index(name), other.classes.index(name)].item() for name in shared]
    return float(np.mean(pairs))


def _map_similarity(one: Side, other: Side, layer: str) -> float:
    return matched_similarity(one.maps[layer], other.maps[layer])


def _cka(one: Side, other: Side, layer: str) -> float:
    if layer == "decision":
        return linear_cka(one.grams[one.decision_layer], other.grams[other.decision_layer])
    return linear_cka(one.grams[layer], other.grams[layer])


def readability(maps: Tensor, images: Tensor, labels: Tensor) -> float:
    """How much decision maps look like their classes.

    The mean, over the classes, of the correlation between a class's map and its mean image less
    the mean of all others. Classes that no image is of do not count; 0 where all are of one.

    Args:
        maps: (classes, C, H, W).
        images: (N, C, H, W) uint8.
        labels: (N,) numbers of the classes.
    """
    scaled = images.float()
    found = []
    for number, picture in enumerate(maps):
        belongs = labels == number
        if not belongs.any() or belongs.all():
            continue
        difference = scaled[belongs].mean(dim=0) - scaled[~belongs].mean(dim=0)
        found.append(correlations(picture[None], difference[None]).item())
    return float(np.mean(found)) if found else 0.0


def static_shares(side: Side, untrained: Side) -> dict[str, float]:
    """Per inner layer, the share of maps that are static beside those of the untrained network."""
    return {
        layer: are_static(maps.float(), untrained.maps[layer].float()).double().mean().item()
        for layer, maps in side.maps.items()
        if layer != side.decision_layer
    }


PUBLISHED = (
    "experiment0",
    "fewer_filters",
    "deeper_dense",
    "wider_dense",
    "four_class",
    "no_dense",
    "linear_output",
)


@dataclass(frozen=True)
class Claim:
    """One published claim: the figure that decides it, what a control reaches, and the verdict."""

    claim: str
    figure: float
    control: float | None
    holds: bool


def published_claims(
    pairs: Mapping[str, Mapping[str, Any]],
    happymaps: Mapping[str, Mapping[str, Any]],
    parameters: Mapping[str, int],
    readable: Mapping[str, float],
    static: Mapping[str, Mapping[Kind, Mapping[str, float]]],
) -> list[Claim]:
    """The claims of the published study on `experiment0` and its six variations, one by one.

    Networks that are not there are left out, with the claims on them.

    Args:
        pairs: results of `compare`, under `<network>-<network>`.
        happymaps: per network, the metrics of its maps.
        parameters: per network, how many it has.
        readable: per network, the `readability` of its decision maps.
        static: per network, the `static_shares` of its maps and of those of its control trained on
            shuffled labels.
    """
    happymaps = {name: happymaps[name] for name in PUBLISHED if name in happymaps}
    return [
        *_complement_claims(happymaps),
        *_same_claims(pairs, parameters),
        *_four_class_claim(readable),
        *_static_claims({name: static[name] for name in happymaps}),
    ]


def _complement_claims(happymaps: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    """Near -1 is -0.9 or less; only networks of two classes can have complements."""
    softmax = [name for name in happymaps if name not in ("linear_output", "four_class")]
    claims = []
    for text, names, wanted in (
        ("the two decision maps behind a softmax are complements", softmax, True),
        ("the two decision maps of a linear output are no complements", ["linear_output"], False),
    ):
        decisions = [happymaps[name]["decision"] for name in names if name in happymaps]
        if decisions:
            figure = float(np.mean([one["complementarity"] for one in decisions]))
            control = float(np.mean([one["untrained_complementarity"] for one in decisions]))
            claims.append(Claim(text, figure, control, (figure <= -0.9) == wanted))
    return claims


def _same_claims(
    pairs: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, int]
) -> list[Claim]:
    """The same is: decision maps as alike as the margin above both controls."""
    claims = []
    if "fewer_filters" in parameters and "experiment0" in parameters:
        ratio = parameters["fewer_filters"] / parameters["experiment0"]
        text = "half of the filters have half of the parameters"
        claims.append(Claim(text, ratio, None, abs(ratio - 0.5) <= 0.02))
    for variation, text in (
        ("fewer_filters", "half of the filters learn the same"),
        ("deeper_dense", "more dense layers learn the same"),
        ("wider_dense", "a wider dense layer learns the same"),
        ("no_dense", "no dense layer but the last learns the same"),
        ("linear_output", "a linear output learns the same"),
    ):
        found = pairs.get(f"experiment0-{variation}", pairs.get(f"{variation}-experiment0"))
        if found is not None:
            same = found["decision_maps"]
            control = max(same[kind] for kind in CONTROLS)
            holds = same["above_control"] >= MARGIN
            claims.append(Claim(text, same["similarity"], control, holds))
    return claims


def _four_class_claim(readable: Mapping[str, float]) -> list[Claim]:
    """Hard to read is: less like their classes than those of `experiment0` by the margin."""
    if not {"four_class", "experiment0"} <= set(readable):
        return []
    figure, control = readable["four_class"], readable["experiment0"]
    text = "the decision maps of four classes are hard to read"
    return [Claim(text, figure, control, figure <= control - MARGIN)]


def _static_claims(static: Mapping[str, Mapping[Kind, Mapping[str, float]]]) -> list[Claim]:
    """Many is a quarter, on average over all layers of the kind."""
    claims = []
    for text, kind in (
        ("many maps of convolutions are static", "conv2d"),
        ("many maps of inner dense layers are static", "dense"),
    ):
        found = [
            (share, shares["shuffled"][layer])
            for shares in static.values()
            for layer, share in shares["trained"].items()
            if layer.startswith(kind)
        ]
        if found:
            share, control = np.mean(found, axis=0).tolist()
            claims.append(Claim(text, share, control, share >= 0.25))
    return claims


def table_of(
    names: Sequence[str], pairs: Mapping[str, Mapping[str, Any]], key: str, figure: str
) -> NDArray[np.float64]:
    """One figure of all pairs as a symmetric (N, N) table, averaged where there are several.

    Args:
        names: of the networks, in the order wanted.
        pairs: results of `compare`, under `<network>-<network>`.
        key: `agreement`, `decision_maps`, `layer_maps` or `cka`.
        figure: `similarity`, `above_control` or a control.
    """
    table = np.full((len(names), len(names)), np.nan)
    for row, one in enumerate(names):
        for column, other in enumerate(names[row + 1 :], start=row + 1):
            found = pairs[f"{one}-{other}"][key]
            values = (
                [found[figure]] if figure in found else [part[figure] for part in found.values()]
            )
            table[row, column] = table[column, row] = np.mean(values) if values else np.nan
    return table
