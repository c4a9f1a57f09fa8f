"""Make every image square, grey and of one size."""

from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image
from tqdm import tqdm

from happymaps.errors import exit_on_error
from happymaps.files import replacing, replacing_folder, write_json
from happymaps.images.boxes import Part, in_fractions, in_pixels
from happymaps.images.crop import cut_out, part_of
from happymaps.images.decode import Grey, read_grey
from happymaps.images.faces import Looked, read_looks
from happymaps.params import CropMethod, CropParams, Params, View
from happymaps.photographs import finest_copies, read_index
from happymaps.stages.layout import FACES, INTERIM, METRICS, PROCESSED


def main() -> None:
    """Write every set of pictures in both views.

    data/processed/<set>/plain and plain.npy are cropped as params say for the set, face and
    face.npy are the faces in the same pictures. Where no face is found in a photograph, the face
    view looks where the same person's face is in the others; of a frame it takes the centre square,
    as `happymaps predict` does.
    """
    params = Params.load()
    metrics: dict[str, dict[str, int]] = {}
    for name, method in params.crop.methods.items():
        index = read_index(INTERIM / name)
        index["finest"] = finest_copies(index)
        looks = read_looks(FACES, name)
        _write_view(name, "plain", index, _parts(looks, method, params.crop), params)
        faces = _parts(looks, "face", params.crop)
        if name == "cmu_faces":
            faces |= _typical_parts(faces, looks, index)
        _write_view(name, "face", index, faces, params)
        count = sum(looks[copy].face is not None for copy in index["finest"])
        metrics[name] = {
            "images": len(index),
            "faces_found": count,
            "faces_not_found": len(index) - count,
        }
    write_json(METRICS / "crop.json", metrics)


def _parts(looks: dict[str, Looked], method: CropMethod, params: CropParams) -> dict[str, Part]:
    """What to cut out of each picture, in fractions of it, for its copies have other sizes."""
    return {
        image: in_fractions(part_of(look.shape, look.face, method, params), look.shape)
        for image, look in looks.items()
    }


def _typical_parts(
    parts: dict[str, Part], looks: dict[str, Looked], index: pd.DataFrame
) -> dict[str, Part]:
    """For pictures without a face the median of where it is in others of the same person."""
    person = dict(zip(index["finest"], index["subject"], strict=True))
    known: dict[str, list[Part]] = {}
    for image, look in looks.items():
        if look.face is not None:
            known.setdefault(person[image], []).append(parts[image])
    medians = {subject: _median(places) for subject, places in known.items()}
    return {
        image: medians[person[image]]
        for image, look in looks.items()
        if look.face is None and person[image] in medians
    }


def _median(parts: list[Part]) -> Part:
    left, top, right, bottom = np.median(parts, axis=0).tolist()
    return left, top, right, bottom


def _write_view(
    name: str, view: View, index: pd.DataFrame, parts: dict[str, Part], params: Params
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
