"""Tables of boxes: the faces that were found in pictures, and what follows from them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from happymaps.files import write_csv
from happymaps.images.crop import Box, Grey, find_face

_SHAPE = ["height", "width"]


class Looked(NamedTuple):
    """What a look for a face in a picture gave."""

    shape: tuple[int, int]  # of the picture: height and width in pixels
    face: Box | None  # in pixels of the picture


def look(picture: Grey) -> Looked:
    """Look for the largest face in an (H, W) uint8 picture."""
    height, width = picture.shape
    return Looked((height, width), find_face(picture))


def write_looks(path: Path, looks: dict[str, dict[str, Looked]]) -> None:
    """Write a table of what was found in each picture of each set."""
    rows = [
        (name, image, *shape, face)
        for name, pictures in looks.items()
        for image, (shape, face) in pictures.items()
    ]
    write_boxes(path, ["set", "image", *_SHAPE], rows)


def read_looks(path: Path, name: str) -> dict[str, Looked]:
    """Read what `write_looks` wrote of a set's pictures."""
    table = read_boxes(path, ["set", "image"])
    rows = table[table["set"] == name]
    columns = (rows[column].tolist() for column in ("image", *_SHAPE, "box"))
    return {
        image: Looked((height, width), face)
        for image, height, width, face in zip(*columns, strict=True)
    }


def write_boxes(path: Path, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Write a table whose last four columns are the edges of boxes.

    Args:
        path: of the CSV.
        columns: the names of the first ones.
        rows: their values, and a box, or None for empty edges.
    """
    edges = Box._fields
    flat = [(*values, *(box or [None] * len(edges))) for *values, box in rows]
    table = pd.DataFrame(flat, columns=[*columns, *edges])
    write_csv(path, table.astype(dict.fromkeys(edges, "Int64")))


def read_boxes(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Read what `write_boxes` wrote: its columns and `box`, which is None where edges are empty.

    Args:
        path: of the CSV.
        names: the columns that are text.
    """
    edges = list(Box._fields)
    # Somebody may be called "nan": only nothing is a missing value.
    empty = {edge: [""] for edge in edges}
    text = dict.fromkeys(names, str)
    table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=empty)
    boxes = [
        None if np.isnan(row).any() else Box(*(int(edge) for edge in row))
        for row in table[edges].itertuples(index=False)
    ]
    return table.drop(columns=edges).assign(box=pd.Series(boxes, dtype=object))
