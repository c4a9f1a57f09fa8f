"""Parts of pictures, and tables of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from happymaps.files import write_csv

# Left, top, right and bottom, in pixels or between them, or in fractions of the width and height.
Part = tuple[float, float, float, float]


class Box(NamedTuple):
    """Part of a picture in pixels; the right and bottom edges are outside."""

    left: int
    top: int
    right: int
    bottom: int


def in_fractions(part: Part, shape: tuple[int, ...]) -> Part:
    """A part of a picture of `shape`, in pixels -> in fractions of its width and height."""
    height, width = shape
    left, top, right, bottom = part
    return left / width, top / height, right / width, bottom / height


def in_pixels(part: Part, shape: tuple[int, ...]) -> Part:
    """The way back from `in_fractions`, into a picture of whatever size."""
    height, width = shape
    left, top, right, bottom = part
    return left * width, top * height, right * width, bottom * height


def seen_in(part: Box, box: Box, size: int) -> Box:
    """A box of a picture in pixels of what was cut out of it and made `size` pixels wide."""
    across = size / (part.right - part.left)
    down = size / (part.bottom - part.top)
    return Box(
        round((box.left - part.left) * across),
        round((box.top - part.top) * down),
        round((box.right - part.left) * across),
        round((box.bottom - part.top) * down),
    )


def ellipse(head: Box, height: int, width: int) -> NDArray[np.float32]:
    """How far every pixel is from a head's middle: 1 on the ellipse in its box.

    Ellipses fit heads better than boxes do.

    Args:
        head: in pixels.
        height: of the picture, as is `width`.
        width: see there.

    Returns:
        (height, width).
    """
    rows = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
    columns = np.arange(width, dtype=np.float32) + np.float32(0.5)
    down = (2 * rows - head.top - head.bottom) / (head.bottom - head.top)
    across = (2 * columns - head.left - head.right) / (head.right - head.left)
    # Several times as fast as `hypot`, which guards against numbers that no picture has.
    return np.sqrt(down**2 + across**2)


def write_boxes(path: Path, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Write a table whose last four columns are the edges of boxes.

    Args:
        path: of the CSV.
        columns: the names of the first ones.
        rows: their values, and a box, or None for empty edges.
    """
    edges = Box._fields
    flat = [(*values, *(box or [None] * len(edges))) for *values, box in rows]
    # Whole numbers stay whole where some are missing.
    write_csv(path, pd.DataFrame(flat, columns=[*columns, *edges]).convert_dtypes())


def read_boxes(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Read what `write_boxes` wrote: its columns and `box`, which is None where edges are empty.

    Args:
        path: of the CSV.
        names: the columns that are text.
    """
    edges = list(Box._fields)
    text = dict.fromkeys(names, str)
    # Somebody may be called "nan": only nothing is a missing value.
    table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    boxes = [
        None if np.isnan(row).any() else Box(*(int(edge) for edge in row))
        for row in table[edges].itertuples(index=False)
    ]
    return table.drop(columns=edges).assign(box=pd.Series(boxes, dtype=object))
