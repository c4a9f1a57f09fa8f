"""Folders and archives, nested as deep as publishers nest them, read without unpacking to disk.

Members are handed over as bytes and never written under the name they carry, so a hostile name
has nowhere to go; it is refused all the same, because an archive that carries one is not the one
that was meant.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from happymaps.errors import InputError

# A README.gz is one packed file, not an archive: it is handed over as it is.
_ARCHIVE_SUFFIXES = (
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz",
)  # fmt: skip
_MAX_DEPTH = 4
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError,
    NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Limits:
    """What an honest archive stays under: bytes of all members, unpacked, and their number."""

    total_bytes: int = 1 << 30
    members: int = 200_000


@dataclass
class _Budget:
    limits: Limits
    source: Path
    bytes_read: int = 0
    members_seen: int = 0

    def spend(self, size: int) -> None:
        self.bytes_read += size
        if self.bytes_read > self.limits.total_bytes:
            raise InputError(
                f"{self.source}: unpacks to more than {self.limits.total_bytes >> 20} MiB;"
                " not the archive that is wanted, or a bomb"
            )

    def count(self) -> None:
        self.members_seen += 1
        if self.members_seen > self.limits.members:
            raise InputError(
                f"{self.source}: holds more than {self.limits.members} members;"
                " not the archive that is wanted, or a bomb"
            )

    def read(self, file: IO[bytes]) -> bytes:
        """All of `file`, stopping at the limit instead of trusting the size it claims."""
        chunks = []
        while chunk := file.read(1 << 20):
            self.spend(len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)


def iter_members(source: Path, limits: Limits | None = None) -> Iterator[tuple[str, bytes]]:
    """Every regular file in a folder, zip, tar, tar.gz/bz2/xz, or a nesting of them.

    Args:
        source: the folder or the archive.
        limits: refuse what unpacks to more.

    Yields:
        The member's path inside its own archive, with forward slashes, and its content.

    Raises:
        InputError: not found, without permission, neither folder nor archive, damaged or truncated,
            a member with an absolute path, with `..` or that is a link or device, or beyond
            `limits`.
    """
    budget = _Budget(limits or Limits(), source)
    try:
        if source.is_dir():
            yield from _folder_members(source, budget)
        elif source.is_file():
            yield from _opened_members(source, budget)
        else:
            raise InputError(f"{source}: no such file or folder")
    except OSError as error:
        name = error.filename or source
        raise InputError(f"{name}: cannot be read ({error.strerror})") from error


def _folder_members(folder: Path, budget: _Budget) -> Iterator[tuple[str, bytes]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if _is_archive_name(name):
            yield from _opened_members(path, budget)
        else:
            budget.count()
            with path.open("rb") as file:
                yield name, budget.read(file)


def _opened_members(archive: Path, budget: _Budget) -> Iterator[tuple[str, bytes]]:
    with archive.open("rb") as file:
        try:
            yield from _archive_members(file, str(archive), budget, depth=1)
        except _DAMAGED as error:
            raise InputError(
                f"{archive}: damaged or truncated ({error}); fetch it again"
            ) from error


def _archive_members(
    file: IO[bytes], name: str, budget: _Budget, depth: int
) -> Iterator[tuple[str, bytes]]:
    if depth > _MAX_DEPTH:
        raise InputError(f"{name}: archives nested more than {_MAX_DEPTH} deep")
    for member, content in _flat_members(file, name, budget):
        if _is_archive_name(member):
            inner = f"{name}/{member}"
            yield from _archive_members(io.BytesIO(content), inner, budget, depth + 1)
        else:
            yield member, content


def _flat_members(file: IO[bytes], name: str, budget: _Budget) -> Iterator[tuple[str, bytes]]:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"PK"):
        yield from _zip_members(file, name, budget)
    elif magic.startswith(b"\x1f\x8b"):
        yield from _tar_members(gzip.GzipFile(fileobj=file), name, budget)
    elif magic.startswith(b"BZh"):
        yield from _tar_members(bz2.BZ2File(file), name, budget)
    elif magic.startswith(b"\xfd7zXZ\x00"):
        yield from _tar_members(lzma.LZMAFile(file), name, budget)  # noqa: SIM115
    else:
        yield from _tar_members(file, name, budget)


def _zip_members(file: IO[bytes], name: str, budget: _Budget) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            budget.count()
            path = info.filename.replace("\\", "/")  # as old Windows tools separate folders
            _refuse_hostile_name(path, name)
            kind = info.external_attr >> 28
            if kind not in (0, 0o04, 0o10):
                raise InputError(f"{name}: {info.filename} is a link or device; refused")
            if not path.endswith("/"):
                with archive.open(info) as member:
                    yield path, budget.read(member)


def _tar_members(file: _Readable, name: str, budget: _Budget) -> Iterator[tuple[str, bytes]]:
    stream = _Metered(file, budget)
    try:
        archive = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115
    except tarfile.ReadError as error:
        raise InputError(
            f"{name}: not an archive (zip, tar, tar.gz, tar.bz2 or tar.xz), or cut off at its start"
        ) from error
    with archive:
        for info in archive:
            budget.count()
            _refuse_hostile_name(info.name, name)
            if info.isfile():
                if info.issparse():
                    budget.spend(info.size)  # its holes unpack from nothing
                member = archive.extractfile(info)
                assert member is not None
                with member:
                    yield info.name, member.read()
            elif not info.isdir():
                raise InputError(f"{name}: {info.name} is a link or device; refused")
    while stream.read(1 << 20):  # to the checksum, which comes behind the last member
        pass


class _Metered(io.RawIOBase):
    """A stream that counts what is read through it: a tar's headers can lie, its length cannot."""

    def __init__(self, file: _Readable, budget: _Budget) -> None:
        self._file = file
        self._budget = budget

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._budget.spend(len(chunk))
        return chunk


def _refuse_hostile_name(member: str, archive: str) -> None:
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise InputError(f"{archive}: {member} points outside the archive; refused")


def _is_archive_name(name: str) -> bool:
    # Macs put a "._faces.tar.gz" of attributes beside every faces.tar.gz they zip.
    file_name = PurePosixPath(name).name.lower()
    return file_name.endswith(_ARCHIVE_SUFFIXES) and not file_name.startswith("._")
