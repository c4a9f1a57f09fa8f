"""Find the heads, for the audits and for changing training images."""

from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from happymaps.datasets import load_faces
from happymaps.errors import exit_on_error
from happymaps.files import write_csv, write_json
from happymaps.images.crop import Box, head_box, method_of, part_of, seen_in
from happymaps.images.decode import read_grey
from happymaps.params import VIEWS, CropMethod, CropParams, Params, View
from happymaps.photographs import finest_copies
from happymaps.stages.layout import (
    HEADS,
    INTERIM,
    METRICS,
    PROCESSED,
    RECORDED_HEADS,
    YOUTUBE_HEADS,
)


def main() -> None:
    """Write data/processed/<set>/heads.csv: boxes in pixels, empty where none is found."""
    params = Params.load()
    index = pd.read_csv(INTERIM / "cmu_faces" / "index.csv", dtype=str).set_index("image")
    finest = finest_copies(index.reset_index()).set_axis(index.index)
    faces = _look("cmu_faces", finest, params.crop.cmu_faces, params)
    frames = load_faces(PROCESSED / "recordings", "plain").truth
    recorded = []
    for subject in params.subjects:
        person = frames[frames["subject"] == subject]
        # Of a recorded person only the typical is asked.
        count = min(len(person), params.audit.heads)
        names = person.sample(count, random_state=params.seed)["image"]
        recorded += _look(subject, names.set_axis(names), params.crop.recordings, params)
    names = pd.read_csv(INTERIM / "youtube_faces" / "index.csv", dtype=str)["image"]
    youtube = _look("youtube_faces", names.set_axis(names), params.crop.youtube_faces, params)
    counts = {
        **_write_heads(faces, HEADS),
        **_write_heads(recorded, RECORDED_HEADS),
        **_write_heads(youtube, YOUTUBE_HEADS),
    }
    write_json(METRICS / "heads.json", counts)


def _write_heads(rows: list[tuple[Any, ...]], path: Path) -> dict[str, dict[str, int]]:
    """Write a table, and count per set how many heads were found."""
    table = pd.DataFrame(rows, columns=["set", "view", "image", *Box._fields])
    write_csv(path, table.astype(dict.fromkeys(Box._fields, "Int64")))
    plain = table[table["view"] == "plain"].groupby("set", sort=False)["left"]
    return {
        str(name): {"images": len(edges), "heads_found": int(edges.notna().sum())}
        for name, edges in plain
    }


def _look(
    name: str, finest: "pd.Series[str]", method: CropMethod, params: Params
) -> list[tuple[Any, ...]]:
    """Rows of the table for a set's images, each of which has a finest copy."""
    folder = INTERIM / (name if name in ("cmu_faces", "youtube_faces") else "recordings")
    copies = finest.unique()
    # Threads: the detector's networks release Python's lock.
    found = Parallel(n_jobs=params.threads, prefer="threads")(
        delayed(_find)(folder / image, method, params.crop)
        for image in tqdm(copies, unit="image", desc=f"finding heads of {name}")
    )
    heads = dict(zip(copies, found, strict=True))
    return [
        (name, view, image, *(box or [None] * 4))
        for image, copy in finest.items()
        for view, box in heads[copy].items()
    ]


def _find(file: Path, method: CropMethod, params: CropParams) -> dict[View, Box | None]:
    """Looked for in the whole picture, in pixels of the crops: a head may be half outside one."""
    picture = read_grey(file)
    head = head_box(picture)
    if head is None:
        return dict.fromkeys(VIEWS)
    parts = {view: part_of(picture, method_of(view, method), params)[0] for view in VIEWS}
    return {view: seen_in(part, head, params.size) for view, part in parts.items()}


if __name__ == "__main__":
    exit_on_error(main)
