"""A trained network's answers for a person's own pictures and videos."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from happymaps.errors import InputError
from happymaps.evaluation import answers
from happymaps.images.crop import crop
from happymaps.images.decode import read_grey, to_grey
from happymaps.images.video import stream_frames
from happymaps.networks import SavedNetwork
from happymaps.sources.face_names import parse_name
from happymaps.training import logits_of

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
_BATCH = 64


class Picture(NamedTuple):
    """A picture, or one frame of a video (`frame` from 0, `time` in seconds)."""

    path: Path
    frame: int | None
    time: float | None
    grey: NDArray[np.uint8]


class Answer(NamedTuple):
    """What a network says of one picture; for `confidence` see `evaluation.answers`."""

    path: Path
    frame: int | None
    time: float | None
    prediction: str
    confidence: float


def predict(saved: SavedNetwork, pictures: Iterator[Picture]) -> Iterator[Answer]:
    """Put pictures through the pipeline's preprocessing and the network, a batch at a time.

    A picture named by CMU's grammar is cropped as the pipeline crops CMU faces, every other as it
    crops recordings.
    """
    while batch := list(islice(pictures, _BATCH)):
        crops = [_preprocess(saved, picture) for picture in batch]
        logits = logits_of(saved.network, torch.from_numpy(np.stack(crops)).unsqueeze(1))
        names, confidences = answers(saved.network.spec, logits)
        for picture, name, confidence in zip(batch, names, confidences, strict=True):
            yield Answer(picture.path, picture.frame, picture.time, name, confidence)


def read_pictures(path: Path) -> Iterator[Picture]:
    """The picture, or every frame of the video or animation, in one file.

    Raises:
        InputError: when it is missing, damaged, or neither.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix.lower() in VIDEO_SUFFIXES or _is_animated(path):
        for frame, (time, pixels) in enumerate(stream_frames(path)):
            yield Picture(path, frame, time, to_grey(Image.fromarray(pixels)))
    else:
        yield Picture(path, None, None, read_grey(path))


def media_files(path: Path) -> list[Path]:
    """The path itself; of a folder, all pictures and videos below it by their suffix, sorted.

    Raises:
        InputError: for a folder without any.
    """
    if not path.is_dir():
        return [path]
    suffixes = VIDEO_SUFFIXES | set(Image.registered_extensions())
    found = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file()
    )
    if not found:
        raise InputError(f"{path}: no picture or video in this folder")
    return found


def _preprocess(saved: SavedNetwork, picture: Picture) -> NDArray[np.uint8]:
    is_cmu = parse_name(picture.path.name) is not None
    method = saved.crop.cmu_faces if is_cmu else saved.crop.recordings
    return crop(picture.grey, method, saved.crop).image


def _is_animated(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, SyntaxError, ValueError):
        # Not a picture that Pillow knows: `read_grey` or ffmpeg will say what is wrong with it.
        return path.suffix.lower() == ".gif"
