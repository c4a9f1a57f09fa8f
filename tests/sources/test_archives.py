import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from happymaps.errors import InputError
from happymaps.sources.archives import Limits, iter_members
from packing import write_folder

NOISE = random.Random(0)
FILES = {
    "faces/an2i/an2i_left.pgm": NOISE.randbytes(3000),
    "faces/an2i/an2i_right.pgm": NOISE.randbytes(700),
    "faces/bpm/empty.pgm": b"",
    "README": b"read me\n",
}


def tar(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        folder = tarfile.TarInfo("faces")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("faces/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


PACKERS: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "tar": tar,
    "tar.gz": lambda files: gzip.compress(tar(files)),
    "tar.bz2": lambda files: bz2.compress(tar(files)),
    "tar.xz": lambda files: lzma.compress(tar(files)),
    "zip": zipped,
}


def members(path: Path, content: bytes, limits: Limits | None = None) -> dict[str, bytes]:
    path.write_bytes(content)
    listed = list(iter_members(path, limits))
    assert len(dict(listed)) == len(listed)
    return dict(listed)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("suffix", ["right", "wrong.zip", "wrong.tar"])
def test_every_kind_of_archive_whatever_its_name(tmp_path: Path, kind: str, suffix: str) -> None:
    name = f"faces.{kind if suffix == 'right' else suffix}"
    assert members(tmp_path / name, PACKERS[kind](FILES)) == FILES


def test_folder_in_order_and_without_its_folders(tmp_path: Path) -> None:
    write_folder(tmp_path, FILES)
    assert list(iter_members(tmp_path)) == sorted(FILES.items())


def test_empty_folder_and_empty_archives(tmp_path: Path) -> None:
    assert list(iter_members(tmp_path)) == []
    for kind, pack in PACKERS.items():
        assert members(tmp_path / kind, pack({})) == {}


@pytest.mark.parametrize("inner", PACKERS)
@pytest.mark.parametrize("outer", [*PACKERS, "folder"])
def test_archives_in_archives(tmp_path: Path, outer: str, inner: str) -> None:
    """As UCI publishes: a zip with a tar.gz beside readmes, packed by whatever machine."""
    beside = {
        "NOTES.gz": b"\x1f\x8b but not a tar",
        "index.txt.xz": b"nor this",
        "__MACOSX/._faces.tar.gz": b"\x00\x05\x16\x07 attributes",
    }
    files = {f"parts/faces.{inner}": PACKERS[inner](FILES), **beside}
    if outer == "folder":
        found = dict(iter_members(write_folder(tmp_path, files)))
    else:
        found = members(tmp_path / "published", PACKERS[outer](files))
    assert found == {**FILES, **beside}


@pytest.mark.parametrize(
    ("short", "kind"), [("tgz", "tar.gz"), ("tbz2", "tar.bz2"), ("txz", "tar.xz")]
)
def test_short_suffixes_are_known_inside_as_well(tmp_path: Path, short: str, kind: str) -> None:
    files = {f"parts/faces.{short}": PACKERS[kind](FILES)}
    assert members(tmp_path / "published.zip", zipped(files)) == FILES
    assert dict(iter_members(write_folder(tmp_path / "folder", files))) == FILES


def test_nesting_has_an_end(tmp_path: Path) -> None:
    content = zipped(FILES)
    for _ in range(3):
        content = zipped({"in.zip": content})
    assert members(tmp_path / "4.zip", content) == FILES
    with pytest.raises(InputError, match=r"5\.zip/in\.zip.*nested more than 4 deep"):
        members(tmp_path / "5.zip", zipped({"in.zip": content}))


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../up.pgm", "a/../../up.pgm", "a/..", "..\\up.pgm", "\\\\host\\up", "C:\\up"],
)
def test_hostile_names(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(InputError, match=rf"faces\.{kind}: .*points outside the archive"):
        members(tmp_path / f"faces.{kind}", PACKERS[kind]({name: b"x"}))


@pytest.mark.parametrize("name", ["a..b/c...pgm", "..a", "./a", ".hidden/x"])
def test_harmless_names_with_dots(tmp_path: Path, name: str) -> None:
    for kind, pack in PACKERS.items():
        assert members(tmp_path / kind, pack({name: b"x"})) == {name: b"x"}


def test_a_zip_of_an_old_windows_tool(tmp_path: Path) -> None:
    content = zipped({"faces\\an2i\\a.pgm": b"x", "faces\\bpm\\": b""})
    assert members(tmp_path / "faces.zip", content) == {"faces/an2i/a.pgm": b"x"}


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "faces.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("an2i/odd.pgm")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(InputError, match=r"odd\.pgm is a link or device"):
        list(iter_members(path))


@pytest.mark.parametrize("kind", [0o120000, 0o020000, 0o060000, 0o010000])
def test_links_and_devices_in_a_zip(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("an2i/odd.pgm")
        info.external_attr = (kind | 0o644) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match=r"odd\.pgm is a link or device"):
        list(iter_members(path))


def test_a_zip_that_says_of_what_kind_its_members_are(tmp_path: Path) -> None:
    """As every Unix packs them."""
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, kind in (("an2i/", 0o040755), ("an2i/a.pgm", 0o100644)):
            info = zipfile.ZipInfo(name)
            info.external_attr = kind << 16
            archive.writestr(info, b"" if name.endswith("/") else b"x")
    assert dict(iter_members(path)) == {"an2i/a.pgm": b"x"}


MIB = 1 << 20
BOMBS = {
    **{kind: pack({"zeros": bytes(8 * MIB)}) for kind, pack in PACKERS.items()},
    "many small": zipped({f"{number}": bytes(MIB // 4) for number in range(12)}),
    "zip in zip": zipped({"a.zip": zipped({"zeros": bytes(8 * MIB)})}),
    "tar.xz in zip": zipped({"a.tar.xz": lzma.compress(tar({"zeros": bytes(8 * MIB)}))}),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(tmp_path: Path, bomb: str) -> None:
    with pytest.raises(InputError, match="unpacks to more than 2 MiB"):
        members(tmp_path / "bomb", BOMBS[bomb], Limits(total_bytes=2 * MIB))


def test_a_bomb_of_holes(tmp_path: Path) -> None:
    """A sparse member claims any size without a byte in the stream."""
    path = tmp_path / "bomb.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("holes")
        info.size = 1
        info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(8 * MIB)}
        archive.addfile(info, io.BytesIO(b"x"))
    assert len(dict(iter_members(path))["holes"]) == 8 * MIB
    with pytest.raises(InputError, match="unpacks to more than 2 MiB"):
        list(iter_members(path, Limits(total_bytes=2 * MIB)))


def test_a_bomb_in_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": bytes(MIB), "b": bytes(2 * MIB)})
    with pytest.raises(InputError, match="unpacks to more than 2 MiB"):
        list(iter_members(tmp_path, Limits(total_bytes=2 * MIB)))


@pytest.mark.parametrize("kind", [*PACKERS, "folder"])
def test_too_many_members(tmp_path: Path, kind: str) -> None:
    files = {f"{number}.pgm": b"x" for number in range(20)}
    path = tmp_path / "many"
    if kind == "folder":
        write_folder(path, files)
    else:
        path.write_bytes(PACKERS[kind](files))
    assert len(list(iter_members(path, Limits(members=21)))) == 20  # archives hold `faces/` too
    with pytest.raises(InputError, match="more than 19 members"):
        list(iter_members(path, Limits(members=19)))


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_cut_off_anywhere(tmp_path: Path, kind: str) -> None:
    """Never fewer members without an error; of what is no content, the end may be missing."""
    whole = PACKERS[kind](FILES)
    path = tmp_path / f"faces.{kind}"
    complete = 0
    for cut in [*range(0, len(whole), 97), *range(len(whole) - 60, len(whole))]:
        try:
            assert members(path, whole[:cut]) == FILES
            complete += 1
            assert cut > len(whole) - 60
        except InputError as error:
            assert str(path) in str(error)
    assert complete < 60


@pytest.mark.parametrize("cut", [100, 512 + 100, 512 + 512 + 1000])
def test_a_plain_tar_cut_in_a_header_or_a_member(tmp_path: Path, cut: int) -> None:
    content = tar(FILES)
    try:
        found = members(tmp_path / "faces.tar", content[:cut])
    except InputError:
        return
    assert found == {}  # a tar that ends between two members cannot be told from a whole one


@pytest.mark.parametrize(
    "content", [b"", b"a text\n", b"a text\n" * 300, b"PK but no zip", b"\x89PNG\r\n\x1a\n" * 99]
)
def test_not_an_archive(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"faces\.tar\.gz: (not an archive|damaged)"):
        members(tmp_path / "faces.tar.gz", content)


@pytest.mark.parametrize("name", ["faces.tar.gz", "faces.zip", "faces.TAR"])
def test_a_damaged_archive_inside_is_named(tmp_path: Path, name: str) -> None:
    files = {**FILES, name: b"a text\n" * 99}
    with pytest.raises(InputError, match=rf"outer\.zip/{name}: not an archive"):
        members(tmp_path / "outer.zip", zipped(files))
    with pytest.raises(InputError, match=rf"folder/{name}: not an archive"):
        list(iter_members(write_folder(tmp_path / "folder", files)))


def test_a_flipped_byte_in_a_zip(tmp_path: Path) -> None:
    content = bytearray(zipped(FILES, zipfile.ZIP_STORED))
    content[content.index(FILES["faces/an2i/an2i_left.pgm"]) + 5] ^= 1
    with pytest.raises(InputError, match=r"damaged or truncated.*CRC"):
        members(tmp_path / "faces.zip", bytes(content))


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_flipped_byte_in_a_packed_tar(tmp_path: Path, kind: str) -> None:
    """The sum of a gzip stands at its end, behind all that a tar needs to be read."""
    whole = PACKERS[kind](FILES)
    for place in (300, 1000, 2000):  # within the first member
        hurt = bytearray(whole)
        hurt[place] ^= 1
        with pytest.raises(InputError, match=rf"faces\.{kind}: damaged or truncated"):
            members(tmp_path / f"faces.{kind}", bytes(hurt))


def test_flipped_bytes_of_a_zip_inside_are_damage_at_worst(tmp_path: Path) -> None:
    whole, draw = zipped(FILES), random.Random(0)
    for _ in range(100):
        hurt = bytearray(whole)
        hurt[draw.randrange(-22, 0)] ^= draw.randrange(1, 256)  # where it says what it has
        try:
            members(tmp_path / "outer.zip", zipped({"a.zip": bytes(hurt)}))
        except InputError as error:
            assert str(error).startswith(f"{tmp_path}/outer.zip")


@pytest.mark.parametrize("kind", ["tar.bz2", "tar.xz", "zip"])
def test_bytes_overwritten_within_are_damage(tmp_path: Path, kind: str) -> None:
    text = "".join(f"line {number}\n" for number in range(9000)).encode()
    content = bytearray(PACKERS[kind]({"a.txt": text, "b.txt": text[::-1]}))
    for place in (3, 5, 7):
        hurt, start = content.copy(), len(content) * place // 10
        hurt[start : start + 40] = b"\xff" * 40
        with pytest.raises(InputError, match=rf"faces\.{kind}: damaged or truncated"):
            members(tmp_path / f"faces.{kind}", bytes(hurt))


@pytest.mark.parametrize("header", ["GNU.sparse.size", "GNU.sparse.realsize"])
def test_a_tar_whose_header_is_no_number(tmp_path: Path, header: str) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.pgm")
        info.pax_headers = {header: "123456789"}
        archive.addfile(info)
    content = file.getvalue().replace(b"=123456789", b"=nonumber!")
    assert content != file.getvalue()
    with pytest.raises(InputError, match=r"a\.tar: damaged or truncated"):
        members(tmp_path / "a.tar", content)


def test_an_encrypted_zip(tmp_path: Path) -> None:
    content = bytearray(zipped({"an2i/a.pgm": b"secret"}))
    content[content.rindex(b"PK\x03\x04") + 6] |= 1  # general purpose flags, bit 0
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(InputError, match=r"faces\.zip.*encrypted"):
        members(tmp_path / "faces.zip", bytes(content))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["a.zip", "folder/a.txt", "folder/a.zip"])
def test_what_may_not_be_read_is_not_called_damaged(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(zipped({"a.txt": b"a"}))
    file.chmod(0)
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(Permission denied\)"):
        list(iter_members(tmp_path / name.split("/")[0]))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    # Reading a process's memory at 0 fails for everybody.
    (tmp_path / "memory").symlink_to("/proc/self/mem")
    with pytest.raises(InputError, match=r"cannot be read \(Input/output error\)"):
        list(iter_members(tmp_path))


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.zip: no such file or folder"):
        list(iter_members(tmp_path / "none.zip"))
