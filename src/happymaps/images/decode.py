"""Pictures of any kind -> arrays, grey or in colour."""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from pillow_heif import register_heif_opener

from happymaps.errors import InputError

register_heif_opener()  # as phones take them

Grey = NDArray[np.uint8]

# By EXIF's number for the orientation; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE_IS_ZERO = 0  # of a TIFF's photometric interpretations


def read_grey(path: Path) -> Grey:
    """Decode a picture as a person sees it: upright, grey, (H, W) uint8; see `read_picture`."""
    return read_picture(path, to_grey)


def read_picture(
    path: Path, convert: Callable[[Image.Image], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Decode a picture as a person sees it.

    A PGM's values are stretched from 0..maxval to 0..255, as its format defines them: an image
    with maxval 130 is not darker than its twin with 255. 16 bits become 8, EXIF rotation is
    applied, and what is transparent shows white paper behind.

    Args:
        path: of the file.
        convert: `to_grey` or `to_colour`.

    Raises:
        InputError: when the file is missing, damaged or no picture.
    """
    try:
        # Of a name Pillow maps an unpacked TIFF, and mixes up the rows of a turned one.
        with path.open("rb") as file, Image.open(file) as image:
            return convert(image)
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(f"{path}: more than {most} megapixels; make it smaller") from error
    except Exception as error:  # damaged bytes make the decoders raise errors of every kind
        reason = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
        if "identify" in reason:
            reason = "not a picture that can be read"
        raise InputError(f"{path}: {reason}") from error


def to_grey(image: Image.Image) -> NDArray[np.uint8]:
    """An opened picture of any mode -> (H, W) uint8, upright.

    Raises:
        ValueError: for pictures of 32-bit or signed numbers, and whatever Pillow raises for
            damaged ones.
    """
    return np.asarray(_upright(image).convert("L"))


def to_colour(image: Image.Image) -> NDArray[np.uint8]:
    """As `to_grey`, but (H, W, 3): red, green and blue."""
    return np.asarray(_upright(image).convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says, of 8 bits a channel, on white paper where it is transparent."""
    upright = _turned(image)
    # Of other formats this mode has 16 bits.
    if upright.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise ValueError("its numbers, of 32 bits or with a sign, do not say what is white")
    if upright.mode.startswith("I"):
        return _in_eight_bits(upright, getattr(image, "tag_v2", {}))
    if upright.mode == "LAB":  # goes to grey by way of colours only
        return upright.convert("RGB")
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        paper = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(paper, upright)
    return upright


def _in_eight_bits(upright: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Of up to 16 bits, which only a TIFF's `tags` may say are fewer, or begin at white."""
    bits, *_ = tags.get(ExifTags.Base.BitsPerSample, (16,))
    white = (1 << bits) - 1
    # In place: a scan may have a hundred megapixels.
    deep = np.array(upright, dtype=np.int32)
    if tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
        np.subtract(white, deep, out=deep)
    deep[deep == upright.info.get("transparency")] = white
    np.clip(deep, 0, white, out=deep)
    deep *= 255
    deep += white // 2
    deep //= white
    return Image.fromarray(deep.astype(np.uint8))


def _turned(image: Image.Image) -> Image.Image:
    # Pillow's own way writes the EXIF anew, and stumbles over any odd field in it.
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, struct.error):  # of damaged EXIF, which leaves the pixels as they are
        turn = None
    return image if turn is None else image.transpose(turn)
