"""Every matplotlib sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from happymaps.files import replacing

# At so many dots an inch lengths in pixels are whole, and an image is drawn as it is.
_DPI = 100
_TITLE, _ROW_TITLE, _CAPTION, _GAP = 46, 30, 16, 8
_TITLE_WIDTH = 11  # of a letter, at most on average


@dataclass(frozen=True)
class Row:
    """One row of a sheet: a title, and images (H, W) or (H, W, 3) uint8 with a caption each.

    A row without a title takes no space for one.
    """

    title: str
    images: Sequence[NDArray[np.uint8]]
    captions: Sequence[str]


def draw_sheet(path: Path, title: str, rows: Sequence[Row], columns: int, *, zoom: int = 1) -> None:
    """Draw rows of images as one PNG; the same rows give the same bytes.

    Args:
        path: the file to write.
        title: stands above the sheet.
        rows: from top to bottom; a row without images shows its title alone.
        columns: images that fit beside each other; every row has at most so many.
        zoom: screen pixels per image pixel.
    """
    shapes = [image.shape[:2] for row in rows for image in row.images]
    cell = max((zoom * width for _, width in shapes), default=128) + _GAP
    width = max(columns * cell + _GAP, _TITLE_WIDTH * len(title))
    height = _TITLE + sum(_height(row, zoom) for row in rows)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    figure.text(_GAP / width, 1 - 10 / height, title, fontsize=13, va="top")
    top = height - _TITLE
    for row in rows:
        _draw_row(figure, row, top, cell, zoom)
        top -= _height(row, zoom)
    _save(figure, path)


def _height(row: Row, zoom: int) -> int:
    title = _ROW_TITLE if row.title else 0
    tallest = max((zoom * image.shape[0] for image in row.images), default=0)
    return title + (_CAPTION + tallest + _GAP if row.images else 0)


def _draw_row(figure: Figure, row: Row, top: int, cell: int, zoom: int) -> None:
    """Draw a row whose upper edge is `top` pixels above the sheet's lower edge."""
    width, height = (round(inches * _DPI) for inches in figure.get_size_inches())
    if row.title:
        figure.text(_GAP / width, top / height, row.title, fontsize=9, va="top", weight="bold")
        top -= _ROW_TITLE
    for column, (image, caption) in enumerate(zip(row.images, row.captions, strict=True)):
        left = _GAP + column * cell
        # As RGB, for a colour map rounds: what is drawn is what was given.
        rgb = image if image.ndim == 3 else np.stack([image] * 3, axis=2)
        enlarged = rgb.repeat(zoom, axis=0).repeat(zoom, axis=1)
        bottom = top - _CAPTION - len(enlarged)
        middle = left + enlarged.shape[1] / 2
        figure.text(middle / width, (top - _CAPTION + 3) / height, caption, fontsize=7, ha="center")
        figure.figimage(enlarged, left, bottom, origin="upper")


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


def draw_heat_maps(
    path: Path, title: str, names: Sequence[str], panels: Mapping[str, NDArray[np.float64]]
) -> None:
    """Draw tables (N, N) of the same N names beside each other, a number in every cell, as one PNG.

    Colours reach from -1 to 1 in every panel; what is not a number stays empty.
    """
    size = 1.6 + 0.62 * len(names)
    figure = Figure(figsize=(size * len(panels), size), dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    for axes, (name, table) in zip(
        figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True
    ):
        axes.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(name, fontsize=10)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        for row, column in np.argwhere(np.isfinite(table)):
            value = table[row, column]
            colour = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, c=colour)
    _save(figure, path)


def to_pixels(images: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """(K, C, H, W) in [0, 1], of 1 or 3 channels -> K images (H, W) or (H, W, 3) for a `Row`."""
    pixels = (images * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    return [image[..., 0] if image.shape[2] == 1 else image for image in pixels]


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as draft:
        # Matplotlib signs its pictures with its version: other bytes after every update.
        figure.savefig(draft, format="png", metadata={"Software": None})
