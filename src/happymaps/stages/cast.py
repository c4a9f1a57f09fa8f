"""Draw the cast for the audits: heads whose outline and angle are known exactly."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from happymaps.errors import exit_on_error
from happymaps.files import replacing_folder
from happymaps.images.crop import crop, cut_out, method_of, part_in
from happymaps.images.decode import Grey, read_grey
from happymaps.labelling import truth_table
from happymaps.params import VIEWS, CropMethod, CropParams, Params
from happymaps.sources.face_names import parse_name
from happymaps.sources.sample import USERS, photograph
from happymaps.sources.turned import draw_turned
from happymaps.stages.layout import CAST, TURNED

_STEP = 10.0  # degrees between two angles of the turned heads


def main() -> None:
    """Write data/processed/cast (views, masks, truth) and data/processed/turned (views, yaws)."""
    params = Params.load()
    with tempfile.TemporaryDirectory() as folder:
        for user in tqdm(USERS[: params.audit.people], unit="person", desc="drawing"):
            photograph(Path(folder), user, params.seed, lambda: None)
        _write_cast(Path(folder), params.crop)
    yaws = sorted({*np.arange(0, 91, _STEP).tolist(), params.audit.turn})
    pictures, angles = draw_turned(params.audit.people, yaws, params.seed)
    with replacing_folder(TURNED) as draft:
        for view in VIEWS:
            method = method_of(view, params.crop.cmu_faces)
            images = [crop(picture, method, params.crop) for picture in pictures]
            np.save(draft / f"{view}.npy", np.stack(images))
        np.save(draft / "yaws.npy", angles)


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
        for view in VIEWS:
            method = method_of(view, params.cmu_faces)
            pairs = [_cropped(*pair, method, params) for pair in zip(files, masks, strict=True)]
            np.save(draft / f"{view}.npy", np.stack([image for image, _ in pairs]))
            np.save(draft / f"{view}_masks.npy", np.stack([mask for _, mask in pairs]))
        table.to_csv(draft / "truth.csv", index=False)


def _cropped(
    file: Path, mask_file: Path, method: CropMethod, params: CropParams
) -> tuple[Grey, NDArray[np.bool_]]:
    """A picture and the mask of its head, cropped alike."""
    picture, mask = read_grey(file), read_grey(mask_file)
    part = part_in(picture, method, params)
    return cut_out(picture, part, params), cut_out(mask, part, params) > 127


if __name__ == "__main__":
    exit_on_error(main)
