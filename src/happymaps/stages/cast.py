"""Draw the cast for the audits: heads whose outline and angle are known exactly."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from happymaps.errors import exit_on_error
from happymaps.files import replacing_folder
from happymaps.images.crop import crop
from happymaps.images.decode import read_grey
from happymaps.labelling import truth_table
from happymaps.params import CropParams, Params
from happymaps.sources.face_names import parse_name
from happymaps.sources.sample import USERS, photograph
from happymaps.sources.turned import draw_turned
from happymaps.stages.layout import CAST, TURNED

_STEP = 10.0  # degrees between two angles of the turned heads


def main() -> None:
    """Write data/processed/cast (images, masks, truth) and data/processed/turned (images, yaws)."""
    params = Params.load()
    with tempfile.TemporaryDirectory() as folder:
        for user in tqdm(USERS[: params.audit.people], unit="person", desc="drawing"):
            photograph(Path(folder), user, params.seed, lambda: None)
        _write_cast(Path(folder), params.crop)
    yaws = sorted({*np.arange(0, 91, _STEP).tolist(), params.audit.turn})
    images, angles = draw_turned(params.audit.people, yaws, params.seed, params.crop)
    with replacing_folder(TURNED) as draft:
        np.save(draft / "images.npy", images[:, 0].numpy())
        np.save(draft / "yaws.npy", angles.numpy())


def _write_cast(drawn: Path, params: CropParams) -> None:
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
    masks = [outlines / file.parent.name / f"{file.stem}.png" for file in files]
    with replacing_folder(CAST) as draft:
        np.save(draft / "images.npy", np.stack([_cropped(file, params) for file in files]))
        np.save(draft / "masks.npy", np.stack([_cropped(mask, params) > 127 for mask in masks]))
        table.to_csv(draft / "truth.csv", index=False)


def _cropped(file: Path, params: CropParams) -> NDArray[np.uint8]:
    return crop(read_grey(file), params.cmu_faces, params).image


if __name__ == "__main__":
    exit_on_error(main)
