"""CIFAR-10 (Alex Krizhevsky, University of Toronto): 60000 pictures of ten kinds of objects.

They come as the official batches, or as JPEG pictures made from them, which are lossy.
"""

import hashlib
import io
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from happymaps.errors import InputError
from happymaps.images.decode import to_colour
from happymaps.params import OBJECT_SIZE, OBJECTS
from happymaps.sources.archives import iter_members
from happymaps.sources.download import Place, located

Kind = Literal["official", "jpeg"]

MIRROR_NAMES = (
    "cifar-10-batches-py", "cifar-10-python.tar.gz",
    "cifar10_jpg", "cifar10_jpg.tar.xz", "cifar10_jpg.tar", "cifar10_jpg.zip",
)  # fmt: skip
COUNTS: Mapping[str, int] = {"train": 5000, "test": 1000}  # of each class

_BATCHES = (
    "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch",
)  # fmt: skip
_PICTURE = re.compile(rf"((?:train|test)/(?:{'|'.join(OBJECTS)})/\d+)\.(?:jpg|jpeg|png)")
_MAX_DOWNLOAD = 512 << 20


class Origin(NamedTuple):
    """What was found, and where."""

    kind: Kind
    place: Place


class _Batch(NamedTuple):
    images: NDArray[np.uint8]  # (N, H, W, 3)
    objects: list[str]


def fetch(
    path: Path | None, url: str, destination: Path, *, counts: Mapping[str, int] = COUNTS
) -> Origin:
    """Bring all images to `destination`, as `collect` writes them.

    They are looked for at `path`, else in the mirror, else at `url`.

    Raises:
        InputError: source unreachable or damaged, or images missing.
    """
    with located(path, MIRROR_NAMES, url, max_bytes=_MAX_DOWNLOAD) as (source, place):
        return Origin(collect(source, destination, counts=counts), place)


def collect(source: Path, destination: Path, *, counts: Mapping[str, int] = COUNTS) -> Kind:
    """Write the images found in a folder or archive to `destination`, all of train before test.

    `plain.npy` is (N, 32, 32, 3) uint8; row N of `truth.csv` (`image,object,part`) belongs to
    image N. Members are known by the end of their path: `data_batch_1` to `data_batch_5` and
    `test_batch` are the official batches, `<part>/<class>/<number>.jpg` (or png) a picture. All
    others are passed over, pictures of another class too. With both kinds, the batches are taken.

    Args:
        source: the folder or the archive.
        destination: the folder to write to; it exists.
        counts: pictures of each class in `train` and `test`, numbered from 0000. Of the official
            batches nothing is counted: their MD5 sums say that they are whole.

    Raises:
        InputError: neither kind, damaged, or images missing, too many, or of another size; then
            nothing is written.
    """
    batches: dict[str, _Batch] = {}
    pictures: dict[str, NDArray[np.uint8]] = {}
    total = len(OBJECTS) * sum(counts.values())
    with tqdm(total=total, unit="image", desc="checking CIFAR-10") as bar:
        for member, content in iter_members(source):
            path = PurePosixPath(member)
            if path.name in _BATCHES:
                batch = _unpickle(source, path.name, content)
                batches[path.name] = batch
                bar.update(len(batch.objects))
            elif match := _PICTURE.fullmatch("/".join(path.parts[-3:])):
                if match[1] in pictures:
                    raise InputError(f"{source}: {match[1]} is there twice; leave one of them")
                pictures[match[1]] = _decode(source, member, content)
                bar.update()
    if batches:
        _save_batches(source, batches, destination)
        return "official"
    if pictures:
        _save_pictures(source, pictures, counts, destination)
        return "jpeg"
    raise InputError(
        f"{source}: holds neither the official batches ({_BATCHES[0]}, ...) nor pictures as"
        f" train/{OBJECTS[0]}/0000.jpg; give a folder or archive of one of these"
    )


def _unpickle(source: Path, name: str, content: bytes) -> _Batch:
    # Imports torch: seconds that only this kind needs.
    from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]

    sums = dict((*CIFAR10.train_list, *CIFAR10.test_list))
    found = hashlib.md5(content).hexdigest()
    # A pickle is code, which runs when it is loaded: only the very bytes that were published are.
    # MD5 is enough, for nobody knows how to make other bytes with the sum of given ones.
    if found != sums[name]:
        raise InputError(
            f"{source}: {name} has MD5 {found}, should be {sums[name]}; it was not opened, fetch"
            " the source again"
        )
    batch = pickle.loads(content, encoding="latin1")  # written by Python 2
    images = batch["data"].reshape(-1, 3, OBJECT_SIZE, OBJECT_SIZE).transpose(0, 2, 3, 1)
    return _Batch(images, [OBJECTS[label] for label in batch["labels"]])


def _decode(source: Path, member: str, content: bytes) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image:
            size = image.size
            # Only of the right size is it unpacked: a small file can hold a huge picture.
            pixels = to_colour(image) if size == (OBJECT_SIZE, OBJECT_SIZE) else None
    except Exception as error:  # damaged bytes make the decoders raise errors of every kind
        reason = "not a picture" if "identify" in str(error) else str(error)
        raise InputError(
            f"{source}: {member} cannot be read ({reason}); fetch the source again"
        ) from error
    if pixels is None:
        raise InputError(
            f"{source}: {member} has {size[0]}x{size[1]} pixels, should have"
            f" {OBJECT_SIZE}x{OBJECT_SIZE}; give the pictures as published"
        )
    return pixels


def _save_batches(source: Path, batches: Mapping[str, _Batch], destination: Path) -> None:
    missing = [name for name in _BATCHES if name not in batches]
    if missing:
        raise InputError(
            f"{source}: {len(missing)} of {len(_BATCHES)} batches are missing, the first is"
            f" {missing[0]}; fetch the source again"
        )
    train = [found for name in _BATCHES[:-1] for found in batches[name].objects]
    test = batches[_BATCHES[-1]].objects
    names = [
        f"{part}/{found}/{number:05d}"
        for part, objects in (("train", train), ("test", test))
        for number, found in enumerate(objects)
    ]
    _save(np.concatenate([batches[name].images for name in _BATCHES]), names, destination)


def _save_pictures(
    source: Path,
    pictures: Mapping[str, NDArray[np.uint8]],
    counts: Mapping[str, int],
    destination: Path,
) -> None:
    names = [
        f"{part}/{wanted}/{number:04d}"
        for part, count in counts.items()
        for wanted in OBJECTS
        for number in range(count)
    ]
    missing = [name for name in names if name not in pictures]
    if missing:
        raise InputError(
            f"{source}: {len(missing)} of {len(names)} images are missing, the first is"
            f" {missing[0]}; fetch the source again"
        )
    foreign = pictures.keys() - set(names)
    if foreign:
        raise InputError(
            f"{source}: {len(foreign)} images more than the {len(names)} of CIFAR-10, the first is"
            f" {min(foreign)}; give the pictures as published"
        )
    _save(np.stack([pictures[name] for name in names]), names, destination)


def _save(images: NDArray[np.uint8], names: Sequence[str], destination: Path) -> None:
    np.save(destination / "plain.npy", images)
    parts, objects, _ = zip(*(name.split("/") for name in names), strict=True)
    truth = pd.DataFrame({"image": names, "object": objects, "part": parts})
    truth.to_csv(destination / "truth.csv", index=False)
