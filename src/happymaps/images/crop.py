"""Pictures of any size -> square ones."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from happymaps.images.boxes import Box, Part, in_fractions
from happymaps.images.faces import Looked
from happymaps.params import ColourCropParams, CropMethod, TrainingCropParams, View

_RESAMPLE = {"lanczos": Image.Resampling.LANCZOS, "area": Image.Resampling.BOX}

_ROUNDING = 1e-6  # pixels: parts that were fractions of a picture


def method_of(view: View, method: CropMethod) -> CropMethod:
    """How pictures of a set are cropped for networks of a view; `method` is the set's own."""
    return "face" if view == "face" else method


def cut_out(
    picture: NDArray[np.uint8], part: Part, params: TrainingCropParams | ColourCropParams
) -> NDArray[np.uint8]:
    """A part of a picture, made `params.size` pixels wide and high.

    Args:
        picture: (H, W) or (H, W, 3).
        part: in pixels. Where it reaches beyond the picture, the picture's edge is drawn out.
        params: the size, and how to resample.
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
    shape: tuple[int, ...], face: Box | None, method: CropMethod, params: TrainingCropParams
) -> Box:
    """What is cut out of a picture, in its pixels.

    Args:
        shape: height and width of the picture in pixels.
        face: what `faces.find_face` finds there; only the method `face` asks for it.
        method: `stretch` keeps everything and breaks the aspect ratio, `square` takes the centre
            square, `face` the face in the middle, with a margin of `params.face_margin` times its
            size on every side, or the centre square where there is no face.
        params: the margin.
    """
    height, width = shape
    if method == "stretch":
        return Box(0, 0, width, height)
    if method == "square" or face is None:
        return centre_square(width, height)
    return _with_margin(face, params.face_margin)


def places(
    looks: Mapping[str, Looked], method: CropMethod, params: TrainingCropParams
) -> dict[str, Part]:
    """What to cut out of each picture, in fractions of it, for its copies have other sizes."""
    return {
        image: in_fractions(part_of(look.shape, look.face, method, params), look.shape)
        for image, look in looks.items()
    }


def face_places(
    looks: Mapping[str, Looked], person: Mapping[str, str], params: TrainingCropParams
) -> dict[str, Part]:
    """The places of faces, and of a photograph without one where the same person's others are.

    Args:
        looks: into each photograph.
        person: who is in it.
        params: see `part_of`.

    Returns:
        Of each photograph what to cut out, in fractions of it: of one without a face the median
        over the person's others, or the centre square if there is none in any.
    """
    found = places(looks, "face", params)
    known: dict[str, list[Part]] = {}
    for image, look in looks.items():
        if look.face is not None:
            known.setdefault(person[image], []).append(found[image])
    medians = {subject: _median(ones) for subject, ones in known.items()}
    return {
        image: medians.get(person[image], place) if looks[image].face is None else place
        for image, place in found.items()
    }


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


def _median(parts: list[Part]) -> Part:
    left, top, right, bottom = np.median(parts, axis=0).tolist()
    return left, top, right, bottom
