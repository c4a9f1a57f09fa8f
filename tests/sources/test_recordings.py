import hashlib
from pathlib import Path

import pytest

from happymaps.errors import InputError
from happymaps.params import RecordingParams
from happymaps.sources.recordings import fetch

VIDEO = b"some video"
SUM = hashlib.sha256(VIDEO).hexdigest()
BEFORE = Path("nothing/fetched/before")
UNREACHABLE = "http://127.0.0.1:1/clip.mp4"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `recordings/` of a mirror."""
    folder = tmp_path / "mirror" / "recordings"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(folder.parent))
    return folder


def recording(
    path: Path | None = None, url: str | None = None, sha256: str | None = SUM
) -> RecordingParams:
    return RecordingParams(subject="me", path=path, url=url, sha256=sha256)


@pytest.mark.parametrize("sha256", [SUM, None])
def test_path_comes_first(
    tmp_path: Path, destination: Path, mirror: Path, sha256: str | None
) -> None:
    (mirror / "me.mov").write_bytes(b"another")
    own = tmp_path / "holiday 1.mov"
    own.write_bytes(VIDEO)
    assert fetch(recording(own, UNREACHABLE, sha256), destination, BEFORE) == "path"
    assert (destination / "me.mov").read_bytes() == VIDEO
    assert own.read_bytes() == VIDEO


@pytest.mark.parametrize("query", ["", "?raw=true.gif"])
def test_mirror_comes_second(destination: Path, mirror: Path, query: str) -> None:
    (mirror / "me.mp4").write_bytes(VIDEO)
    assert fetch(recording(url=UNREACHABLE + query), destination, BEFORE) == "mirror"
    assert (destination / "me.mp4").read_bytes() == VIDEO


def test_network_comes_last(tmp_path: Path, destination: Path, mirror: Path, address: str) -> None:
    (mirror / "you.mp4").write_bytes(b"another")
    (mirror.parent / "me.mp4").write_bytes(b"another")
    (tmp_path / "clip.mp4").write_bytes(VIDEO)
    assert fetch(recording(url=f"{address}/clip.mp4"), destination, BEFORE) == "network"
    assert (destination / "me.mp4").read_bytes() == VIDEO


@pytest.mark.parametrize("origin", ["path", "mirror", "network"])
@pytest.mark.parametrize(
    ("content", "reason"), [(b"another", "SHA-256 is .*, should be"), (b"", "empty")]
)
def test_wrong_content_is_refused_wherever_it_comes_from(
    tmp_path: Path, destination: Path, mirror: Path, address: str, origin: str, content: bytes,
    reason: str,
) -> None:  # fmt: skip
    (tmp_path / "clip.mp4").write_bytes(content)
    wanted = recording(url=f"{address}/clip.mp4")
    if origin == "mirror":
        (mirror / "me.mp4").write_bytes(content)
    if origin == "path":
        wanted = recording(tmp_path / "clip.mp4")
    where = f"{address}/clip.mp4" if origin == "network" else str(mirror.parent.parent)
    with pytest.raises(InputError, match=f"^{where}.*{reason}") as caught:
        fetch(wanted, destination, BEFORE)
    assert " me" in str(caught.value)


def test_an_own_file_without_a_hash_must_not_be_empty(tmp_path: Path, destination: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(InputError, match="empty"):
        fetch(
            recording(tmp_path / "clip.mp4", sha256=None),
            destination,
            destination.parent / "before",
        )


def test_missing_path(tmp_path: Path, destination: Path, mirror: Path) -> None:
    (mirror / "me.mp4").write_bytes(VIDEO)
    with pytest.raises(InputError, match=r"none\.mp4: no such recording \(of me\)"):
        fetch(
            recording(tmp_path / "none.mp4", UNREACHABLE),
            destination,
            destination.parent / "before",
        )
    assert list(destination.iterdir()) == []


def test_missing_on_the_network(destination: Path, mirror: Path, address: str) -> None:
    with pytest.raises(InputError, match="HTTP status 404"):
        fetch(recording(url=f"{address}/none.mp4"), destination, BEFORE)
    assert list(destination.iterdir()) == []


@pytest.mark.usefixtures("impatient")
def test_what_was_fetched_before_is_not_fetched_again(tmp_path: Path, destination: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    (before / "anna.mp4").write_bytes(VIDEO)
    known = RecordingParams(subject="anna", url=UNREACHABLE, sha256=SUM)
    assert fetch(known, destination, before) == "last time"
    assert (destination / "anna.mp4").read_bytes() == VIDEO
    (before / "anna.mp4").write_bytes(VIDEO + b"other")
    (destination / "anna.mp4").unlink()
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch(known, destination, before)
