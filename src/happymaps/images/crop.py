"""Pictures of any size -> square ones."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from happymaps.images.boxes import Box, Part
from happymaps.images.decode import Grey
from happymaps.images.faces import find_face
from happymaps.params import ColourCropParams, CropMethod, CropParams, View

_RESAMPLE = {"lanczos": Image.Resampling.LANCZOS, "area": Image.Resampling.BOX}

_ROUNDING = 1e-6  # pixels: parts that were fractions of a picture


def method_of(view: View, method: CropMethod) -> CropMethod:
    """How pictures of a set are cropped for networks of a view; `method` is the set's own."""
    return "face" if view == "face" else method


def crop(picture: Grey, method: CropMethod, params: CropParams) -> Grey:
    """Cut a square grey picture of `params.size` pixels out of `picture`.

    Args:
        picture: (H, W) uint8.
        method: `stretch` keeps everything and breaks the aspect ratio, `square` takes the centre
            square, `face` the largest detected face in the middle, with a margin of
            `params.face_margin` times its size on every side, or the centre square where no face
            is found.
        params: size, resampling filter and margin.
    """
    return cut_out(picture, part_in(picture, method, params), params)


def part_in(picture: Grey, method: CropMethod, params: CropParams) -> Box:
    """What `crop`, which has the same arguments, cuts out of a picture."""
    face = find_face(picture) if method == "face" else None
    return part_of(picture.shape, face, method, params)


def cut_out(
    picture: NDArray[np.uint8], part: Part, params: CropParams | ColourCropParams
) -> NDArray[np.uint8]:
    """A part of a picture, grey or (H, W, 3), made `params.size` pixels wide and high.

    Where it reaches beyond the picture, the picture's edge is drawn out.
    """
    height, width = picture.shape[:2]
    left, top, right, bottom = part
    beyond = [(-top, bottom - height), (-left, right - width)]
    pads = [tuple(max(math.ceil(one - _ROUNDING), 0) for one in both) for both in beyond]
    if any(map(any, pads)):
        picture = np.pad(picture, [*pads, (0, 0)][: picture.ndim], mode="edge")
    (above, _), (before, _) = pads
    height, width = picture.shape[:2]
    box = (
        max(left + before, 0),
        max(top + above, 0),
        min(right + before, width),
        min(bottom + above, height),
    )
    size = (params.size, params.size)
    return np.asarray(Image.fromarray(picture).resize(size, _RESAMPLE[params.resample], box=box))


def part_of(
    shape: tuple[int, ...], face: Box | None, method: CropMethod, params: CropParams
) -> Box:
    """What `crop` cuts out of a picture of some height and width, in its pixels.

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
    return _with_margin(face, params.face_margin)


def centre_square(width: int, height: int) -> Box:
    """The largest square around the centre; of two middle pixels the upper left."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return Box(left, top, left + side, top + side)


def _with_margin(face: Box, margin: float) -> Box:
    """A square around the face, of which a part may be outside the picture."""
    side = round(max(face.right - face.left, face.bottom - face.top) * (1 + 2 * margin))
    left, top = (face.left + face.right - side) // 2, (face.top + face.bottom - side) // 2
    return Box(left, top, left + side, top + side)
