"""People of a set that no network has learned from: IMM's, 40 Danes.

IMM Face Database (Nordstrøm et al. 2004): of each person a photograph looking straight ahead
neutrally, one happily, one under a spotlight, and one turned to either side by about 30 degrees;
the sixth is free and left out. Every network is asked through `happymaps predict`, as users ask.
Give the folder or archive, or have `imm_face_db.tar.gz` in the mirror.

The generalist is asked again for the same photographs as other cameras would have them: cut down to
the face; small, somewhere in a picture of 1280x720; dark on one side of the face; leaning; far too
dark; small and strongly compressed, as by a webcam; shaken; partly outside the picture.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

# `happymaps.py` in this folder, where Python looks first, would hide the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from happymaps.errors import exit_on_error
from happymaps.images.decode import Grey, read_grey
from happymaps.images.faces import find_face
from happymaps.params import Params
from happymaps.sources.archives import iter_members
from happymaps.sources.download import in_mirror

RESULT = Path(__file__).with_suffix(".json")
POSES = {"1": "straight", "2": "straight", "3": "right", "4": "left", "5": "straight"}
_NAME = re.compile(r"\d\d-([1-5])[fm]\.jpg")


def main() -> None:
    """Print and write the share of right answers of each network, by pose."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="folder or archive of the photographs")
    source = parser.parse_args().source or in_mirror(["imm_face_db", "imm_face_db.tar.gz"])
    if source is None:
        parser.error("no photographs: give their folder or archive")
    with tempfile.TemporaryDirectory() as folder:
        for member, content in iter_members(source):
            name = PurePosixPath(member).name
            if _NAME.fullmatch(name):
                (Path(folder) / name).write_bytes(content)
        found = {name: _ask(name, folder) for name in Params.load().networks}
        for way, change in WAYS.items():
            with tempfile.TemporaryDirectory() as changed:
                _change_all(Path(folder), Path(changed), change)
                found["generalist"].setdefault("ways", {})[way] = _ask("generalist", changed)
    text = json.dumps(found, indent=2)
    print(text)
    RESULT.write_text(text + "\n")


def _change_all(source: Path, target: Path, change: Callable[[Grey, Generator], Grey]) -> None:
    for number, file in enumerate(sorted(source.iterdir())):
        changed = change(read_grey(file), np.random.default_rng(number))
        Image.fromarray(changed).save(target / file.name, quality=95)


def _cut_to_face(picture: Grey, _: Generator) -> Grey:
    face = find_face(picture)
    if face is None:
        return picture
    return picture[max(face.top, 0) : face.bottom, max(face.left, 0) : face.right]


def _small(picture: Grey, rng: Generator) -> Grey:
    """A quarter as large, on soft noise."""
    small = cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    noise = cv2.GaussianBlur(rng.normal(120, 60, (720, 1280)), (0, 0), 4)
    large: Grey = np.clip(120 + 8 * (noise - 120), 0, 255).astype(np.uint8)
    (height, width), (down, across) = small.shape, large.shape
    top, left = rng.integers(down - height), rng.integers(across - width)
    large[top : top + height, left : left + width] = small
    return large


def _dark_on_one_side(picture: Grey, rng: Generator) -> Grey:
    """A fifth of the light from the middle of the face to one side, with a soft edge."""
    face = find_face(picture)
    middle = (face.left + face.right) / 2 if face is not None else picture.shape[1] / 2
    across = (np.arange(picture.shape[1]) - middle) / 25
    share = 1 / (1 + np.exp(across * rng.choice([-1, 1])))
    return np.asarray(picture * (0.2 + 0.8 * share), np.uint8)


def _leaning(picture: Grey, rng: Generator) -> Grey:
    """By 20 degrees to either side."""
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 20.0 * rng.choice([-1, 1]), 1)
    leaning = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(leaning, np.uint8)


def _far_too_dark(picture: Grey, rng: Generator) -> Grey:
    """Underexposed, with the noise of a camera in the dark."""
    light = 128 * (picture / 255) ** 2.5
    return np.clip(light + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)


def _by_webcam(picture: Grey, _: Generator) -> Grey:
    """256x192 pixels, as a JPEG of quality 12."""
    small = cv2.resize(picture, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 12])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


def _shaken(picture: Grey, _: Generator) -> Grey:
    """Moved by 21 pixels while it was taken: faces are 180 wide."""
    return np.asarray(cv2.blur(picture, (21, 1)), np.uint8)


def _partly_outside(picture: Grey, rng: Generator) -> Grey:
    """A sixth of the face, on either side, is beyond the picture's edge."""
    face = find_face(picture)
    if face is None:
        return picture
    sixth = (face.right - face.left) // 6
    if rng.random() < 0.5:
        return picture[:, : face.right - sixth]
    return picture[:, max(face.left, 0) + sixth :]


WAYS: dict[str, Callable[[Grey, Generator], Grey]] = {
    "cut to the face": _cut_to_face,
    "small": _small,
    "dark on one side": _dark_on_one_side,
    "leaning": _leaning,
    "far too dark": _far_too_dark,
    "by webcam": _by_webcam,
    "shaken": _shaken,
    "partly outside": _partly_outside,
}


def _ask(network: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "happymaps.cli", "predict", "--network", network, folder]
    answers = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    right: dict[str, list[bool]] = defaultdict(list)
    for row in csv.DictReader(answers.splitlines()):
        match = _NAME.fullmatch(Path(row["path"]).name)
        assert match is not None
        pose, answer = POSES[match[1]], row["prediction"]
        if answer == "not left":
            right[pose].append(pose != "left")
        else:
            right[pose].append(answer == pose)
    everything = [one for each in right.values() for one in each]
    return {
        "images": len(everything),
        "accuracy": sum(everything) / len(everything),
        "by_pose": {pose: sum(right[pose]) / len(right[pose]) for pose in sorted(right)},
    }


if __name__ == "__main__":
    exit_on_error(main)
