"""Frames of the YouTube Faces (Wolf et al. 2011) with 68 landmarks in each.

Landmarks were set for a course on computer vision; whole people were taken from what it hands out.
"""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from happymaps.errors import InputError
from happymaps.sources import manifests
from happymaps.sources.archives import iter_members
from happymaps.sources.download import Place, located
from happymaps.sources.face_names import in_images

MIRROR_NAMES = (
    "youtube_faces_68pt", "youtube_faces_68pt.tar", "youtube_faces_68pt.tar.gz",
    "youtube_faces_68pt.zip",
)  # fmt: skip
LANDMARKS = "landmarks/keypoints.csv"
_COUNT = 68
_MAX_DOWNLOAD = 1 << 30


def fetch(path: Path | None, url: str, manifest: dict[str, str], destination: Path) -> Place:
    """Bring the frames of the manifest and their landmarks here, as `collect` writes them.

    They are looked for at `path`, else in the mirror, else at `url`.

    Raises:
        InputError: source unreachable, or as `collect`.
    """
    with located(path, MIRROR_NAMES, url, max_bytes=_MAX_DOWNLOAD) as (source, place):
        collect(source, manifest, destination)
    return place


def collect(source: Path, manifest: dict[str, str], destination: Path) -> None:
    """Write `images/<file>` and `landmarks/keypoints.csv` of a folder or archive to `destination`.

    Members count by their file's name: a frame has one of the manifest, and every table whose name
    ends in `keypoints.csv` says where landmarks are: `<file>,x,y,x,y,...` in pixels. Other files
    and other frames are passed over. The table that is written has a row for each frame, by name.

    Args:
        source: the folder or the archive.
        manifest: the SHA-256 sums of `images/<file>`, and of the table that is written.
        destination: the folder to write to; it exists.

    Raises:
        InputError: when frames or landmarks are missing, damaged, or not as published.
    """
    frames = {name: found for name, found in manifest.items() if name != LANDMARKS}
    manifests.collect(source, frames, destination, in_images)
    table = table_of(_landmarks(source, sorted(PurePosixPath(name).name for name in frames)))
    found = hashlib.sha256(table).hexdigest()
    if found != manifest.get(LANDMARKS):
        raise InputError(
            f"{source}: the landmarks have SHA-256 {found}, should be {manifest.get(LANDMARKS)};"
            " fetch the source again"
        )
    (destination / LANDMARKS).parent.mkdir()
    (destination / LANDMARKS).write_bytes(table)


def _landmarks(source: Path, frames: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    rows: dict[str, list[str]] = {}
    for member, content in iter_members(source):
        name = PurePosixPath(member).name
        # What a Mac adds to an archive begins so.
        if name.endswith("keypoints.csv") and not name.startswith("._"):
            lines = io.StringIO(content.decode("utf-8", errors="replace"))
            try:
                rows.update({row[0]: row[1:] for row in csv.reader(lines) if row})
            except csv.Error as error:
                raise InputError(
                    f"{source}: {member} is no table ({error}); fetch the source again"
                ) from error
    found = {}
    for frame in frames:
        try:
            found[frame] = np.array(rows[frame], np.float64).reshape(_COUNT, 2)
        except (KeyError, ValueError):
            found[frame] = np.full((_COUNT, 2), np.nan)
        if not np.isfinite(found[frame]).all():
            raise InputError(
                f"{source}: {frame} has no {_COUNT} landmarks in a table *keypoints.csv; fetch the"
                " source again"
            )
    return found


def table_of(landmarks: Mapping[str, NDArray[np.float64]]) -> bytes:
    """CSV of the landmarks (68, 2) of each frame, which `read_landmarks` reads."""
    columns = [f"{axis}{number}" for number in range(_COUNT) for axis in "xy"]
    content = np.stack(list(landmarks.values())).reshape(len(landmarks), -1)
    table = pd.DataFrame(content, index=pd.Index(landmarks, name="image"), columns=columns)
    return table.to_csv(lineterminator="\n").encode()


def read_landmarks(path: Path) -> tuple["pd.Index[str]", NDArray[np.float64]]:
    """Names of N frames, and their landmarks (N, 68, 2): columns and rows in pixels."""
    table = pd.read_csv(path, index_col="image")
    return table.index, table.to_numpy(np.float64).reshape(-1, _COUNT, 2)
