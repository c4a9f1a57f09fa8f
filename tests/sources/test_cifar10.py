import hashlib
import io
import json
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]

from happymaps.errors import InputError
from happymaps.params import OBJECTS, Cifar10Params
from happymaps.sources.cifar10 import collect, fetch
from happymaps.stages.fetch_cifar10 import main
from packing import tarred, write_folder, zipped

pytestmark = pytest.mark.usefixtures("no_mirror")

UNREACHABLE = "http://127.0.0.1:1/cifar-10-python.tar.gz"
COUNTS = {"train": 2, "test": 1}
NAMES = [
    f"{part}/{name}/{number:04d}"
    for part, count in COUNTS.items()
    for name in OBJECTS
    for number in range(count)
]
BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
FIRST = f"{NAMES[0]}.jpg"


def drawn(count: int) -> NDArray[np.uint8]:
    """(count, 32, 32, 3): each a slope of colours from corner to corner, unlike all others."""
    corners = np.random.default_rng(0).uniform(0, 255, (count, 4, 3))
    down, right = np.mgrid[0:32, 0:32][..., None] / 31
    shares = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    images = sum(share * corners[:, [corner], None] for corner, share in enumerate(shares))
    return np.asarray(images).astype(np.uint8)


PIXELS = drawn(len(NAMES))


def encoded(pixels: NDArray[np.uint8], kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=98, subsampling=0)
    return file.getvalue()


PICTURES = {f"{name}.jpg": encoded(pixels) for name, pixels in zip(NAMES, PIXELS, strict=True)}


def batch(images: NDArray[np.uint8], labels: list[int]) -> bytes:
    """A pickle with the string of Python 2 in it that the published ones hold their pixels in."""
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    content = pickle.dumps({"data": rows, "labels": labels}, protocol=3)
    raw = rows.tobytes()
    size = len(raw).to_bytes(4, "little")
    assert content.count(b"B" + size + raw) == 1
    return content.replace(b"B" + size + raw, b"T" + size + raw)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """PIXELS as batches, three images in each for training and fifteen to test, as if published."""
    made = {
        name: batch(PIXELS[3 * number : 3 * number + 3], [9 - number, 0, 3])
        for number, name in enumerate(BATCHES)
    }
    made["test_batch"] = batch(PIXELS[15:], [*range(10), 1, 1, 2, 3, 5])
    sums = [[name, hashlib.md5(content).hexdigest()] for name, content in made.items()]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    return made


def made(tmp_path: Path, name: str, files: Mapping[str, bytes]) -> Path:
    if name.endswith(".zip"):
        return zipped(tmp_path / name, files)
    if ".tar." in name:
        return tarred(tmp_path / name, files)
    return write_folder(tmp_path / name, files)


def read(destination: Path) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    truth = pd.read_csv(destination / "truth.csv", dtype=str)
    return np.load(destination / "plain.npy", allow_pickle=False), truth


def assert_pictures(destination: Path) -> None:
    images, truth = read(destination)
    assert images.shape == (30, 32, 32, 3)
    assert images.dtype == np.uint8
    assert np.abs(images.astype(int) - PIXELS).max() <= 6  # JPEG is lossy
    assert list(truth.columns) == ["image", "object", "part"]
    assert list(truth["image"]) == NAMES
    assert list(truth["object"]) == [name.split("/")[1] for name in NAMES]
    assert list(truth["part"]) == ["train"] * 20 + ["test"] * 10


def refused(source: Path, destination: Path, reason: str) -> None:
    with pytest.raises(InputError, match=rf"(?s){source.name}.*{reason}"):
        collect(source, destination, counts=COUNTS)
    assert list(destination.iterdir()) == []


@pytest.mark.parametrize("name", ["pictures", "pictures.tar.xz", "pictures.zip"])
@pytest.mark.parametrize("prefix", ["", "cifar10/"])
def test_pictures(tmp_path: Path, destination: Path, name: str, prefix: str) -> None:
    backwards = {f"{prefix}{file}": PICTURES[file] for file in reversed(PICTURES)}
    source = made(tmp_path, name, backwards)
    assert collect(source, destination, counts=COUNTS) == "jpeg"
    assert_pictures(destination)


def test_png_keeps_every_value(tmp_path: Path, destination: Path) -> None:
    files = {
        f"{name}.png": encoded(pixels, "PNG") for name, pixels in zip(NAMES, PIXELS, strict=True)
    }
    collect(zipped(tmp_path / "pictures.zip", files), destination, counts=COUNTS)
    assert_pictures(destination)
    assert np.array_equal(read(destination)[0], PIXELS)


def test_grey_pictures_are_coloured(tmp_path: Path, destination: Path) -> None:
    source = zipped(tmp_path / "pictures.zip", PICTURES | {FIRST: encoded(PIXELS[0, ..., 0])})
    collect(source, destination, counts=COUNTS)
    images, _ = read(destination)
    assert np.abs(images[0].astype(int) - PIXELS[0, ..., :1]).max() <= 6


def test_foreign_members_are_passed_over(tmp_path: Path, destination: Path) -> None:
    foreign = {
        "README.md": b"read me",
        "0000.jpg": b"in no folder",
        "train/zebra/0000.jpg": b"another class",
        "validation/cat/0000.jpg": b"another part",
        "train/cat/._0000.jpg": b"what a Mac says of it",
        "train/cat/0000.txt": b"no picture",
        "train/cat/0000.jpg.part": b"half of one",
        "train/cat/more/0000.jpg": b"elsewhere",
    }
    source = zipped(tmp_path / "pictures.zip", foreign | PICTURES)
    collect(source, destination, counts=COUNTS)
    assert_pictures(destination)


@pytest.mark.parametrize("kind", ["pictures", "batches"])
def test_the_same_bytes_twice(tmp_path: Path, batches: dict[str, bytes], kind: str) -> None:
    files = PICTURES if kind == "pictures" else batches
    found = []
    for name, members in (("a.zip", files), ("b.zip", dict(reversed(files.items())))):
        folder = tmp_path / f"from {name}"
        folder.mkdir()
        collect(zipped(tmp_path / name, members), folder, counts=COUNTS)
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0].keys() == {"plain.npy", "truth.csv"}
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["cifar", "cifar.tar.gz", "cifar.zip"])
def test_batches(tmp_path: Path, destination: Path, batches: dict[str, bytes], name: str) -> None:
    files = {f"cifar-10-batches-py/{file}": batches[file] for file in reversed(batches)}
    source = made(tmp_path, name, {"cifar-10-batches-py/batches.meta": b"names"} | files)
    assert collect(source, destination) == "official"
    images, truth = read(destination)
    assert np.array_equal(images, PIXELS)
    assert list(truth.columns) == ["image", "object", "part"]
    assert list(truth["part"]) == ["train"] * 15 + ["test"] * 15
    assert list(truth["object"][:6]) == ["truck", "airplane", "cat", "ship", "airplane", "cat"]
    assert list(truth["object"][15:25]) == list(OBJECTS)
    assert list(truth["object"][25:]) == ["automobile", "automobile", "bird", "cat", "dog"]
    assert list(truth["image"][[0, 5, 14, 15, 29]]) == [
        "train/truck/00000", "train/cat/00005", "train/cat/00014", "test/airplane/00000",
        "test/dog/00014",
    ]  # fmt: skip


def test_of_both_kinds_the_lossless_is_taken(
    tmp_path: Path, destination: Path, batches: dict[str, bytes]
) -> None:
    source = zipped(tmp_path / "both.zip", PICTURES | batches)
    assert collect(source, destination, counts=COUNTS) == "official"
    assert np.array_equal(read(destination)[0], PIXELS)


class Trap:
    """What creates a file when its pickle is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_a_foreign_pickle_is_never_loaded(
    tmp_path: Path, destination: Path, batches: dict[str, bytes], name: str
) -> None:
    sprung = tmp_path / "sprung"
    trap = pickle.dumps(Trap(sprung))
    pickle.loads(trap)
    assert sprung.exists()
    sprung.unlink()
    source = zipped(tmp_path / "cifar.zip", batches | {name: trap})
    published = hashlib.md5(batches[name]).hexdigest()
    found = hashlib.md5(trap).hexdigest()
    refused(source, destination, f"{name} has MD5 {found}, should be {published}.*fetch")
    assert not sprung.exists()


def test_a_batch_under_the_name_of_another(
    tmp_path: Path, destination: Path, batches: dict[str, bytes]
) -> None:
    swapped = batches | {"data_batch_1": batches["data_batch_2"]}
    refused(zipped(tmp_path / "cifar.zip", swapped), destination, "data_batch_1 has MD5")


def test_missing_batches_are_named(
    tmp_path: Path, destination: Path, batches: dict[str, bytes]
) -> None:
    del batches["data_batch_2"], batches["test_batch"]
    source = zipped(tmp_path / "cifar.zip", batches)
    refused(source, destination, "2 of 6 batches are missing, the first is data_batch_2; fetch")


def test_missing_pictures_are_named(tmp_path: Path, destination: Path) -> None:
    some = PICTURES.copy()
    del some["train/cat/0001.jpg"], some["train/dog/0000.jpg"], some["test/ship/0000.jpg"]
    source = zipped(tmp_path / "pictures.zip", some)
    refused(source, destination, "3 of 30 images are missing, the first is train/cat/0001; fetch")


def test_a_misspelled_class_is_missed(tmp_path: Path, destination: Path) -> None:
    files = {name.replace("airplane", "aeroplane"): PICTURES[name] for name in PICTURES}
    source = zipped(tmp_path / "pictures.zip", files)
    refused(source, destination, "3 of 30 images are missing, the first is train/airplane/0000")


def test_more_pictures_than_published(tmp_path: Path, destination: Path) -> None:
    more = {"train/frog/0002.jpg": PICTURES[FIRST], "test/cat/0001.jpg": PICTURES[FIRST]}
    source = zipped(tmp_path / "pictures.zip", PICTURES | more)
    refused(source, destination, "2 images more than the 30 .* the first is test/cat/0001")


def test_a_picture_that_comes_twice(tmp_path: Path, destination: Path) -> None:
    source = zipped(tmp_path / "pictures.zip", PICTURES | {f"old/{FIRST}": PICTURES[FIRST]})
    refused(source, destination, f"{NAMES[0]} is there twice")


def test_a_picture_of_another_size(tmp_path: Path, destination: Path) -> None:
    small = encoded(PIXELS[0, :16, :16])
    source = zipped(tmp_path / "pictures.zip", PICTURES | {FIRST: small})
    refused(source, destination, f"{FIRST} has 16x16 pixels, should have 32x32")


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", PICTURES[FIRST][:-200], PICTURES[FIRST][:100]],
    ids=["empty", "text", "cut", "cut in its header"],
)
def test_a_damaged_picture(tmp_path: Path, destination: Path, content: bytes) -> None:
    source = zipped(tmp_path / "pictures.zip", PICTURES | {FIRST: content})
    refused(source, destination, rf"{FIRST} cannot be read \(.*; fetch")


def test_a_picture_that_claims_to_be_huge(tmp_path: Path, destination: Path) -> None:
    png = encoded(PIXELS[0], "PNG")
    header = b"IHDR" + 2 * (30_000).to_bytes(4, "big") + png[24:29]
    bomb = png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]
    source = zipped(tmp_path / "pictures.zip", PICTURES | {FIRST: bomb})
    refused(source, destination, rf"{FIRST} cannot be read \(.*; fetch")


def test_a_picture_of_another_format(tmp_path: Path, destination: Path) -> None:
    source = zipped(tmp_path / "pictures.zip", PICTURES | {FIRST: encoded(PIXELS[0], "GIF")})
    refused(source, destination, rf"{FIRST} cannot be read \(not a picture\)")


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("name", ["pictures.tar.xz", "pictures.zip"])
def test_a_cut_archive_never_passes(
    tmp_path: Path, destination: Path, name: str, part: float
) -> None:
    source = made(tmp_path, name, PICTURES)
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * part)])
    refused(source, destination, "")


def test_a_member_that_points_outside(tmp_path: Path, destination: Path) -> None:
    members = [(f"../{FIRST}", PICTURES[FIRST]), *PICTURES.items()]
    source = tarred(tmp_path / "pictures.tar.xz", members)
    refused(source, destination, "points outside the archive")


def test_no_archive(tmp_path: Path, destination: Path) -> None:
    source = tmp_path / "pictures.zip"
    source.write_bytes(b"<html>not found</html>")
    refused(source, destination, "not an archive")


@pytest.mark.parametrize("files", [{}, {"train.csv": b"id,label", "data_batch_1.bin": b"\0"}])
def test_neither_kind(tmp_path: Path, destination: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "other").mkdir()
    source = write_folder(tmp_path / "other", files)
    refused(source, destination, "neither .* batches .* nor pictures .*; give")


def test_path_comes_first(
    tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path / "none"))
    source = zipped(tmp_path / "own.zip", PICTURES)
    assert fetch(source, UNREACHABLE, destination, counts=COUNTS) == ("jpeg", "path")
    assert_pictures(destination)


def test_a_missing_path_is_not_replaced_by_the_mirror(
    tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped(tmp_path / "cifar10_jpg.zip", PICTURES)
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path))
    with pytest.raises(InputError, match=r"none\.zip: no such file"):
        fetch(tmp_path / "none.zip", UNREACHABLE, destination, counts=COUNTS)
    assert list(destination.iterdir()) == []


@pytest.mark.parametrize("name", ["cifar10_jpg", "cifar10_jpg.tar.xz", "cifar10_jpg.zip"])
def test_mirror_comes_second(
    tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made(tmp_path, name, PICTURES)
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path))
    assert fetch(None, UNREACHABLE, destination, counts=COUNTS) == ("jpeg", "mirror")
    assert_pictures(destination)


@pytest.mark.parametrize("name", ["cifar-10-batches-py", "cifar-10-python.tar.gz"])
def test_of_a_mirror_the_lossless_is_taken(
    tmp_path: Path,
    destination: Path,
    monkeypatch: pytest.MonkeyPatch,
    batches: dict[str, bytes],
    name: str,
) -> None:
    made(tmp_path, "cifar10_jpg.tar.xz", PICTURES)
    made(tmp_path, name, batches)
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path))
    assert fetch(None, UNREACHABLE, destination, counts=COUNTS) == ("official", "mirror")
    assert np.array_equal(read(destination)[0], PIXELS)


@pytest.mark.parametrize("mirror", [True, False])
def test_network_comes_last(
    tmp_path: Path,
    destination: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    batches: dict[str, bytes],
    mirror: bool,
) -> None:
    if mirror:
        (tmp_path / "mirror of other things").mkdir()
        monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path / "mirror of other things"))
    tarred(tmp_path / "cifar.tar.gz", batches.items())
    assert fetch(None, f"{address}/cifar.tar.gz", destination) == ("official", "network")
    assert np.array_equal(read(destination)[0], PIXELS)


def test_the_network_has_none(destination: Path, address: str) -> None:
    with pytest.raises(InputError, match="HTTP status 404"):
        fetch(None, f"{address}/cifar.tar.gz", destination)
    assert list(destination.iterdir()) == []


def test_the_stage_counts_what_came_and_says_whether_it_lost_anything(
    tmp_path: Path,
    batches: dict[str, bytes],
    objects: Cifar10Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_folder(tmp_path / "batches", batches)
    content = objects.model_dump(mode="json")
    content["cifar10"] |= {"path": "batches", "url": UNREACHABLE}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    main()
    counts = {"kind": "official", "lossless": True, "train": 15, "test": 15}
    assert json.loads((tmp_path / "metrics/fetch_cifar10.json").read_text()) == counts
    assert "30 images, as published, from the path" in capsys.readouterr().out
    assert np.array_equal(read(tmp_path / "data/raw/cifar10")[0], PIXELS)
