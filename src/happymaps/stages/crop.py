"""Make every image square, grey and of one size."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image
from tqdm import tqdm

from happymaps.errors import exit_on_error
from happymaps.files import replacing, replacing_folder, write_json
from happymaps.images.crop import Grey, Part, cut_out, in_fractions, in_pixels, part_of
from happymaps.images.decode import read_grey
from happymaps.params import CropMethod, CropParams, Params, View
from happymaps.photographs import finest_copies
from happymaps.stages.layout import INTERIM, METRICS, PROCESSED


def main() -> None:
    """Write the CMU faces, the recordings and the YouTube faces in both views.

    data/processed/<set>/plain and plain.npy are cropped as params say for the set, face and
    face.npy are the faces in the same pictures. Where no face is found in a photograph, the face
    view looks where the same person's face is in the others; of a frame it takes the centre square,
    as `happymaps predict` does.
    """
    params = Params.load()
    methods = {
        "cmu_faces": params.crop.cmu_faces,
        "recordings": params.crop.recordings,
        "youtube_faces": params.crop.youtube_faces,
    }
    metrics: dict[str, dict[str, int]] = {}
    for name, method in methods.items():
        index = pd.read_csv(INTERIM / name / "index.csv", dtype=str)
        index["finest"] = finest_copies(index)
        plain = _find_parts(name, index, method, params)
        faces = _find_parts(name, index, "face", params)
        _write_view(name, "plain", index, plain["part"], params)
        seen = _with_typical_parts(faces, index) if name == "cmu_faces" else faces["part"]
        _write_view(name, "face", index, seen, params)
        found = int(faces.loc[index["finest"], "face_found"].sum())
        metrics[name] = {
            "images": len(index),
            "faces_found": found,
            "faces_not_found": len(index) - found,
        }
    write_json(METRICS / "crop.json", metrics)


def _find_parts(name: str, index: pd.DataFrame, method: CropMethod, params: Params) -> pd.DataFrame:
    """What to cut out of each picture that is its own finest copy: `part` and `face_found`."""
    copies = index["finest"].unique()
    # Threads: decoding and detecting release Python's lock, as do resampling and packing below.
    found = Parallel(n_jobs=params.threads, prefer="threads")(
        delayed(_part_of_file)(INTERIM / name / image, method, params.crop)
        for image in tqdm(copies, unit="image", desc=f"looking into {name}: {method}")
    )
    return pd.DataFrame(found, index=copies, columns=["part", "face_found"])


def _part_of_file(file: Path, method: CropMethod, params: CropParams) -> tuple[Part, bool]:
    """The part in fractions of the picture, for its copies have other sizes."""
    picture = read_grey(file)
    part, face_found = part_of(picture, method, params)
    return in_fractions(part, picture.shape), face_found


def _with_typical_parts(faces: pd.DataFrame, index: pd.DataFrame) -> "pd.Series[Any]":
    """Parts, and where no face was found the median of the same person's."""
    person = index.drop_duplicates("finest").set_index("finest")["subject"]
    known = faces[faces["face_found"]]
    typical = {
        subject: tuple(np.median(np.array(parts.tolist()), axis=0))
        for subject, parts in known["part"].groupby(person)
    }
    return pd.Series(
        [
            part if face_found else typical.get(person[copy], part)
            for copy, part, face_found in faces.itertuples()
        ],
        index=faces.index,
    )


def _write_view(
    name: str, view: View, index: pd.DataFrame, parts: "pd.Series[Any]", params: Params
) -> None:
    source = INTERIM / name
    with replacing_folder(PROCESSED / name / view) as folder:
        cropped: list[Grey] = Parallel(n_jobs=params.threads, prefer="threads")(
            delayed(_crop_file)(source / image, folder / image, parts[finest], params.crop)
            for image, finest in zip(
                tqdm(index["image"], unit="image", desc=f"cropping {name}: {view}"),
                index["finest"],
                strict=True,
            )
        )
    # The same pixels once more in one file: the PNGs are for people, this is for the networks.
    size = params.crop.size
    images = np.array(cropped, np.uint8).reshape(-1, size, size)
    with replacing(PROCESSED / name / f"{view}.npy") as draft, draft.open("wb") as file:
        np.save(file, images)


def _crop_file(source: Path, target: Path, part: Part, params: CropParams) -> Grey:
    picture = read_grey(source)
    image = cut_out(picture, in_pixels(part, picture.shape), params)
    Image.fromarray(image).save(target)
    return image


if __name__ == "__main__":
    exit_on_error(main)
