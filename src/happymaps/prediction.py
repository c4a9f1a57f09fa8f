"""A trained network's answers for a person's own pictures and videos."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from happymaps.answering import answer
from happymaps.datasets import BATCH
from happymaps.errors import InputError
from happymaps.evaluation import answers
from happymaps.images.crop import centre_square, cut_out, method_of, part_of
from happymaps.images.decode import read_picture, to_colour, to_grey
from happymaps.images.faces import find_face
from happymaps.images.video import duration_of, stream_frames
from happymaps.networks import SavedNetwork
from happymaps.params import ColourCropParams, CropParams
from happymaps.sources.face_names import parse_name

# What is taken out of a folder; a file named by itself is tried whatever it is called.
MEDIA_SUFFIXES = frozenset(
    {
        ".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe",
        ".jpeg", ".jpg", ".mpo", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp",
        ".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov",
        ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".vob", ".webm", ".wmv",
    }
)  # fmt: skip
_ANIMATED_FORMATS = {"GIF", "PNG", "WEBP"}
_MPEG_SUFFIXES = {".mpeg", ".mpg"}  # Pillow counts them as pictures, and cannot decode them
_MOTION_JPEG = {".mjpeg", ".mjpg"}  # frames one after the other, of which Pillow sees the first
_MOMENT = re.compile(r"(?P<path>.+)@(?P<seconds>\d+(?:\.\d+)?(?:e-\d+)?)s", re.DOTALL)
_LAST_FRAME = 1.0  # seconds that a last frame is granted at least: videos' lengths are inexact


class Picture(NamedTuple):
    """A picture, or one frame of a video (`frame` from 0, `time` in seconds).

    Its pixels are (H, W), or (H, W, 3) in colour.
    """

    path: Path
    frame: int | None
    time: float | None
    pixels: NDArray[np.uint8]


class Seen(NamedTuple):
    """What a network is shown of a picture."""

    pixels: NDArray[np.uint8]  # (C, H, W)
    without_face: bool  # one was looked for in vain: it is the centre square


class Answer(NamedTuple):
    """What a network says of one picture; for `confidence` see `evaluation.answers`."""

    path: Path
    frame: int | None
    time: float | None
    prediction: str
    confidence: float
    without_face: bool


def predict(
    saved: SavedNetwork, crop_params: CropParams | ColourCropParams, pictures: Iterator[Picture]
) -> Iterator[Answer]:
    """Put pictures through the pipeline's preprocessing and the network, a batch at a time.

    Args:
        saved: the network, which remembers how the images it was trained on were made.
        crop_params: how recordings are cropped. A picture named by CMU's grammar is cropped as
            the pipeline crops CMU faces, every other as it crops recordings. A network of objects
            sees the centre square.
        pictures: of any size, in the colours of `sees_colour`.

    Raises:
        InputError: when the params are of a study of objects and the network knows faces.
    """
    # Cropped as they come: a batch of full-size photographs would fill the memory.
    cropped = ((picture[:3], preprocess(picture, saved, crop_params)) for picture in pictures)
    while batch := list(islice(cropped, BATCH)):
        images = torch.from_numpy(np.stack([seen.pixels for _, seen in batch]))
        names, confidences = answers(saved.network.spec, answer(saved.network, images))
        for (source, seen), name, confidence in zip(batch, names, confidences, strict=True):
            yield Answer(*source, name, confidence, seen.without_face)


def sees_colour(saved: SavedNetwork) -> bool:
    """Whether a network was trained on coloured images."""
    return isinstance(saved.crop, ColourCropParams)


def read_pictures(path: Path, *, colour: bool = False) -> Iterator[Picture]:
    """The picture, or every frame of the video or animation, in one file; grey or in colour.

    Raises:
        InputError: when it is missing, damaged, or neither.
    """
    _require_file(path)
    convert = to_colour if colour else to_grey
    if _is_video(path):
        for frame, (time, pixels) in enumerate(stream_frames(path)):
            yield Picture(path, frame, time, convert(Image.fromarray(pixels)))
    else:
        yield Picture(path, None, None, read_picture(path, convert))


def _require_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: no file that can be read")


def media_files(path: Path, unreadable: Callable[[InputError], object]) -> list[Path]:
    """The path itself; of a folder, all pictures and videos below it by their suffix, sorted.

    What is hidden, that is begins with a dot, is passed over.

    Args:
        path: a file or a folder.
        unreadable: told of each folder below that cannot be read.

    Raises:
        InputError: for a folder without any, of which all can be read.
    """
    if not os.path.isdir(path):  # noqa: PTH112, for `Path.is_dir` raises where one may not look
        return [path]

    closed: list[OSError] = []
    found: list[Path] = []
    for folder, folders, names in os.walk(path, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(folder) / name
            for name in names
            if Path(name).suffix.lower() in MEDIA_SUFFIXES and not name.startswith(".")
        ]
    for error in closed:
        unreadable(InputError(f"{error.filename}: cannot be read ({error.strerror})"))
    if not found and not closed:
        raise InputError(f"{path}: no picture or video in this folder")
    return sorted(found)


def moment_of(given: str) -> tuple[Path, float | None]:
    """The file, and where one of a video is named its moment in seconds: `talk.mp4@12.5s`."""
    moment = _MOMENT.fullmatch(given)
    if moment is None or os.path.isfile(given):  # noqa: PTH113, for `Path.is_file` may raise
        return Path(given), None
    return Path(moment["path"]), float(moment["seconds"])


def read_moment(given: str, *, colour: bool = False) -> Picture:
    """A picture, or the frame that a video shows at a moment, as in `talk.mp4@12.5s`.

    Raises:
        InputError: as `read_pictures`; when a video comes without a moment, or ends before it.
    """
    path, seconds = moment_of(given)
    if seconds is None:
        picture, *more = islice(read_pictures(path, colour=colour), 2)
        if more:
            raise InputError(f"{given}: a video; name a moment of it, as in {given}@1.5s")
        return picture
    shown = None
    for picture in read_pictures(path, colour=colour):
        if picture.time is None:
            raise InputError(f"{path}: a picture, which has no moment {seconds:g} s")
        if picture.time > seconds:
            return shown or picture
        shown = picture
    if shown is None or shown.time is None or seconds > _end_of(path, shown.time):
        end = "" if shown is None else f"; its last frame begins at {shown.time:g} s"
        raise InputError(f"{path}: has no moment {seconds:g} s{end}")
    return shown


def _end_of(video: Path, last: float) -> float:
    """When the last frame, which begins at `last`, is gone, in seconds."""
    return max(last + _LAST_FRAME, duration_of(video) or 0)


def preprocess(
    picture: Picture, saved: SavedNetwork, crop_params: CropParams | ColourCropParams
) -> Seen:
    """A picture as the network is to see it; the arguments are `predict`'s."""
    if isinstance(saved.crop, ColourCropParams):
        height, width, _ = picture.pixels.shape
        square = cut_out(picture.pixels, centre_square(width, height), saved.crop)
        return Seen(square.transpose(2, 0, 1), without_face=False)
    if isinstance(crop_params, ColourCropParams):
        raise InputError(f"{saved.name} knows faces; ask it in the folder of their study")
    params = crop_params.model_copy(update=saved.crop.model_dump())
    is_cmu = parse_name(picture.path.name) is not None
    of_set = params.cmu_faces if is_cmu else params.recordings
    method = method_of(saved.network.spec.crop, of_set)
    face = find_face(picture.pixels) if method == "face" else None
    part = part_of(picture.pixels.shape, face, method, params)
    pixels = cut_out(picture.pixels, part, params)[None]
    return Seen(pixels, without_face=method == "face" and face is None)


def _is_video(path: Path) -> bool:
    """Whether ffmpeg is to read a file: animations, and whatever Pillow does not know."""
    try:
        with Image.open(path) as image:
            kind = image.format
            animated = kind in _ANIMATED_FORMATS and getattr(image, "n_frames", 1) > 1
    except UnidentifiedImageError:
        # A damaged picture is better explained by the reader of pictures.
        suffix = path.suffix.lower()
        return suffix in _MPEG_SUFFIXES or suffix not in Image.registered_extensions()
    except Exception:  # damaged bytes make the decoders raise errors of every kind
        return False
    if kind == "EPS":
        # Pillow would hand it to Ghostscript, whatever the file calls itself.
        raise InputError(f"{path}: PostScript, a program that draws, which is not run")
    return animated or kind == "MPEG" or path.suffix.lower() in _MOTION_JPEG
