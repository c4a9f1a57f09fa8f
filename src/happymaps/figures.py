"""Every matplotlib sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from happymaps.files import replacing

# Hundredths of an inch are pixels here: an image of 128 pixels is drawn as it is.
_DPI = 100
_TITLE, _ROW_TITLE, _CAPTION, _IMAGE, _GAP = 0.46, 0.30, 0.16, 1.28, 0.08


@dataclass(frozen=True)
class Row:
    """One row of a sheet: a title, and images (H, W) uint8 with a caption each."""

    title: str
    images: Sequence[NDArray[np.uint8]]
    captions: Sequence[str]


def draw_sheet(path: Path, title: str, rows: Sequence[Row], columns: int) -> None:
    """Draw rows of grey images as one PNG; the same rows give the same bytes.

    Args:
        path: the file to write.
        title: stands above the sheet.
        rows: from top to bottom; a row without images shows its title alone.
        columns: images that fit beside each other; every row has at most so many.
    """
    width = columns * (_IMAGE + _GAP) + _GAP
    height = _TITLE + sum(_height(row) for row in rows)
    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.text(_GAP / width, 1 - 0.1 / height, title, fontsize=13, va="top")
    top = height - _TITLE
    for row in rows:
        _draw_row(figure, row, top)
        top -= _height(row)
    _save(figure, path)


def _height(row: Row) -> float:
    return _ROW_TITLE + (_CAPTION + _IMAGE + _GAP if row.images else 0)


def _draw_row(figure: Figure, row: Row, top: float) -> None:
    """Draw a row whose upper edge is `top` inches above the sheet's lower edge."""
    width, height = figure.get_size_inches()
    figure.text(_GAP / width, top / height, row.title, fontsize=9, va="top", weight="bold")
    bottom = top - _ROW_TITLE - _CAPTION - _IMAGE
    for column, (image, caption) in enumerate(zip(row.images, row.captions, strict=True)):
        left = _GAP + column * (_IMAGE + _GAP)
        axes = figure.add_axes((left / width, bottom / height, _IMAGE / width, _IMAGE / height))
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(caption, fontsize=7, pad=2)
        axes.axis("off")


@dataclass(frozen=True)
class Curve:
    """A named line: what was measured (0 to 1) after each epoch."""

    name: str
    epochs: Sequence[int]
    values: Sequence[float]


def draw_curves(path: Path, panels: Mapping[str, Sequence[Curve]], columns: int = 4) -> None:
    """Draw learning curves, a panel a network, as one PNG; all panels share their axes."""
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3 * columns, 2.4 * rows), dpi=_DPI, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
        for curve in curves:
            axes.plot(curve.epochs, curve.values, marker=".", label=curve.name)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
    grid[0, 0].set_ylabel("accuracy")
    grid[0, 0].legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as draft:
        # Matplotlib signs its pictures with its version: other bytes after every update.
        figure.savefig(draft, format="png", metadata={"Software": None})
