"""Make every image square, grey and of one size."""

from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image
from tqdm import tqdm

from happymaps.errors import exit_on_error
from happymaps.files import replacing, replacing_folder, write_json
from happymaps.images.crop import Crop, crop
from happymaps.images.decode import read_grey
from happymaps.params import CropMethod, CropParams, Params
from happymaps.stages.layout import INTERIM, METRICS, PROCESSED


def main() -> None:
    """Write data/processed/<set>/images and images.npy for the CMU faces and the recordings."""
    params = Params.load()
    metrics = {
        name: _crop_set(name, method, params.crop, params.threads)
        for name, method in (
            ("cmu_faces", params.crop.cmu_faces),
            ("recordings", params.crop.recordings),
        )
    }
    write_json(METRICS / "crop.json", metrics)


def _crop_set(name: str, method: CropMethod, params: CropParams, threads: int) -> dict[str, int]:
    source = INTERIM / name
    names = pd.read_csv(source / "index.csv", dtype=str)["image"]
    with replacing_folder(PROCESSED / name / "images") as folder:
        # Threads: decoding, resampling and packing all release Python's lock.
        crops: list[Crop] = Parallel(n_jobs=threads, prefer="threads")(
            delayed(_crop_file)(source / image, folder / image, method, params)
            for image in tqdm(names, unit="image", desc=f"cropping {name}")
        )
    # The same pixels once more in one file: the PNGs are for people, this is for the networks.
    images = np.array([image for image, _ in crops], np.uint8).reshape(-1, params.size, params.size)
    with replacing(PROCESSED / name / "images.npy") as draft, draft.open("wb") as file:
        np.save(file, images)
    found = [face_found for _, face_found in crops]
    counts = {"images": len(names)}
    if method == "face":
        counts |= {"faces_found": sum(found), "faces_not_found": len(found) - sum(found)}
    return counts


def _crop_file(source: Path, target: Path, method: CropMethod, params: CropParams) -> Crop:
    cropped = crop(read_grey(source), method, params)
    Image.fromarray(cropped.image).save(target)
    return cropped


if __name__ == "__main__":
    exit_on_error(main)
