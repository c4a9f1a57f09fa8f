"""Draw the cast for the audits: heads whose outline and angle are known exactly."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from happymaps.errors import exit_on_error
from happymaps.files import replacing_folder
from happymaps.images.boxes import Part, in_pixels
from happymaps.images.crop import cut_out, face_places, places
from happymaps.images.decode import Grey, read_grey
from happymaps.images.faces import look, without_parts
from happymaps.labelling import truth_table
from happymaps.params import Params, TrainingCropParams, View
from happymaps.sources.face_names import parse_name
from happymaps.sources.sample import USERS, photograph
from happymaps.sources.turned import draw_turned
from happymaps.stages.layout import CAST, TURNED

_STEP = 10.0  # degrees between two angles of the turned heads


def main() -> None:
    """Write data/processed/cast (views, masks, truth) and data/processed/turned (views, yaws)."""
    params = Params.load()
    cropping = params.crop.of_training()
    with tempfile.TemporaryDirectory() as folder:
        for user in tqdm(USERS[: params.audit.people], unit="person", desc="drawing"):
            photograph(Path(folder), user, params.seed, lambda: None)
        _write_cast(Path(folder), cropping)
    yaws = sorted({*np.arange(0, 91, _STEP).tolist(), params.audit.turn})
    pictures, angles = draw_turned(params.audit.people, yaws, params.seed)
    person = np.repeat(USERS[: params.audit.people], len(yaws)).tolist()
    with replacing_folder(TURNED) as draft:
        for view, parts in _parts(pictures, person, cropping).items():
            np.save(draft / f"{view}.npy", _cut_out(pictures, parts, cropping))
        np.save(draft / "yaws.npy", angles)


def _write_cast(drawn: Path, params: TrainingCropParams) -> None:
    """Every good full-size picture as the pipeline crops CMU faces, with the mask of its head."""
    faces = drawn / "cmu_faces"
    named = [(file, parse_name(file.name)) for file in sorted(faces.glob("*/*.pgm"))]
    chosen = [(file, name) for file, name in named if name is not None and name.scale == 1]
    files = [file for file, _ in chosen]
    table = truth_table(
        pd.Series([file.relative_to(faces).as_posix() for file in files]),
        pd.Series([name.pose for _, name in chosen]),
        pd.Series([name.subject for _, name in chosen]),
    )
    outlines = drawn / "truth/masks/cmu_faces"
    pictures = [read_grey(file) for file in files]
    masks = [read_grey(outlines / file.parent.name / f"{file.stem}.png") for file in files]
    with replacing_folder(CAST) as draft:
        for view, parts in _parts(pictures, table["subject"].tolist(), params).items():
            np.save(draft / f"{view}.npy", _cut_out(pictures, parts, params))
            np.save(draft / f"{view}_masks.npy", _cut_out(masks, parts, params) > 127)
        table.to_csv(draft / "truth.csv", index=False)


def _parts(
    pictures: Sequence[Grey], person: Sequence[str], params: TrainingCropParams
) -> dict[View, list[Part]]:
    """What the pipeline cuts out of photographs of these people, in their pixels."""
    looks = {str(number): look(picture) for number, picture in enumerate(pictures)}
    person_in = dict(zip(looks, person, strict=True))
    looks = without_parts(looks, person_in)
    of_views: dict[View, dict[str, Part]] = {
        "plain": places(looks, params.cmu_faces, params),
        "face": face_places(looks, person_in, params),
    }
    return {
        view: [in_pixels(place, looks[name].shape) for name, place in found.items()]
        for view, found in of_views.items()
    }


def _cut_out(
    pictures: Sequence[Grey], parts: Sequence[Part], params: TrainingCropParams
) -> NDArray[np.uint8]:
    """(N, size, size)."""
    return np.stack(
        [cut_out(picture, part, params) for picture, part in zip(pictures, parts, strict=True)]
    )


if __name__ == "__main__":
    exit_on_error(main)
