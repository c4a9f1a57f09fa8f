"""Pictures of any size -> square grey ones."""

import threading
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from happymaps.params import CropMethod, CropParams

Grey = NDArray[np.uint8]

_SMALLEST_FACE = 0.1  # of the picture's shorter side; smaller finds are mostly wallpaper
_own = threading.local()
_RESAMPLE = {"lanczos": Image.Resampling.LANCZOS, "area": Image.Resampling.BOX}


class Box(NamedTuple):
    """Part of a picture in pixels; the right and bottom edges are outside."""

    left: int
    top: int
    right: int
    bottom: int


class Crop(NamedTuple):
    """A cropped picture; `face_found` is False where `face` fell back to `square`."""

    image: Grey
    face_found: bool


def crop(picture: Grey, method: CropMethod, params: CropParams) -> Crop:
    """Cut a square grey picture of `params.size` pixels out of `picture`.

    Args:
        picture: (H, W) uint8.
        method: `stretch` keeps everything and breaks the aspect ratio, `square` takes the centre
            square, `face` the largest detected face with a margin of `params.face_margin` times
            its size on every side, or the centre square where no face is found.
        params: size, resampling filter and margin.
    """
    part, face_found = part_of(picture, method, params)
    resized = Image.fromarray(picture).resize(
        (params.size, params.size), _RESAMPLE[params.resample], box=part
    )
    return Crop(np.asarray(resized), face_found)


def part_of(picture: Grey, method: CropMethod, params: CropParams) -> tuple[Box, bool]:
    """What `crop` cuts out of a picture, and whether that is a detected face."""
    height, width = picture.shape
    if method == "stretch":
        return Box(0, 0, width, height), False
    face = find_face(picture) if method == "face" else None
    if face is None:
        return centre_square(width, height), False
    return _with_margin(face, params.face_margin, width, height), True


def centre_square(width: int, height: int) -> Box:
    """The largest square around the centre; of two middle pixels the upper left."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return Box(left, top, left + side, top + side)


def find_face(picture: Grey) -> Box | None:
    """The largest face that frontal and profile cascades find (Viola and Jones 2001), or None.

    Args:
        picture: (H, W) uint8.
    """
    height, width = picture.shape
    least = max(24, round(min(height, width) * _SMALLEST_FACE))
    even = np.asarray(cv2.equalizeHist(picture), np.uint8)
    mirrored = np.ascontiguousarray(even[:, ::-1])
    found = _detect("haarcascade_frontalface_default.xml", even, least)
    found += _detect("haarcascade_profileface.xml", even, least)
    # The profile cascade knows one side only.
    for face in _detect("haarcascade_profileface.xml", mirrored, least):
        found.append(Box(width - face.right, face.top, width - face.left, face.bottom))
    return max(found, key=lambda face: (face.right - face.left, face), default=None)


def _detect(cascade: str, picture: Grey, least: int) -> list[Box]:
    faces = _cascade(cascade).detectMultiScale(
        picture, scaleFactor=1.1, minNeighbors=5, minSize=(least, least)
    )
    return [Box(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h in faces]


def _cascade(name: str) -> cv2.CascadeClassifier:
    # One for every thread: a cascade scribbles on itself while it looks.
    if not hasattr(_own, name):
        file = Path(cv2.__file__).parent / "data" / name
        setattr(_own, name, cv2.CascadeClassifier(str(file)))
    return getattr(_own, name)  # type: ignore[no-any-return]


def _with_margin(face: Box, margin: float, width: int, height: int) -> Box:
    """A square around the face, moved inside the picture and shrunk only if it has to be."""
    side = max(face.right - face.left, face.bottom - face.top)
    side = min(round(side * (1 + 2 * margin)), width, height)
    left = (face.left + face.right - side) // 2
    top = (face.top + face.bottom - side) // 2
    left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    return Box(left, top, left + side, top + side)
