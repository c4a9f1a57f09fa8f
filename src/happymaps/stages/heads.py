"""Find heads, for the audits: of the test part, and of some training faces and frames."""

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from PIL import Image
from tqdm import tqdm

from happymaps.datasets import Faces, load_faces, load_parts, named_test_sets
from happymaps.errors import exit_on_error
from happymaps.files import replacing, write_json
from happymaps.images.crop import Box, part_of
from happymaps.images.decode import read_grey
from happymaps.params import CropParams, Params
from happymaps.stages.layout import HEADS, INTERIM, METRICS, PROCESSED, SPLIT
from happymaps.understanding.focus import head_box

_LARGEST_FRAME = 320  # pixels


def main() -> None:
    """Write data/processed/heads.csv: boxes in pixels, empty where none is found; count them."""
    params = Params.load()
    parts = load_parts(PROCESSED / "cmu_faces", SPLIT)
    subjects = [recording.subject for recording in params.recordings]
    people = named_test_sets(parts["test"], load_faces(PROCESSED / "recordings"), subjects)
    # The test part is what explanations are audited on; of the others the typical is asked.
    chosen = {"cmu_test": people.pop("cmu_test")} | {
        name: _some(faces, params.audit.heads, params.seed)
        # A space, which no subject's name has.
        for name, faces in {"training faces": parts["train"], **people}.items()
    }
    rows, metrics = [], {}
    for name, faces in chosen.items():
        names = faces.truth["image"].tolist()
        bar = tqdm(range(len(faces)), unit="image", desc=f"finding heads in {name}")
        # Threads: the cascades release Python's lock.
        boxes: list[Box | None] = Parallel(n_jobs=params.threads, prefer="threads")(
            delayed(_head_in_frame)(names[row], params.crop)
            if name in people
            else delayed(head_box)(faces.images[row, 0].numpy())
            for row in bar
        )
        rows += [
            (name, image, *(box or [None] * 4)) for image, box in zip(names, boxes, strict=True)
        ]
        metrics[name] = {"images": len(boxes), "heads_found": len(boxes) - boxes.count(None)}
    with replacing(HEADS) as draft:
        table = pd.DataFrame(rows, columns=["set", "image", *Box._fields])
        table.astype(dict.fromkeys(Box._fields, "Int64")).to_csv(draft, index=False)
    write_json(METRICS / "heads.json", metrics)


def _some(faces: Faces, count: int, seed: int) -> Faces:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(faces))[:count])
    return Faces(faces.images[torch.from_numpy(chosen)], faces.truth.iloc[chosen])


def _head_in_frame(image: str, params: CropParams) -> Box | None:
    """Looked for in the whole frame, in pixels of the crop: a head may be half outside of it."""
    frame = read_grey(INTERIM / "recordings" / image)
    picture = Image.fromarray(frame)
    # Larger heads than these are found no better, only later.
    picture.thumbnail((_LARGEST_FRAME, _LARGEST_FRAME))
    head = head_box(np.asarray(picture))
    if head is None:
        return None
    enlarged = frame.shape[1] / picture.width
    part, _ = part_of(frame, params.recordings, params)
    across = params.size / (part.right - part.left)
    down = params.size / (part.bottom - part.top)
    return Box(
        round((head.left * enlarged - part.left) * across),
        round((head.top * enlarged - part.top) * down),
        round((head.right * enlarged - part.left) * across),
        round((head.bottom * enlarged - part.top) * down),
    )


if __name__ == "__main__":
    exit_on_error(main)
