import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from happymaps.errors import InputError
from happymaps.sources.face_names import person_of
from happymaps.sources.facial_expressions import fetch
from happymaps.sources.manifests import read_manifest
from packing import contents, tarred, write_folder, zipped
from toys import ROOT

pytestmark = pytest.mark.usefixtures("no_mirror")

COMMITTED = ROOT / "data/manifests/facial_expressions.sha256"
UNREACHABLE = "http://127.0.0.1:1/faces.zip"
FACES = {"images/Ann_Lee_0001.jpg": b"face of Ann", "images/Bo_0010.jpg": b"face of Bo"}
MANIFEST = {name: hashlib.sha256(content).hexdigest() for name, content in FACES.items()}
# As published, more faces than are wanted lie there, under one folder and with much else.
PUBLISHED = {f"set-main/{name}": content for name, content in FACES.items()} | {
    "set-main/images/Cy_0001.jpg": b"not wanted",
    "set-main/data/legend.csv": b"user.id,image,emotion",
}


@pytest.mark.parametrize("pack", [write_folder, tarred, zipped])
def test_faces_come_out_alike_however_they_are_handed_out(
    tmp_path: Path, destination: Path, pack: Callable[[Path, Mapping[str, bytes]], Path]
) -> None:
    source = pack(tmp_path / "faces.tar", PUBLISHED)
    assert fetch(source, UNREACHABLE, MANIFEST, destination) == "path"
    assert contents(destination) == FACES


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"set-main/images/Bo_0010.jpg": b"somebody else"}, "images/Bo_0010.jpg has SHA-256"),
        ({"set-main/images/Bo_0010.jpg": None}, "1 of 2 images are missing.*images/Bo_0010.jpg"),
    ],
)
def test_what_is_not_as_published_is_named(
    tmp_path: Path, destination: Path, change: Mapping[str, bytes | None], why: str
) -> None:
    files = {name: data for name, data in {**PUBLISHED, **change}.items() if data is not None}
    with pytest.raises(InputError, match=rf"faces\.zip: .*({why})"):
        fetch(zipped(tmp_path / "faces.zip", files), UNREACHABLE, MANIFEST, destination)


def test_the_committed_manifest() -> None:
    manifest = read_manifest(COMMITTED)
    assert list(manifest) == sorted(manifest)
    assert len(manifest) == 1786
    assert all(name.startswith("images/") and person_of(name) for name in manifest)
