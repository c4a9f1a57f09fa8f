"""One decision explained by every method: as a row of a sheet, and as figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from happymaps.answering import logits_of
from happymaps.datasets import to_input
from happymaps.errors import InputError
from happymaps.evaluation import answers
from happymaps.figures import Row, as_picture, draw_sheet, heat, zoom_of
from happymaps.networks import Network
from happymaps.params import AttributionsParams
from happymaps.understanding.attributions import attribute, with_controls

# Cells each way of the map in the figures.
_CELLS = 8

# Per method, what it failed.
Failures = dict[str, str]


@dataclass(frozen=True)
class Explanation:
    """Why a network gave its answer to one image.

    Attributes:
        image: (C, H, W) uint8.
        prediction: the class's name.
        confidence: as in `evaluation.answers`.
        maps: per method (H, W) float32, positive where a pixel speaks for the answer.
    """

    image: Tensor
    prediction: str
    confidence: float
    maps: dict[str, NDArray[np.float32]]


def explain(
    network: Network, images: Tensor, params: AttributionsParams, seed: int
) -> list[Explanation]:
    """Explain the answer to each image, by one look, by every method in params and both controls.

    Args:
        network: in evaluation mode.
        images: (N, C, H, W) uint8.
        params: the methods and what they need.
        seed: of all that is drawn at random; an image's maps do not depend on the others.
    """
    logits = logits_of(network, images)
    names, confidences = answers(network.spec, logits)
    classes = logits.argmax(dim=1)
    inputs = to_input(images)
    maps = {
        method: attribute(method, network, inputs, classes, params, seed=seed).numpy()
        for method in with_controls(params.methods)
    }
    return [
        Explanation(
            image, names[row], confidences[row], {name: drawn[row] for name, drawn in maps.items()}
        )
        for row, image in enumerate(images)
    ]


def read_failures(audit: Path, methods: Sequence[str]) -> Failures | None:
    """What each method did not pass of the network's audit; None where it was not audited.

    Args:
        audit: the audit's metrics file.
        methods: which; one that the audit does not know has not passed.

    Raises:
        InputError: when the file is no audit.
    """
    if not audit.is_file():
        return None
    try:
        return failures_of(json.loads(audit.read_text()), methods)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{audit}: not an audit's metrics; `dvc repro` makes them") from error


def failures_of(figures: Mapping[str, Any], methods: Sequence[str]) -> Failures:
    """The same from the audit's own figures, of which `sanity` and `faithfulness` are read."""
    failures = {}
    for method in methods:
        sanity, faithfulness = (figures[kind].get(method) for kind in ("sanity", "faithfulness"))
        passed = {
            "sanity": sanity is not None and sanity["passes"],
            "faithfulness": faithfulness is not None and faithfulness["beats_random"],
        }
        failed = [name for name, well in passed.items() if not well]
        if failed:
            failures[method] = " and ".join(failed)
    return failures


def draw_explanations(
    path: Path,
    title: str,
    rows: Sequence[tuple[str, Explanation | None]],
    failures: Failures | None,
) -> None:
    """Draw a sheet: a row an image, its confidence, and every method's map over it.

    Args:
        path: the PNG to write.
        title: what the sheet is of.
        rows: each with its title; without an explanation the title stands alone.
        failures: from `read_failures`; what has failed is marked in every row.
    """
    note = "not audited" if failures is None else "X: did not pass its audit"
    legend = f"red speaks for the answer, blue against it; {note}"
    drawn = [_row(name, explanation, failures or {}) for name, explanation in rows]
    columns = max((len(row.images) for row in drawn), default=1)
    sizes = [len(row.images[0]) for row in drawn if row.images]
    zoom = zoom_of(max(sizes, default=1))
    draw_sheet(path, f"{title} ({legend})", drawn, columns, zoom=zoom)


def _row(title: str, explanation: Explanation | None, failures: Failures) -> Row:
    if explanation is None:
        return Row(title, [], [])
    image = to_input(explanation.image.unsqueeze(0))[0].numpy()
    captions = [f"{explanation.prediction}: {explanation.confidence:.4f}"]
    captions += [marked(method, failures) for method in explanation.maps]
    overlays = [heat(image, one) for one in explanation.maps.values()]
    return Row(title, [as_picture(explanation.image.numpy()), *overlays], captions)


def marked(method: str, failures: Failures) -> str:
    """A method's name as it stands in a sheet: with an X where it has not passed."""
    return f"{'X ' if method in failures else ''}{method}".replace("_", " ")


def describe(explanation: Explanation, failures: Failures | None) -> dict[str, Any]:
    """A decision as figures, for a program to read.

    Returns:
        `prediction`, `confidence`, and per method `failed` (what of its audit, None for nothing;
        the key is missing where the network was not audited), `peak` (row and column of the
        largest value, None where nothing speaks for the answer) and `grid` (8 x 8 means of the
        map, of which the largest size is 1).
    """
    found = {}
    for method, values in explanation.maps.items():
        grid = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(values)[None], _CELLS)[0]
        grid = grid / grid.abs().max().clamp_min(torch.finfo().tiny)
        row, column = np.unravel_index(values.argmax(), values.shape)
        found[method] = {
            **({} if failures is None else {"failed": failures.get(method)}),
            "peak": [int(row), int(column)] if values.max() > 0 else None,
            "grid": [[round(value, 4) for value in line] for line in grid.tolist()],
        }
    return {
        "prediction": explanation.prediction,
        "confidence": explanation.confidence,
        "methods": found,
    }
