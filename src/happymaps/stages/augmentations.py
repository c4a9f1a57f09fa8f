"""Show what each change of the training images does, and all of them together."""

import numpy as np
import torch
from tqdm import tqdm

from happymaps.augmentation import UNCHANGED, Augmenter
from happymaps.datasets import LabelledImages
from happymaps.errors import exit_on_error
from happymaps.figures import Row, as_picture, draw_sheet, zoom_of
from happymaps.files import replacing_folder
from happymaps.images.boxes import Box
from happymaps.params import AugmentParams, load_study
from happymaps.stages.layout import PLOTS
from happymaps.stages.sets import heads_in, parts

_COPIES = 8


def main() -> None:
    """Write plots/augmentations/<network>: a sheet a change, a training image a row."""
    params = load_study()
    with replacing_folder(PLOTS / "augmentations") as folder:
        for name, spec in params.networks.items():
            if spec.augment == UNCHANGED:
                continue
            train = parts(params, spec)["train"]
            heads = heads_in(params, spec)
            known = train
            if train.are_faces:
                known = train.subset(train.truth["image"].map(heads).notna())
            each = _one_of_each(known, params.seed)
            (folder / name).mkdir()
            for change, augment in tqdm(_changes(spec.augment).items(), unit="sheet", desc=name):
                shown = each
                if change in ("turn", "nod"):  # no other heads are turned and raised
                    straight = known.truth["pose"] == "straight"
                    shown = known.subset(straight).some(len(each), params.seed)
                boxes = [heads.get(image) for image in shown.truth["image"]]
                rows = _rows(shown, boxes, augment, params.seed)
                title = f"{name}: {change} (first each image as it is)"
                zoom = zoom_of(shown.images.shape[-1])
                path = folder / name / f"{change}.png"
                draw_sheet(path, title, rows, 1 + _COPIES, zoom=zoom)


def _changes(augment: AugmentParams) -> dict[str, AugmentParams]:
    """Each change that is made, alone, and all."""
    alone = {
        key: UNCHANGED.model_copy(update={key: value})
        for key, value in augment.model_dump().items()
        if value
    }
    return alone | {"all": augment}


def _one_of_each(images: LabelledImages, seed: int) -> LabelledImages:
    """An image of each pose or object, as far as there are any."""
    order = np.random.default_rng(seed).permutation(len(images))
    _, firsts = np.unique(images.kinds().numpy()[order], return_index=True)
    return images.take(order[firsts])


def _rows(
    given: LabelledImages, heads: list[Box | None], augment: AugmentParams, seed: int
) -> list[Row]:
    augmenter = Augmenter(given, heads, augment, seed)
    rng = np.random.default_rng(seed)
    rows = []
    for number, kind in enumerate(given.kinds().tolist()):
        copies, kinds = augmenter(torch.full((_COPIES,), number), rng)
        pictures = [as_picture(image.numpy()) for image in (given.images[number], *copies)]
        rows.append(Row("", pictures, [given.names[one] for one in (kind, *kinds.tolist())]))
    return rows


if __name__ == "__main__":
    exit_on_error(main)
