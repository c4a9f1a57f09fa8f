"""Show what each change of the training images does, and all of them together."""

import numpy as np
import torch
from tqdm import tqdm

from happymaps.augmentation import UNCHANGED, Augmenter
from happymaps.datasets import Faces, load_parts, read_heads
from happymaps.errors import exit_on_error
from happymaps.figures import Row, draw_sheet
from happymaps.files import replacing_folder
from happymaps.images.crop import Box
from happymaps.params import POSES, AugmentParams, Params
from happymaps.stages.layout import HEADS, PLOTS, PROCESSED, SPLIT

_COPIES = 8


def main() -> None:
    """Write plots/augmentations/<network>: a sheet a change, a training image a row."""
    params = Params.load()
    with replacing_folder(PLOTS / "augmentations") as folder:
        for name, spec in params.networks.items():
            if spec.augment == UNCHANGED:
                continue
            heads = read_heads(HEADS, "cmu_faces", spec.crop)
            train = load_parts(PROCESSED / "cmu_faces", SPLIT, spec.crop)["train"]
            known = train.subset(train.truth["image"].map(heads).notna())
            each = _one_of_each(known, params.seed)
            # No others are turned and raised.
            straight = known.subset(known.truth["pose"] == "straight").some(len(each), params.seed)
            (folder / name).mkdir()
            for change, augment in tqdm(_changes(spec.augment).items(), unit="sheet", desc=name):
                shown = straight if change in ("turn", "nod") else each
                boxes = [heads[image] for image in shown.truth["image"]]
                rows = _rows(shown, boxes, augment, params.seed)
                title = f"{name}: {change} (first each image as it is)"
                draw_sheet(folder / name / f"{change}.png", title, rows, 1 + _COPIES)


def _changes(augment: AugmentParams) -> dict[str, AugmentParams]:
    """Each change that is made, alone, and all."""
    alone = {
        key: UNCHANGED.model_copy(update={key: value})
        for key, value in augment.model_dump().items()
        if value
    }
    return alone | {"all": augment}


def _one_of_each(faces: Faces, seed: int) -> Faces:
    """An image of each pose, as far as there are any."""
    order = np.random.default_rng(seed).permutation(len(faces))
    poses = faces.truth["pose"].to_numpy()[order]
    _, firsts = np.unique(poses, return_index=True)
    return faces.take(order[firsts])


def _rows(faces: Faces, heads: list[Box | None], augment: AugmentParams, seed: int) -> list[Row]:
    augmenter = Augmenter(faces, heads, augment, seed)
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(len(faces)):
        copies, poses = augmenter(torch.full((_COPIES,), number), rng)
        images = [faces.images[number, 0].numpy(), *copies[:, 0].numpy()]
        truth = [faces.truth["pose"].iloc[number], *(POSES[pose] for pose in poses.tolist())]
        rows.append(Row("", images, truth))
    return rows


if __name__ == "__main__":
    exit_on_error(main)
