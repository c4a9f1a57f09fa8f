"""Images, truth and split -> tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from happymaps.errors import InputError
from happymaps.labelling import read_truth
from happymaps.params import POSES, NetworkParams

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
        rows = np.flatnonzero(chosen.to_numpy())
        return type(self)(self.images[torch.from_numpy(rows)], self.truth.iloc[rows])

    def shuffled(self, seed: int) -> Self:
        """The same images with the truth of others: nothing can be learned but how often what is.

        Whose image it is stays with the image.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        truth = self.truth.copy()
        truth[["left", "pose"]] = truth[["left", "pose"]].to_numpy()[order]
        return type(self)(self.images, truth.astype({"left": np.int64}))

    def labels(self, spec: NetworkParams) -> Tensor:
        """(N,) int64: for each image the number of the class that a network should answer."""
        if spec.target == "left":
            return torch.tensor(self.truth["left"].to_numpy(dtype=np.int64))
        numbers = [POSES.index(pose) for pose in self.truth["pose"]]
        return torch.tensor(numbers, dtype=torch.int64)


def load_faces(folder: Path) -> Faces:
    """Load the labelled images of a processed set; frames without truth are left out.

    Args:
        folder: holds `truth.csv` and `images.npy`, (N, H, W) uint8, row N for image N.

    Raises:
        InputError: when truth or images are missing, damaged, or not of the same number.
    """
    truth = read_truth(folder / "truth.csv")
    file = folder / "images.npy"
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


def load_parts(folder: Path, split: Path) -> dict[str, Faces]:
    """The training part and the test part of a processed set, by name.

    Args:
        folder: of the set, as for `load_faces`.
        split: table `image,part`; every part is `train` or `test`.

    Raises:
        InputError: when the split does not name every labelled image, or leaves a part empty.
    """
    faces = load_faces(folder)
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


def named_test_sets(
    cmu_test: Faces, recordings: Faces, subjects: Sequence[str]
) -> dict[str, Faces]:
    """What a network is tested on: `cmu_test`, and each recorded person by name.

    Args:
        cmu_test: the test part.
        recordings: all recorded people.
        subjects: the people, in the order wanted.
    """
    people = {
        subject: recordings.subset(recordings.truth["subject"] == subject) for subject in subjects
    }
    return {"cmu_test": cmu_test, **people}


def to_input(images: Tensor) -> Tensor:
    """(N, C, H, W) uint8 -> float32 in [0, 1], laid out as convolutions like it best."""
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)


def batches(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """(N, C, H, W) uint8, or float32 in [0, 1] -> batches of `to_input` on the device."""
    for part in images.split(BATCH):
        moved = part.to(device)
        yield to_input(moved) if moved.dtype == torch.uint8 else moved
