"""More of the sample: people drawn before other cameras, laid out like the published sets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from happymaps.files import replacing_folder
from happymaps.sources.drawing import Scene, landmarks, render_all
from happymaps.sources.face_names import IMAGES
from happymaps.sources.sample import STRANGERS, cast_person, rng_of, write_manifest
from happymaps.sources.youtube_faces import LANDMARKS, table_of

# Of the frames of each: straight ahead, aside, and something between that has no clear pose.
_YAWS = ((-6, 6), (-6, 6), (28, 55), (-55, -28), (28, 55), (-55, -28), (11, 17), (-17, -11))


def draw_strangers(
    destination: Path,
    *,
    people: int = len(STRANGERS),
    seed: int = 0,
    with_landmarks: bool = True,
) -> None:
    """Write frames and landmarks to the folder `destination`, and their sums to a file beside it.

    As published: `images/<Name>_<number>.jpg` (which are PNG), `landmarks/keypoints.csv`, and
    `<destination>.sha256`. The same seed writes the same bytes. The YouTube Faces have landmarks,
    facial expressions have none.

    Raises:
        ValueError: when there are not so many people.
    """
    if not 1 <= people <= len(STRANGERS):
        raise ValueError(f"people must be between 1 and {len(STRANGERS)}, not {people}")
    looks = {
        f"{name}_{number:02d}.jpg": look
        for name in STRANGERS[:people]
        for number, look in enumerate(_looks_of(name, seed))
    }
    with replacing_folder(destination) as draft:
        (draft / IMAGES).mkdir()
        for file, (picture, _) in zip(looks, render_all(looks.values()), strict=True):
            Image.fromarray(picture).save(draft / IMAGES / file, "PNG")
        if with_landmarks:
            table = table_of({file: landmarks(**looks[file]) for file in sorted(looks)})
            (draft / LANDMARKS).parent.mkdir()
            (draft / LANDMARKS).write_bytes(table)
    write_manifest(destination)


def _looks_of(name: str, seed: int) -> Iterator[dict[str, Any]]:
    """What `render` is told for every frame of somebody."""
    rng = rng_of(seed, name)
    person = cast_person(name, seed, rng)
    for least, most in _YAWS:
        scene = _before_a_camera(rng)
        yaw, pitch, roll = rng.uniform((least, -6, -8), (most, 6, 8)).tolist()
        yield {"person": person, "yaw": yaw, "pitch": pitch, "roll": roll, "scene": scene}


def _before_a_camera(rng: np.random.Generator) -> Scene:
    """No two frames are alike in framing, size and light."""
    width, height = (int(side) for side in rng.integers(110, 220, 2))
    light = (rng.uniform(-0.9, 0.9), rng.uniform(0.2, 0.8), rng.uniform(0.4, 0.9))
    return Scene(
        width=width,
        height=height,
        scale=min(width, height) * rng.uniform(0.17, 0.24),
        centre=(rng.uniform(0.42, 0.58), rng.uniform(0.42, 0.5)),
        light=light,
        lamp=rng.uniform(0.8, 1.4),
        ambient=rng.uniform(0.3, 0.6),
        room="kitchen",
        room_shift=(rng.uniform(-0.2, 0.2), rng.uniform(-0.1, 0.1)),
        room_light=rng.uniform(0.5, 1.1),
        noise_seed=int(rng.integers(1 << 30)),
    )
