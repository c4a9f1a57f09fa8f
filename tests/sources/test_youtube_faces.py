import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from happymaps.errors import InputError
from happymaps.sources.face_names import person_of
from happymaps.sources.manifests import read_manifest
from happymaps.sources.youtube_faces import (
    LANDMARKS,
    collect,
    fetch,
    read_landmarks,
    table_of,
)
from packing import contents, tarred, write_folder, zipped
from toys import ROOT

pytestmark = pytest.mark.usefixtures("no_mirror")

COMMITTED = ROOT / "data/manifests/youtube_faces.sha256"
UNREACHABLE = "http://127.0.0.1:1/faces.zip"
FRAMES = {"Ann_Lee_00.jpg": b"frame of Ann", "Ann_Lee_01.jpg": b"another", "Bo_10.jpg": b"of Bo"}
POINTS = {
    name: np.random.default_rng(number).integers(0, 200, (68, 2)).astype(float)
    for number, name in enumerate(FRAMES)
}
TABLE = table_of(POINTS)
MANIFEST = {
    f"images/{name}": hashlib.sha256(content).hexdigest() for name, content in FRAMES.items()
} | {LANDMARKS: hashlib.sha256(TABLE).hexdigest()}
EXPECTED = {f"images/{name}": content for name, content in FRAMES.items()} | {LANDMARKS: TABLE}


def row(name: str) -> bytes:
    return f"{name},{','.join(map(str, POINTS[name].ravel()))}\n".encode()


HEAD = b",".join(str(number).encode() for number in range(136)) + b"\n"
# As the course hands them out: in two parts, with tables of their own, and much else.
COURSE = {
    "course/data/training/Ann_Lee_00.jpg": FRAMES["Ann_Lee_00.jpg"],
    "course/data/training/Bo_10.jpg": FRAMES["Bo_10.jpg"],
    "course/data/test/Ann_Lee_01.jpg": FRAMES["Ann_Lee_01.jpg"],
    "course/data/test/Cy_00.jpg": b"who was taken out",
    "course/data/training_frames_keypoints.csv": b"," + HEAD + row("Bo_10.jpg")
    + row("Ann_Lee_00.jpg"),
    "course/data/test_frames_keypoints.csv": b"," + HEAD + row("Ann_Lee_01.jpg"),
    "course/README.md": b"read me",
}  # fmt: skip
PUBLISHED = {f"faces/images/{name}": content for name, content in FRAMES.items()} | {
    "faces/keypoints.csv": b"image," + HEAD + b"\n".join(map(row, FRAMES)),  # and empty lines
    "faces/LICENSE": b"MIT",
    "faces/._keypoints.csv": b"a\rb,1\n",  # of a Mac's
}


@pytest.mark.parametrize("files", [PUBLISHED, COURSE])
@pytest.mark.parametrize("pack", [write_folder, tarred, zipped])
def test_frames_and_landmarks_come_out_alike_however_they_are_handed_out(
    tmp_path: Path,
    destination: Path,
    pack: Callable[[Path, Mapping[str, bytes]], Path],
    files: Mapping[str, bytes],
) -> None:
    collect(pack(tmp_path / "source.tar", files), MANIFEST, destination)
    assert contents(destination) == EXPECTED
    names, points = read_landmarks(destination / LANDMARKS)
    assert names.tolist() == list(FRAMES)
    assert (points == np.stack(list(POINTS.values()))).all()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"faces/images/Bo_10.jpg": b"somebody else"}, "images/Bo_10.jpg has SHA-256"),
        ({"faces/images/Bo_10.jpg": None}, "1 of 3 images are missing.*images/Bo_10.jpg"),
        ({"faces/keypoints.csv": None}, "Ann_Lee_00.jpg has no 68 landmarks"),
        ({"faces/keypoints.csv": b"image," + HEAD + row("Bo_10.jpg")}, "Ann_Lee_00.jpg has no 68"),
        ({"faces/keypoints.csv": PUBLISHED["faces/keypoints.csv"][:-9]}, "Bo_10.jpg has no 68"),
        (
            {"faces/keypoints.csv": row("Ann_Lee_00.jpg") + b"Ann_Lee_01.jpg" + b",nan" * 136},
            "Ann_Lee_01.jpg has no 68",
        ),
        (
            {
                "faces/keypoints.csv": row("Ann_Lee_00.jpg")
                + b"Ann_Lee_01.jpg"
                + b",1" * 135
                + b",inf"
            },
            "Ann_Lee_01.jpg has no 68",
        ),
        (
            {"faces/keypoints.csv": PUBLISHED["faces/keypoints.csv"].replace(b".0", b".5")},
            "the landmarks have SHA-256",
        ),
        ({"faces/keypoints.csv": b"\xff\xfe\x00"}, "has no 68 landmarks"),
        ({"faces/keypoints.csv": b"a\rb,1\n"}, "keypoints.csv is no table"),
    ],
)
def test_what_is_not_as_published_is_named_and_no_table_written(
    tmp_path: Path, destination: Path, change: Mapping[str, bytes | None], why: str
) -> None:
    files = {name: data for name, data in {**PUBLISHED, **change}.items() if data is not None}
    with pytest.raises(InputError, match=rf"faces\.zip: .*({why})"):
        collect(zipped(tmp_path / "faces.zip", files), MANIFEST, destination)
    assert LANDMARKS not in contents(destination)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_cut_archive_never_passes(tmp_path: Path, destination: Path, part: float) -> None:
    source = tarred(tmp_path / "faces.tar", PUBLISHED)
    content = source.read_bytes()
    # The end of a tar is padding.
    source.write_bytes(content[: int(len(content.rstrip(b"\0")) * part)])
    with pytest.raises(InputError, match=r"faces\.tar"):
        collect(source, MANIFEST, destination)
    assert LANDMARKS not in contents(destination)


def test_path_then_mirror_then_network(
    tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    own = zipped(tmp_path / "own.zip", PUBLISHED)
    assert fetch(None, f"{address}/own.zip", MANIFEST, destination) == "network"
    assert contents(destination) == EXPECTED
    mirror = tmp_path / "a mirror"
    mirror.mkdir()
    tarred(mirror / "youtube_faces_68pt.tar", PUBLISHED)
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(mirror))
    for path, place in ((None, "mirror"), (own, "path")):
        (tmp_path / place).mkdir()
        assert fetch(path, UNREACHABLE, MANIFEST, tmp_path / place) == place
        assert contents(tmp_path / place) == EXPECTED


def test_the_committed_manifest() -> None:
    manifest = read_manifest(COMMITTED)
    assert list(manifest) == sorted(manifest)
    frames = manifest.keys() - {LANDMARKS}
    assert len(frames) == len(manifest) - 1 == 1206
    assert len({person_of(name) for name in frames}) == 121
