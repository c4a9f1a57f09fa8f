"""Number the good images and write them as PNG."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from tqdm import tqdm

from happymaps.errors import InputError, exit_on_error
from happymaps.files import replacing_folder, write_json
from happymaps.images.decode import read_grey
from happymaps.sources.face_names import IMAGES, parse_name, person_of
from happymaps.stages.layout import INTERIM, METRICS, MORE_PEOPLE, RAW


def main() -> None:
    """Write data/interim/<set>: PNGs as decoded, and index.csv saying where each came from."""
    source = RAW / "cmu_faces"
    good = sorted(source.glob("*/*.pgm"))
    bad = sorted(source.glob("*/*.bad"))
    index = _convert_all("cmu_faces", good, source, _named_facts)
    more = {name: _convert_people(name) for name in MORE_PEOPLE}
    write_json(
        METRICS / "convert.json",
        {
            "images": len(good),
            "bad": len(bad),
            "people": index["subject"].nunique(),
            "scales": {f"1/{scale}": int((index["scale"] == scale).sum()) for scale in (1, 2, 4)},
            **more,
        },
    )


def _convert_people(name: str) -> dict[str, int]:
    """A set whose files are called `<person>_<number>`; how many there are of both."""
    folder = RAW / name / IMAGES
    index = _convert_all(name, sorted(folder.iterdir()), folder, _person)
    return {"images": len(index), "people": index["subject"].nunique()}


def _convert_all(
    name: str, files: list[Path], source: Path, facts_of: Callable[[Path], dict[str, Any]]
) -> pd.DataFrame:
    """Write a set's pictures, numbered in the order given, and its index."""
    with replacing_folder(INTERIM / name) as folder:
        index = pd.DataFrame(
            _convert(path, source, folder / f"{number:06d}.png", facts_of(path))
            for number, path in enumerate(tqdm(files, unit="image", desc=f"converting {name}"))
        )
        index.to_csv(folder / "index.csv", index=False)
    return index


def _convert(path: Path, source: Path, target: Path, facts: dict[str, Any]) -> dict[str, Any]:
    picture = read_grey(path)
    Image.fromarray(picture).save(target)
    return {
        "image": target.name,
        "source": path.relative_to(source).as_posix(),
        **facts,
        "width": picture.shape[1],
        "height": picture.shape[0],
    }


def _named_facts(path: Path) -> dict[str, Any]:
    """What the name of a CMU image says."""
    name = parse_name(path.name)
    if name is None:
        raise InputError(f"{path}: not a CMU image's name")
    return {
        "subject": name.subject,
        "pose": name.pose,
        "expression": name.expression,
        "eyes": name.eyes,
        "scale": name.scale,
    }


def _person(path: Path) -> dict[str, Any]:
    return {"subject": person_of(path.name)}


if __name__ == "__main__":
    exit_on_error(main)
