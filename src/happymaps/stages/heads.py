"""Say where the heads are in the crops, for the audits and for changing training images."""

import pandas as pd

from happymaps.errors import exit_on_error
from happymaps.files import write_json
from happymaps.images.boxes import Box, seen_in, write_boxes
from happymaps.images.crop import method_of, part_of
from happymaps.images.faces import Looked, head_around, read_looks
from happymaps.labelling import read_truth
from happymaps.params import VIEWS, CropMethod, CropParams, Params, View
from happymaps.photographs import finest_copies, read_index
from happymaps.stages.layout import FACES, INTERIM, METRICS, MORE_PEOPLE, PROCESSED, heads_of

# Set, view and image, and where the head is in pixels of it.
_Row = tuple[str, View, str, Box | None]


def main() -> None:
    """Write data/processed/<set>/heads.csv: boxes in pixels, empty where none is found."""
    params = Params.load()
    crop, methods = params.crop, params.crop.methods
    frames = _some_frames(params)
    tables = {
        "cmu_faces": _rows("cmu_faces", _photographs(), methods["cmu_faces"], crop),
        "recordings": [
            row
            for subject in params.subjects
            for row in _rows(subject, frames[subject], methods["recordings"], crop)
        ],
    }
    for name in MORE_PEOPLE:
        tables[name] = _rows(name, read_looks(FACES, name), methods[name], crop)
    for name, rows in tables.items():
        write_boxes(heads_of(name), ["set", "view", "image"], rows)
    write_json(METRICS / "heads.json", _counts([row for rows in tables.values() for row in rows]))


def _photographs() -> dict[str, Looked]:
    """Every CMU image, with what was found in its finest copy."""
    looks = read_looks(FACES, "cmu_faces")
    index = read_index(INTERIM / "cmu_faces")
    return dict(zip(index["image"], finest_copies(index).map(looks), strict=True))


def _some_frames(params: Params) -> dict[str, dict[str, Looked]]:
    """Some labelled frames of each recorded person: audits ask for no more."""
    looks = read_looks(FACES, "recordings")
    truth = read_truth(PROCESSED / "recordings" / "truth.csv")
    frames = truth[truth["pose"].notna()]
    some = {}
    for subject in params.subjects:
        person = frames["image"][frames["subject"] == subject]
        count = min(len(person), params.audit.heads)
        images = person.sample(count, random_state=params.seed)
        some[subject] = {image: looks[image] for image in images}
    return some


def _rows(
    name: str, looks: dict[str, Looked], method: CropMethod, params: CropParams
) -> list[_Row]:
    """Of each image of a set in both views."""
    return [
        (name, view, image, _head_in(look, method_of(view, method), params))
        for image, look in looks.items()
        for view in VIEWS
    ]


def _head_in(look: Looked, method: CropMethod, params: CropParams) -> Box | None:
    """In pixels of the crop: a head may be half outside it."""
    if look.face is None:
        return None
    part = part_of(look.shape, look.face, method, params)
    return seen_in(part, head_around(look.face), params.size)


def _counts(rows: list[_Row]) -> dict[str, dict[str, int]]:
    """How many heads were found, by set."""
    table = pd.DataFrame(rows, columns=["set", "view", "image", "head"])
    plain = table[table["view"] == "plain"].groupby("set", sort=False)["head"]
    return {
        str(name): {"images": len(heads), "heads_found": int(heads.notna().sum())}
        for name, heads in plain
    }


if __name__ == "__main__":
    exit_on_error(main)
