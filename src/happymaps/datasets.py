"""Images, truth and split -> tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from happymaps.errors import InputError
from happymaps.images.boxes import Box, read_boxes
from happymaps.labelling import read_objects, read_truth
from happymaps.params import OBJECTS, POSES, NetworkParams, View

WithHeads = tuple["LabelledImages", Sequence[Box | None]]

# Images at once where nothing is learned: more are no faster, and fill the memory.
BATCH = 64


@dataclass(frozen=True)
class LabelledImages:
    """Images with their truth: row N of the table belongs to image N.

    Attributes:
        images: (N, C, H, W) uint8.
        truth: columns `image, left, pose, subject` for faces, where `left` is 0 or 1; or
            `image, object`.
    """

    images: Tensor
    truth: pd.DataFrame

    def __len__(self) -> int:
        return len(self.truth)

    def subset(self, chosen: "pd.Series[bool]") -> Self:
        """The rows where `chosen` is true, in their order."""
        return self.take(np.flatnonzero(chosen.to_numpy()))

    def take(self, rows: NDArray[np.integer]) -> Self:
        """The rows with these numbers, in the order given."""
        return type(self)(self.images[torch.from_numpy(rows)], self.truth.iloc[rows])

    def some(self, count: int, seed: int) -> Self:
        """At most `count` rows, chosen by chance, in their order."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(np.sort(order[:count]))

    def shuffled(self, seed: int) -> Self:
        """The same images with the truth of others: nothing can be learned but how often what is.

        Whose image it is stays with the image.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        shown = self.truth.columns.difference(["image", "subject"])
        others = self.truth[shown].iloc[order].set_axis(self.truth.index)
        return type(self)(self.images, self.truth.assign(**others))

    @property
    def are_faces(self) -> bool:
        """Whether the truth is of poses, and not of objects."""
        return "pose" in self.truth

    @property
    def names(self) -> tuple[str, ...]:
        """Of the poses, or of the objects."""
        return POSES if self.are_faces else OBJECTS

    def kinds(self) -> Tensor:
        """(N,) int64: numbers of the poses, or of the objects, in `names`."""
        shown = self.truth["pose" if self.are_faces else "object"]
        numbers = pd.Index(self.names).get_indexer(pd.Index(shown))
        return torch.from_numpy(numbers.astype(np.int64))

    def labels(self, spec: NetworkParams) -> Tensor:
        """(N,) int64: for each image the number of the class that a network should answer."""
        return labels_of(spec, self.kinds())


def labels_of(spec: NetworkParams, kinds: Tensor) -> Tensor:
    """(N,) numbers of poses or objects -> of the classes that a network should answer."""
    return (kinds == POSES.index("left")).long() if spec.target == "left" else kinds


def load_faces(folder: Path, view: View) -> LabelledImages:
    """Load the labelled images of a processed set; frames without truth are left out.

    Args:
        folder: holds `truth.csv` and `<view>.npy`, (N, H, W) uint8, row N for image N.
        view: how they are cropped.

    Raises:
        InputError: when truth or images are missing, damaged, or not of the same number.
    """
    truth = read_truth(folder / "truth.csv")
    images = _read_images(folder / f"{view}.npy", (len(truth), None, None), "crop")
    rows = np.flatnonzero(truth["pose"].notna())
    labelled = truth.iloc[rows].reset_index(drop=True).astype({"left": np.int64})
    return LabelledImages(torch.from_numpy(images[rows]).unsqueeze(1), labelled)


def load_objects(folder: Path) -> LabelledImages:
    """Load CIFAR-10.

    Args:
        folder: holds `truth.csv` with the columns `image,object,part`, and `plain.npy`,
            (N, H, W, 3) uint8, row N for image N.

    Raises:
        InputError: when truth or images are missing, damaged, or not of the same number.
    """
    truth = read_objects(folder / "truth.csv")
    images = _read_images(folder / "plain.npy", (len(truth), None, None, 3), "fetch_cifar10")
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return LabelledImages(pixels, truth.drop(columns="part"))


def _read_images(file: Path, shape: tuple[int | None, ...], stage: str) -> NDArray[np.uint8]:
    """An array of this shape (None: of any length) on the disk; `stage` writes it."""
    again = f"run the {stage} stage again"
    try:
        images = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, EOFError, TypeError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); {again}") from error
    fits = images.ndim == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, images.shape, strict=True)
    )
    if not fits or images.dtype != np.uint8:
        count, _, _, *channels = shape
        wanted = ", ".join([str(count), "H", "W", *map(str, channels)])
        raise InputError(
            f"{file}: {images.shape} {images.dtype}, should be ({wanted}) uint8"
            f" to fit truth.csv; {again}"
        )
    return images


def load_parts(folder: Path, split: Path, view: View) -> dict[str, LabelledImages]:
    """The training part and the test part of a processed set, by name.

    Args:
        folder: of the set, as for `load_faces`.
        view: as for `load_faces`.
        split: as for `parts_of`; every part is `train` or `test`.

    Raises:
        InputError: as `load_faces` and `parts_of`.
    """
    return parts_of(load_faces(folder, view), split, ("train", "test"))


def parts_of(
    images: LabelledImages, split: Path, names: Sequence[str]
) -> dict[str, LabelledImages]:
    """The parts of a set with these names.

    Args:
        images: the set.
        split: table `image,part`.
        names: of the parts.

    Raises:
        InputError: when the split does not name every image, or leaves a part empty.
    """
    table = pd.read_csv(split, dtype=str).set_index("image")["part"]
    missing = set(images.truth["image"]) - set(table.index)
    if missing:
        raise InputError(f"{split}: says nothing of {min(missing)}; run the split stage again")
    part_of = images.truth["image"].map(table)
    parts = {name: images.subset(part_of == name) for name in names}
    for name, part in parts.items():
        if len(part) == 0:
            raise InputError(f"{split}: no image has the part {name!r}")
    return parts


def joined(sets: Sequence[LabelledImages]) -> LabelledImages:
    """All images of some sets, one set after the other."""
    truth = pd.concat([faces.truth for faces in sets], ignore_index=True)
    return LabelledImages(torch.cat([faces.images for faces in sets]), truth)


def joined_with_heads(sets: Sequence[WithHeads]) -> WithHeads:
    """All images of some sets with the heads in them, one set after the other."""
    return joined([images for images, _ in sets]), [box for _, heads in sets for box in heads]


def load_with_heads(folder: Path, views: Sequence[View]) -> list[WithHeads]:
    """A processed set in several views, each with the heads in its images.

    Args:
        folder: of the set, as for `load_faces`, and named like it; its `heads.csv` is as for
            `read_heads`.
        views: how it is cropped.
    """
    return [_with_heads(load_faces(folder, view), folder, view) for view in views]


def _with_heads(faces: LabelledImages, folder: Path, view: View) -> WithHeads:
    boxes = read_heads(folder / "heads.csv", folder.name, view)
    return faces, [boxes[image] for image in faces.truth["image"]]


def load_training(folder: Path, split: Path, views: Sequence[View]) -> WithHeads:
    """The training part in all views that a network learns from, with the heads in its images.

    The arguments are those of `load_parts` and `load_with_heads`.
    """
    return joined_with_heads(
        [_with_heads(load_parts(folder, split, view)["train"], folder, view) for view in views]
    )


def load_test_sets(
    processed: Path, split: Path, subjects: Sequence[str], view: View
) -> dict[str, LabelledImages]:
    """What a network is tested on: `cmu_test`, and each recorded person by name.

    Args:
        processed: folder of the processed sets.
        split: as for `load_parts`.
        subjects: the people, in the order wanted.
        view: as for `load_faces`.

    Raises:
        InputError: as `load_faces` and `load_parts`.
    """
    cmu_test = load_parts(processed / "cmu_faces", split, view)["test"]
    frames = load_faces(processed / "recordings", view)
    people = {subject: frames.subset(frames.truth["subject"] == subject) for subject in subjects}
    return {"cmu_test": cmu_test, **people}


def read_heads(path: Path, name: str, view: View) -> dict[str, Box | None]:
    """Where the heads of a set are.

    Args:
        path: table `set,view,image` with the edges of a box, which are empty where none was found.
        name: of the set.
        view: how its images are cropped.

    Returns:
        Per image that was looked at its box in pixels, or None.
    """
    table = read_boxes(path, ["set", "view", "image"])
    rows = table[(table["set"] == name) & (table["view"] == view)]
    return dict(zip(rows["image"], rows["box"], strict=True))


def to_input(images: Tensor) -> Tensor:
    """(N, C, H, W) uint8 -> float32 in [0, 1], laid out as convolutions like it best."""
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)


def batches(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """(N, C, H, W) uint8, or float32 in [0, 1] -> batches of `to_input` on the device."""
    for part in images.split(BATCH):
        moved = part.to(device)
        yield to_input(moved) if moved.dtype == torch.uint8 else moved
