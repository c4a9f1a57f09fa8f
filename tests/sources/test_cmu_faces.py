import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

import pytest

import packing
from happymaps.errors import InputError
from happymaps.sources.cmu_faces import collect, fetch
from happymaps.sources.face_names import FaceName, parse_name, person_of
from happymaps.sources.manifests import read_manifest
from packing import contents, write_folder

pytestmark = pytest.mark.usefixtures("no_mirror")

COMMITTED = Path(__file__).parents[2] / "data/manifests/cmu_faces.sha256"
UNREACHABLE = "http://127.0.0.1:1/faces.zip"
FACES = {
    "an2i/an2i_left_angry_open.pgm": b"P5 left",
    "an2i/an2i_left_angry_open_2.pgm": b"P5 left, half",
    "an2i/an2i_up_sad_sunglasses_4.bad": b"P5 damaged",
    "ch4f/ch4f_straight_neutral_open.pgm": b"P5 straight",
}
MANIFEST = {name: hashlib.sha256(content).hexdigest() for name, content in FACES.items()}
FIRST = next(iter(FACES))


def zipped(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    return packing.zipped(path, ((f"faces/{name}", content) for name, content in members))


def tarred(path: Path, files: Mapping[str, bytes]) -> Path:
    return packing.tarred(path, ((f"./faces/{name}", data) for name, data in files.items()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "an2i_left_angry_open.pgm",
            FaceName("an2i", "left", "angry", "open", scale=1, bad=False),
        ),
        (
            "ch4f_up_happy_sunglasses_2.pgm",
            FaceName("ch4f", "up", "happy", "sunglasses", scale=2, bad=False),
        ),
        (
            "bpm_straight_neutral_open_4.bad",
            FaceName("bpm", "straight", "neutral", "open", scale=4, bad=True),
        ),
        (
            "kk49_right_sad_open.bad",
            FaceName("kk49", "right", "sad", "open", scale=1, bad=True),
        ),
    ],
)
def test_names(name: str, expected: FaceName) -> None:
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        "README",
        "an2i_left_angry_open",
        "an2i_left_angry_open.png",
        "an2i_left_angry_open.pgm.gz",
        "an2i_left_angry_open_3.pgm",
        "an2i_left_angry_open_22.pgm",
        "an2i_left_angry_open_1.pgm",
        "an2i_down_angry_open.pgm",
        "an2i_left_bored_open.pgm",
        "an2i_left_angry_closed.pgm",
        "an2i_left_angry.pgm",
        "_left_angry_open.pgm",
        "an_2i_left_angry_open.pgm",
        "AN2I_left_angry_open.pgm",
        "an2i/an2i_left_angry_open.pgm",
        " an2i_left_angry_open.pgm",
        "an2i_left_angry_open.pgm\n",
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert parse_name(name) is None


def test_who_is_in_a_picture_of_the_other_sets() -> None:
    assert person_of("Abdel_Aziz_Al-Hakim_02.jpg") == "Abdel_Aziz_Al-Hakim"
    assert person_of("images/Bo_0010.jpg") == "Bo"


def test_the_committed_manifest() -> None:
    manifest = read_manifest(COMMITTED)
    assert len(manifest) == 1888
    assert len(set(manifest.values())) == 1888
    assert len({PurePath(path).parts[0] for path in manifest}) == 20
    counts: Counter[tuple[int, bool]] = Counter()
    for path in manifest:
        folder, file_name = PurePath(path).parts
        name = parse_name(file_name)
        assert name is not None
        assert name.subject == folder
        counts[name.scale, name.bad] += 1
    assert counts == {(1, False): 624, (2, False): 624, (4, False): 624, (1, True): 16}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz", "tar.gz in a zip"])
def test_collect(tmp_path: Path, destination: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "folder":
        write_folder(source / "faces", FACES)
    elif kind == "zip":
        zipped(source, FACES.items())
    else:
        tarred(source, FACES)
    if kind == "tar.gz in a zip":
        inner = source.read_bytes()
        zipped(source, [("cmu.data.html", b"<html>"), ("faces.tar.gz", inner)])
    collect(source, MANIFEST, destination)
    assert contents(destination) == FACES


def test_foreign_members_are_passed_over(tmp_path: Path, destination: Path) -> None:
    foreign = {
        "README": b"read me",
        "an2i/notes.txt": b"notes",
        "an2i/an2i_left_sad_open.pgm": b"not in the manifest",
        "new/new_left_angry_open.pgm": b"not in the manifest",
        "an2i_left_angry_open.pgm": b"in no folder of a person",
    }
    collect(
        zipped(tmp_path / "faces.zip", [*foreign.items(), *FACES.items()]), MANIFEST, destination
    )
    assert contents(destination) == FACES


@pytest.mark.parametrize("right_first", [True, False])
def test_of_two_copies_the_right_one_is_taken(
    tmp_path: Path, destination: Path, right_first: bool
) -> None:
    copies = [(f"old/{FIRST}", b"damaged"), *((f"new/{name}", FACES[name]) for name in FACES)]
    source = zipped(tmp_path / "faces.zip", reversed(copies) if right_first else copies)
    collect(source, MANIFEST, destination)
    assert contents(destination) == FACES


def test_missing_images_are_named(tmp_path: Path, destination: Path) -> None:
    some = list(FACES.items())[1:3]
    with pytest.raises(InputError, match=rf"faces\.zip: 2 of 4 images are missing.*{FIRST}"):
        collect(zipped(tmp_path / "faces.zip", some), MANIFEST, destination)
    assert contents(destination).items() <= FACES.items()


def test_a_wrong_hash_is_named_and_not_written(tmp_path: Path, destination: Path) -> None:
    source = zipped(tmp_path / "faces.zip", {**FACES, FIRST: b"P5 left?"}.items())
    with pytest.raises(InputError, match=rf"faces\.zip: {FIRST} has SHA-256") as caught:
        collect(source, MANIFEST, destination)
    assert MANIFEST[FIRST] in str(caught.value)
    assert hashlib.sha256(b"P5 left?").hexdigest() in str(caught.value)
    assert FIRST not in contents(destination)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_cut_archive_never_passes(tmp_path: Path, destination: Path, part: float) -> None:
    source = tarred(tmp_path / "faces.tar.gz", FACES)
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError, match=r"faces\.tar\.gz"):
        collect(source, MANIFEST, destination)
    assert contents(destination).items() <= FACES.items()


def test_path_comes_first(
    tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path / "none"))
    source = zipped(tmp_path / "own.zip", FACES.items())
    assert fetch(source, UNREACHABLE, MANIFEST, destination) == "path"
    assert contents(destination) == FACES


def test_a_missing_path_is_not_replaced_by_the_mirror(
    tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped(tmp_path / "cmu_faces.zip", FACES.items())
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path))
    with pytest.raises(InputError, match=r"none\.zip: no such file"):
        fetch(tmp_path / "none.zip", UNREACHABLE, MANIFEST, destination)
    assert contents(destination) == {}


@pytest.mark.parametrize("name", ["cmu_faces", "cmu_faces.tar.gz", "cmu+face+images.zip"])
def test_mirror_comes_second(
    tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "cmu_faces":
        write_folder(tmp_path / name, FACES)
    elif name.endswith("gz"):
        tarred(tmp_path / name, FACES)
    else:
        zipped(tmp_path / name, FACES.items())
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path))
    assert fetch(None, UNREACHABLE, MANIFEST, destination) == "mirror"
    assert contents(destination) == FACES


@pytest.mark.parametrize("mirror", [True, False])
def test_network_comes_last(
    tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch, address: str, mirror: bool
) -> None:
    if mirror:
        (tmp_path / "mirror of other things").mkdir()
        monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path / "mirror of other things"))
    zipped(tmp_path / "faces.zip", FACES.items())
    assert fetch(None, f"{address}/faces.zip", MANIFEST, destination) == "network"
    assert contents(destination) == FACES


def test_the_network_has_none(destination: Path, address: str) -> None:
    with pytest.raises(InputError, match="HTTP status 404"):
        fetch(None, f"{address}/faces.zip", MANIFEST, destination)
    assert contents(destination) == {}


def test_what_is_wrong_with_a_download_is_said_of_its_address(
    tmp_path: Path, destination: Path, no_mirror: None, address: str
) -> None:
    (tmp_path / "faces.zip").write_text("<html>Log in first</html>")
    with pytest.raises(InputError, match=rf"^{address}/faces\.zip: not an archive"):
        fetch(None, f"{address}/faces.zip", MANIFEST, destination)
