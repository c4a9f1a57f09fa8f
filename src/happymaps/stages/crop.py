"""Make every image square, grey and of one size."""

from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image
from tqdm import tqdm

from happymaps.errors import exit_on_error
from happymaps.files import replacing, replacing_folder, write_json
from happymaps.images.boxes import Part, in_pixels
from happymaps.images.crop import cut_out, face_places, places
from happymaps.images.decode import Grey, read_grey
from happymaps.images.faces import Looked, read_looks
from happymaps.params import CropParams, Params, View
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
        _write_view(name, "plain", index, places(looks, method, params.crop), params)
        _write_view(name, "face", index, _face_places(name, index, looks, params.crop), params)
        count = sum(looks[copy].face is not None for copy in index["finest"])
        metrics[name] = {
            "images": len(index),
            "faces_found": count,
            "faces_not_found": len(index) - count,
        }
    write_json(METRICS / "crop.json", metrics)


def _face_places(
    name: str, index: pd.DataFrame, looks: dict[str, Looked], params: CropParams
) -> dict[str, Part]:
    if name != "cmu_faces":
        return places(looks, "face", params)
    person = dict(zip(index["finest"], index["subject"], strict=True))
    return face_places(looks, person, params)


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
