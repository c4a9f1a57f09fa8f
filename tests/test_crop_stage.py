"""The crop stage on drawn heads, and on pictures without any."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from happymaps.images import faces as looking
from happymaps.images.crop import centre_square, cut_out, part_of
from happymaps.images.faces import find_face
from happymaps.params import Params
from happymaps.sources.drawing import Person, Scene, render
from happymaps.stages import crop, find_faces
from happymaps.stages.layout import INTERIM, METRICS, PICTURES, PROCESSED
from toys import ROOT

Grey = NDArray[np.uint8]
WIDTH, HEIGHT = 160, 120


def head_at(across: float) -> Grey:
    scene = Scene(WIDTH, HEIGHT, 26, (across, 0.45), lamp=1.1, ambient=0.5, room="kitchen")
    picture, _ = render(Person(), yaw=0, pitch=0, scene=scene)
    return picture


def empty(shade: int) -> Grey:
    """Nobody; shades that tell where a part was cut out."""
    across = np.linspace(0, shade, WIDTH) + np.linspace(0, 40, HEIGHT)[:, None]
    return across.astype(np.uint8)


def put(name: str, pictures: list[Grey], **columns: list[str]) -> None:
    folder = INTERIM / name
    folder.mkdir(parents=True)
    names = [f"{number:06d}.png" for number in range(len(pictures))]
    for image, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(folder / image)
    pd.DataFrame({"image": names, **columns}).to_csv(folder / "index.csv", index=False)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Params of a project with four people: what is found of them is cropped."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["crop"]["size"] = 32
    Path("params.yaml").write_text(yaml.safe_dump(content))
    return Params.load()


def test_of_photographs_alone_a_face_smaller_than_its_persons_others_is_a_part_of_one(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_WHOLE", 2.0)  # so none is as large as it should be
    one = {"source": ["0.pgm"], "scale": ["1"], "subject": ["ann"]}
    for name in PICTURES:
        put(name, [head_at(0.45)], **one)
    find_faces.main()
    counts = json.loads((METRICS / "find_faces.json").read_text())
    assert {name: found["faces"] for name, found in counts.items()} == {
        name: int(name != "cmu_faces") for name in PICTURES
    }


def test_a_photograph_without_a_face_is_cut_out_where_the_others_of_its_person_are(
    params: Params,
) -> None:
    places = (0.35, 0.45, 0.6)
    found, lost, nobody = [head_at(place) for place in places], empty(200), empty(100)
    put(
        "cmu_faces",
        [*found, lost, nobody],
        source=[f"{number}.pgm" for number in range(5)],
        scale=["1"] * 5,
        subject=["ann"] * 4 + ["bob"],
    )
    put("recordings", [found[0], lost], subject=["cai"] * 2)
    put("youtube_faces", [lost, found[1]], subject=["dan"] * 2)
    put("facial_expressions", [lost, found[1]], subject=["eve"] * 2)
    find_faces.main()
    crop.main()
    faces_there = [find_face(picture) for picture in found]
    assert None not in faces_there
    parts = [part_of((HEIGHT, WIDTH), face, "face", params.crop) for face in faces_there]
    middle = tuple(np.median(parts, axis=0))
    square = centre_square(WIDTH, HEIGHT)
    # The places differ from one another, and from the square.
    assert len({*parts, middle, square}) == 4
    faces = np.load(PROCESSED / "cmu_faces" / "face.npy")
    expected = [
        *(cut_out(picture, part, params.crop) for picture, part in zip(found, parts, strict=True)),
        cut_out(lost, middle, params.crop),
        # Nothing is known of him.
        cut_out(nobody, square, params.crop),
    ]
    assert np.abs(faces.astype(int) - np.stack(expected)).max() <= 1
    # A frame is cropped as `happymaps predict` does it, which has no other pictures to look at.
    for name, row in (("recordings", 1), ("youtube_faces", 0), ("facial_expressions", 0)):
        frames = np.load(PROCESSED / name / "face.npy")
        assert np.abs(frames[row].astype(int) - cut_out(lost, square, params.crop)).max() <= 1
    metrics = json.loads((METRICS / "crop.json").read_text())
    assert metrics["cmu_faces"] == {"images": 5, "faces_found": 3, "faces_not_found": 2}
    assert metrics["recordings"] == {"images": 2, "faces_found": 1, "faces_not_found": 1}
    assert metrics["youtube_faces"] == metrics["facial_expressions"] == metrics["recordings"]
    looks = json.loads((METRICS / "find_faces.json").read_text())
    assert looks["cmu_faces"] == {"pictures": 5, "faces": 3}
