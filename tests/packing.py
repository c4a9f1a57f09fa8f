"""Files as folders and archives, for tests of the sources, and what stands in a folder."""

import io
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

# Pairs, where a name comes twice or the order matters.
Files = Mapping[str, bytes] | Iterable[tuple[str, bytes]]


def _pairs(files: Files) -> Iterator[tuple[str, bytes]]:
    yield from files.items() if isinstance(files, Mapping) else files


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in _pairs(files):
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Files) -> Path:
    """Compressed as the name says, by gzip where it says nothing."""
    if path.suffix == ".xz":
        archive = tarfile.open(path, "w:xz")  # noqa: SIM115
    elif path.suffix == ".tar":
        archive = tarfile.open(path, "w")  # noqa: SIM115
    else:
        archive = tarfile.open(path, "w:gz")  # noqa: SIM115
    with archive:
        for name, content in _pairs(files):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_folder(folder: Path, files: Files) -> Path:
    for name, content in _pairs(files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
