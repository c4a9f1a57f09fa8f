"""The published archives, where there is a mirror with them."""

import hashlib
import os
from pathlib import Path
from types import ModuleType

import pytest

from happymaps.sources import cmu_faces, facial_expressions, youtube_faces
from happymaps.sources.manifests import read_manifest
from packing import contents
from toys import ROOT

MIRROR = Path(os.environ.get("HAPPYMAPS_MIRROR", "none"))
UNREACHABLE = "http://127.0.0.1:1/faces.zip"


@pytest.mark.parametrize(
    ("source", "archive"),
    [
        (cmu_faces, "cmu_faces.tar.gz"),
        (youtube_faces, "youtube_faces_68pt.tar"),
        (facial_expressions, "facial_expressions_5class.tar"),
    ],
)
def test_the_real_archive(
    source: ModuleType, archive: str, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (MIRROR / archive).is_file():
        pytest.skip(f"no mirror with {archive}")
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(MIRROR))
    name = source.__name__.rpartition(".")[2]
    manifest = read_manifest(ROOT / f"data/manifests/{name}.sha256")
    assert source.fetch(None, UNREACHABLE, manifest, destination) == "mirror"
    found = contents(destination)
    assert {name: hashlib.sha256(found[name]).hexdigest() for name in found} == manifest
