"""Every matplotlib sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from happymaps.files import replacing

mpl.use("Agg")

_INCH_PER_IMAGE = 0.95


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
    heights = [1.55 if row.images else 0.4 for row in rows]
    figure = Figure(
        figsize=(columns * _INCH_PER_IMAGE + 0.2, sum(heights) * _INCH_PER_IMAGE + 0.5), dpi=100
    )
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", y=1 - 0.06 / figure.get_figheight())
    bands = figure.add_gridspec(
        len(rows), 1, height_ratios=heights, left=0.01, right=0.99, hspace=0,
        bottom=0.005, top=1 - 0.42 / figure.get_figheight(),
    )  # fmt: skip
    for row, band in zip(rows, (bands[number] for number in range(len(rows))), strict=True):
        _draw_row(figure.add_subfigure(band), row, columns)
    with replacing(path) as draft:
        # Matplotlib signs its pictures with its version: other bytes after every update.
        figure.savefig(draft, format="png", metadata={"Software": None})


def _draw_row(figure: "mpl.figure.SubFigure", row: Row, columns: int) -> None:
    figure.text(0.0, 0.99, row.title, fontsize=8, va="top", ha="left", weight="bold")
    if not row.images:
        return
    axes = figure.subplots(
        1, columns, gridspec_kw={"left": 0, "right": 1, "bottom": 0, "top": 0.76, "wspace": 0.06}
    )
    for axis in np.atleast_1d(axes):
        axis.axis("off")
    for axis, image, caption in zip(np.atleast_1d(axes), row.images, row.captions, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(caption, fontsize=6, pad=2)
