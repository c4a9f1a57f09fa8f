"""Recorded people: videos listed in params, one per subject."""

import shutil
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from happymaps.errors import InputError
from happymaps.files import sha256_of
from happymaps.params import RecordingParams
from happymaps.sources.download import download, in_mirror

_MAX_DOWNLOAD = 1 << 30


def fetch(recording: RecordingParams, destination: Path, fetched_before: Path) -> str:
    """Bring one recording to `destination/<subject>.<ext>`, checked against its SHA-256 if given.

    It is looked for at the recording's `path`, else in the mirror's folder `recordings/` under
    `<subject>.<ext>`, else in the folder `fetched_before`, else at its `url`.

    Returns:
        Where it came from: `path`, `mirror`, `last time` or `network`.

    Raises:
        InputError: not found, unreachable, empty, or with another hash.
    """
    if recording.path is not None:
        target = destination / f"{recording.subject}{recording.path.suffix}"
        if not recording.path.is_file():
            raise InputError(
                f"{recording.path}: no such recording (of {recording.subject}); correct its path in"
                " params.yaml"
            )
        shutil.copyfile(recording.path, target)
        origin, source = "path", str(recording.path)
    else:
        url = str(recording.url)
        name = recording.subject + PurePosixPath(urlsplit(url).path).suffix
        target = destination / name
        mirrored = in_mirror([name], folder="recordings")
        if mirrored is not None:
            shutil.copyfile(mirrored, target)
            origin, source = "mirror", str(mirrored)
        elif _is_right(fetched_before / name, recording):
            shutil.copyfile(fetched_before / name, target)
            origin, source = "last time", str(fetched_before / name)
        else:
            download(url, target, max_bytes=_MAX_DOWNLOAD)
            origin, source = "network", url
    _check(target, source, recording)
    return origin


def _is_right(file: Path, recording: RecordingParams) -> bool:
    return file.is_file() and sha256_of(file) == recording.sha256


def _check(target: Path, source: str, recording: RecordingParams) -> None:
    if target.stat().st_size == 0:
        raise InputError(f"{source}: empty; the recording of {recording.subject} is needed")
    found = sha256_of(target)
    if recording.sha256 is not None and found != recording.sha256:
        raise InputError(
            f"{source}: SHA-256 is {found}, should be {recording.sha256}; fetch it again, or"
            f" correct the sum of {recording.subject} in params.yaml if you changed the recording"
        )
