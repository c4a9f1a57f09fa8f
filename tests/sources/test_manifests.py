"""Manifests of SHA-256 sums; what is collected by them is tested with the sources."""

from pathlib import Path

import pytest

from happymaps.errors import InputError
from happymaps.sources.manifests import read_manifest


def test_manifest(tmp_path: Path) -> None:
    path = tmp_path / "faces.sha256"
    path.write_text(f"{'0' * 64}  an2i/a.pgm\n{'f' * 64} *an2i/b.pgm\n")
    assert read_manifest(path) == {"an2i/a.pgm": "0" * 64, "an2i/b.pgm": "f" * 64}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# a comment",
        f"{'0' * 63}  an2i/a.pgm",
        f"{'0' * 65}  an2i/a.pgm",
        f"{'A' * 64}  an2i/a.pgm",
        f"{'0' * 64} an2i/a.pgm",
        f"{'0' * 64}  a.pgm",
        f"{'0' * 64}  faces/an2i/a.pgm",
        f"{'0' * 64}  an2i/a b.pgm",
        f"{'0' * 64}  /a.pgm",
    ],
)
def test_a_wrong_line_of_a_manifest_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "faces.sha256"
    path.write_text(f"{'0' * 64}  an2i/a.pgm\n{line}\n{'0' * 64}  an2i/c.pgm\n")
    with pytest.raises(InputError, match=r"faces\.sha256, line 2: "):
        read_manifest(path)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.sha256: no such manifest"):
        read_manifest(tmp_path / "none.sha256")
