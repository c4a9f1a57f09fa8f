"""Every matplotlib sheet."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from happymaps.files import replacing

# At so many dots an inch lengths in pixels are whole, and an image is drawn as it is.
_DPI = 100
_TITLE, _ROW_TITLE, _CAPTION, _GAP = 46, 30, 16, 8
_LEAST_WIDTH = 10  # inches, of curves
_TITLE_WIDTH = 11  # of a letter, at most on average
_SHOWN = 128  # pixels of the screen that an image takes at least, whatever its own size


@dataclass(frozen=True)
class Row:
    """One row of a sheet: a title, and images (H, W) or (H, W, 3) uint8 with a caption each.

    A row without a title takes no space for one.
    """

    title: str
    images: Sequence[NDArray[np.uint8]]
    captions: Sequence[str]


def in_rows(
    title: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int
) -> list[Row]:
    """Images and their captions in rows of so many `columns`; the first one has the title."""
    return [
        Row(
            "" if start else title,
            images[start : start + columns],
            captions[start : start + columns],
        )
        for start in range(0, len(images), columns)
    ]


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
    _write(figure, _GAP / width, 1 - 10 / height, title, fontsize=13, va="top")
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
        _write(figure, _GAP / width, top / height, row.title, fontsize=9, va="top", weight="bold")
        top -= _ROW_TITLE
    for column, (image, caption) in enumerate(zip(row.images, row.captions, strict=True)):
        left = _GAP + column * cell
        # As RGB, for a colour map rounds: what is drawn is what was given.
        rgb = image if image.ndim == 3 else np.stack([image] * 3, axis=2)
        enlarged = rgb.repeat(zoom, axis=0).repeat(zoom, axis=1)
        bottom = top - _CAPTION - len(enlarged)
        middle = left + enlarged.shape[1] / 2
        upwards = (top - _CAPTION + 3) / height
        _write(figure, middle / width, upwards, caption, fontsize=7, ha="center")
        figure.figimage(enlarged, left, bottom, origin="upper")


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    # A file's name may have dollar signs, which are no formula, and bytes that are no text.
    readable = text.encode(errors="replace").decode()
    figure.text(x, y, readable, parse_math=False, **style)


@dataclass(frozen=True)
class Curve:
    """A named line: what was measured, and at what (numbers, or names in their order)."""

    name: str
    at: Sequence[float] | Sequence[str]
    values: Sequence[float]
    dashed: bool = False


def draw_curves(
    path: Path,
    panels: Mapping[str, Sequence[Curve]],
    x: str,
    y: str,
    columns: int = 4,
    *,
    share_y: bool = True,
) -> None:
    """Draw panels of the same curves as one PNG; all panels share their axes, labelled `x`, `y`.

    Without `share_y` each has a vertical axis of its own, which its title explains.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width = max(3 * columns, _LEAST_WIDTH)
    figure = Figure(figsize=(width, 0.8 * width / columns * rows), dpi=_DPI, layout="constrained")
    places = _places(figure, len(panels), rows, columns, share_x=True, share_y=share_y)
    for axes, (title, curves) in zip(places, panels.items(), strict=True):
        for curve in curves:
            style = "--" if curve.dashed else "-"
            axes.plot(curve.at, curve.values, style, marker=".", label=curve.name)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x)
        axes.tick_params(labelbottom=True)
        if any(isinstance(place, str) for curve in curves for place in curve.at):
            axes.tick_params(axis="x", rotation=30)
        axes.grid(alpha=0.3)
    places[0].set_ylabel(y)
    handles, names = places[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize="small")
    _save(figure, path)


def _places(
    figure: Figure,
    count: int,
    rows: int,
    columns: int,
    *,
    share_x: bool = False,
    share_y: bool = False,
) -> list[Axes]:
    """So many axes in a grid, row by row; the rest of it stays empty."""
    grid = figure.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False)
    every: list[Axes] = grid.flatten().tolist()
    for axes in every[count:]:
        axes.remove()
    return every[:count]


def draw_heat_maps(
    path: Path,
    title: str,
    names: Sequence[str],
    panels: Mapping[str, NDArray[np.float64]],
    *,
    least: float = -1,
    columns: int | None = None,
) -> None:
    """Draw tables (N, N) of the same N names, a number in every cell, as one PNG.

    Colours reach from `least` to 1 in every panel; what is not a number stays empty. All panels
    stand beside each other, or so many `columns` of them.
    """
    size = 1.6 + 0.62 * len(names)
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(size * columns, size * rows), dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    places = _places(figure, len(panels), rows, columns)
    for axes, (name, table) in zip(places, panels.items(), strict=True):
        axes.imshow(table, cmap="RdBu_r", vmin=least, vmax=1)
        axes.set_title(name, fontsize=10)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        for row, column in np.argwhere(np.isfinite(table)):
            value = table[row, column]
            distance = abs(2 * (value - least) / (1 - least) - 1)
            colour = "white" if distance > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, c=colour)
    _save(figure, path)


def to_pixels(images: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """(K, C, H, W) in [0, 1], of 1 or 3 channels -> K images (H, W) or (H, W, 3) for a `Row`."""
    return [as_picture(image) for image in (images * 255).round().astype(np.uint8)]


def as_picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(C, H, W), of 1 or 3 channels -> (H, W) or (H, W, 3) for a `Row`."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def zoom_of(size: int, shown: int = _SHOWN) -> int:
    """Screen pixels per image pixel that bring an image of `size` to about `shown`, at least 1."""
    return max(1, shown // size)


# Of a map's values, what is drawn in full colour: one bright pixel must not hide all others.
_FULL_COLOUR = 0.995


def heat(image: NDArray[np.float32], attribution: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay an attribution over its image: red speaks for the answer, blue against it.

    The colour is full at the map's own largest values (of either sign) and clear at 0, so colours
    of two maps say nothing of which is stronger. The image is drawn pale beneath.

    Args:
        image: (C, H, W) in [0, 1], of 1 or 3 channels.
        attribution: (H, W), any finite numbers.

    Returns:
        (H, W, 3).
    """
    size = np.abs(attribution)
    strongest = np.quantile(size, _FULL_COLOUR) or size.max() or 1.0
    strength = np.clip(attribution / strongest, -1, 1)
    colour = colormaps["RdBu_r"]((strength + 1) / 2)[..., :3]
    pale = 0.35 + 0.65 * np.broadcast_to(image, (3, *attribution.shape)).transpose(1, 2, 0)
    cover = 0.85 * np.abs(strength)[..., None]
    return np.asarray((255 * (cover * colour + (1 - cover) * pale)).round(), np.uint8)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as draft, warnings.catch_warnings():
        # Of scripts that the font does not know boxes are drawn, and that is all there is to say.
        warnings.filterwarnings("ignore", message="Glyph")
        # Matplotlib signs its pictures with its version: other bytes after every update. Sheets
        # packed less hard than by default are no larger, and written in a third of the time.
        figure.savefig(
            draft, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 2}
        )
