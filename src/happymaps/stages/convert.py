"""Number the good CMU images of all scales and write them as PNG."""

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from tqdm import tqdm

from happymaps.errors import InputError, exit_on_error
from happymaps.files import replacing_folder, write_json
from happymaps.images.decode import read_grey
from happymaps.sources.face_names import parse_name
from happymaps.stages.layout import INTERIM, METRICS, RAW


def main() -> None:
    """Write data/interim/cmu_faces: PNGs as decoded, and index.csv saying where each came from."""
    source = RAW / "cmu_faces"
    good = sorted(source.glob("*/*.pgm"))
    bad = sorted(source.glob("*/*.bad"))
    with replacing_folder(INTERIM / "cmu_faces") as folder:
        index = pd.DataFrame(
            _convert(path, source, folder / f"{number:06d}.png")
            for number, path in enumerate(tqdm(good, unit="image", desc="converting"))
        )
        index.to_csv(folder / "index.csv", index=False)
    write_json(
        METRICS / "convert.json",
        {
            "images": len(good),
            "bad": len(bad),
            "people": index["subject"].nunique(),
            "scales": {f"1/{scale}": int((index["scale"] == scale).sum()) for scale in (1, 2, 4)},
        },
    )


def _convert(path: Path, source: Path, target: Path) -> dict[str, Any]:
    name = parse_name(path.name)
    if name is None:
        raise InputError(f"{path}: not a CMU image's name")
    picture = read_grey(path)
    Image.fromarray(picture).save(target)
    return {
        "image": target.name,
        "source": path.relative_to(source).as_posix(),
        "subject": name.subject,
        "pose": name.pose,
        "expression": name.expression,
        "eyes": name.eyes,
        "scale": name.scale,
        "width": picture.shape[1],
        "height": picture.shape[0],
    }


if __name__ == "__main__":
    exit_on_error(main)
