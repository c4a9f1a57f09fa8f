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
from happymaps.images.crop import Box
from happymaps.labelling import read_truth
from happymaps.params import POSES, NetworkParams, View

# Images at once where nothing is learned: more are no faster, and fill the memory.
BATCH = 64


@dataclass(frozen=True)
class Faces:
    """Images with their truth: row N of the table belongs to image N.

    Attributes:
        images: (N, 1, H, W) uint8.
        truth: columns `image, left, pose, subject`; `left` is 0 or 1.
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
        truth = self.truth.copy()
        truth[["left", "pose"]] = truth[["left", "pose"]].to_numpy()[order]
        return type(self)(self.images, truth.astype({"left": np.int64}))

    def poses(self) -> Tensor:
        """(N,) int64: numbers of the poses."""
        numbers = [POSES.index(pose) for pose in self.truth["pose"]]
        return torch.tensor(numbers, dtype=torch.int64)

    def labels(self, spec: NetworkParams) -> Tensor:
        """(N,) int64: for each image the number of the class that a network should answer."""
        return labels_of(spec, self.poses())


def labels_of(spec: NetworkParams, poses: Tensor) -> Tensor:
    """(N,) numbers of poses -> numbers of the classes that a network should answer."""
    return poses if spec.target == "pose" else (poses == POSES.index("left")).long()


def load_faces(folder: Path, view: View) -> Faces:
    """Load the labelled images of a processed set; frames without truth are left out.

    Args:
        folder: holds `truth.csv` and `<view>.npy`, (N, H, W) uint8, row N for image N.
        view: how they are cropped.

    Raises:
        InputError: when truth or images are missing, damaged, or not of the same number.
    """
    truth = read_truth(folder / "truth.csv")
    file = folder / f"{view}.npy"
    try:
        images = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, EOFError, TypeError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); run the crop stage again") from error
    if images.ndim != 3 or images.dtype != np.uint8 or len(images) != len(truth):
        raise InputError(
            f"{file}: {images.shape} {images.dtype}, should be ({len(truth)}, H, W) uint8"
            " to fit truth.csv; run the crop stage again"
        )
    rows = np.flatnonzero(truth["pose"].notna())
    labelled = truth.iloc[rows].reset_index(drop=True).astype({"left": np.int64})
    return Faces(torch.from_numpy(images[rows]).unsqueeze(1), labelled)


def load_parts(folder: Path, split: Path, view: View) -> dict[str, Faces]:
    """The training part and the test part of a processed set, by name.

    Args:
        folder: of the set, as for `load_faces`.
        view: as for `load_faces`.
        split: table `image,part`; every part is `train` or `test`.

    Raises:
        InputError: when the split does not name every labelled image, or leaves a part empty.
    """
    faces = load_faces(folder, view)
    table = pd.read_csv(split, dtype=str).set_index("image")["part"]
    missing = set(faces.truth["image"]) - set(table.index)
    if missing:
        raise InputError(f"{split}: says nothing of {min(missing)}; run the split stage again")
    part_of = faces.truth["image"].map(table)
    parts = {part: faces.subset(part_of == part) for part in ("train", "test")}
    for part, images in parts.items():
        if len(images) == 0:
            raise InputError(f"{split}: no image has the part {part!r}")
    return parts


def joined(sets: Sequence[Faces]) -> Faces:
    """All images of some sets, one set after the other."""
    truth = pd.concat([faces.truth for faces in sets], ignore_index=True)
    return Faces(torch.cat([faces.images for faces in sets]), truth)


def load_with_heads(
    folder: Path, heads: Path, views: Sequence[View]
) -> list[tuple[Faces, list[Box | None]]]:
    """A processed set in several views, each with the heads in its images.

    Args:
        folder: of the set, as for `load_faces`, and named like it.
        heads: table, as for `read_heads`.
        views: how it is cropped.
    """
    found = []
    for view in views:
        faces = load_faces(folder, view)
        boxes = read_heads(heads, folder.name, view)
        found.append((faces, [boxes[image] for image in faces.truth["image"]]))
    return found


def load_training(
    folder: Path, split: Path, heads: Path, views: Sequence[View]
) -> tuple[Faces, list[Box | None]]:
    """The training part in all views that a network learns from, with the heads in its images.

    The arguments are those of `load_parts` and `load_with_heads`.
    """
    parts = [load_parts(folder, split, view)["train"] for view in views]
    boxes: list[Box | None] = []
    for view, part in zip(views, parts, strict=True):
        known = read_heads(heads, folder.name, view)
        boxes += [known[image] for image in part.truth["image"]]
    return joined(parts), boxes


def load_test_sets(
    processed: Path, split: Path, subjects: Sequence[str], view: View
) -> dict[str, Faces]:
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
    # Somebody may be called "nan": only nothing is a missing value.
    empty = {edge: [""] for edge in Box._fields}
    names = dict.fromkeys(("set", "view", "image"), str)
    table = pd.read_csv(path, dtype=names, keep_default_na=False, na_values=empty)
    rows = table[(table["set"] == name) & (table["view"] == view)]
    return {
        image: None if np.isnan(edges).any() else Box(*(int(edge) for edge in edges))
        for _, _, image, *edges in rows.itertuples(index=False)
    }


def to_input(images: Tensor) -> Tensor:
    """(N, C, H, W) uint8 -> float32 in [0, 1], laid out as convolutions like it best."""
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)


def batches(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """(N, C, H, W) uint8, or float32 in [0, 1] -> batches of `to_input` on the device."""
    for part in images.split(BATCH):
        moved = part.to(device)
        yield to_input(moved) if moved.dtype == torch.uint8 else moved
