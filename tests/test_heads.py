from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from happymaps.images.boxes import Box
from happymaps.images.crop import centre_square, part_of
from happymaps.images.decode import read_grey
from happymaps.images.faces import (
    Looked,
    find_face,
    look,
    read_looks,
    read_points,
    write_looks,
)
from happymaps.params import VIEWS, CropMethod, CropParams, Params, RecordingParams, View
from happymaps.sources.drawing import Person, Scene, landmarks, render
from happymaps.stages.find_faces import _look_into
from happymaps.stages.heads import _counts, _photographs, _rows, _some_frames
from happymaps.stages.layout import FACES, INTERIM, PROCESSED

# Of a drawn head, what its box must reach of it and may reach beyond, in sizes of the head.
TOLERANCE = 0.15


@pytest.fixture
def crop_params(params: Params) -> CropParams:
    return params.crop.model_copy(update={"size": 64})


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    return tmp_path / "000000.png"


def film(path: Path, place: float, width: int, height: int) -> Box:
    """Draw a frame with a head `place` of its width from the left; give the head's own edges."""
    scale = 0.22 * min(width, height)
    scene = Scene(width, height, scale, (place, 0.45), lamp=1.1, ambient=0.5, room="kitchen")
    picture, head = render(Person(), yaw=0, pitch=0, scene=scene)
    Image.fromarray(picture).save(path)
    rows, columns = np.nonzero(head)
    return Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)


def seen(head: Box, part: Box, size: int) -> NDArray[np.float64]:
    """The head's edges in the square part that becomes `size` pixels wide."""
    return (np.array(head) - [part.left, part.top] * 2) * size / (part.right - part.left)


def heads_in(frame: Path, method: CropMethod, params: CropParams) -> dict[View, Box | None]:
    """Where the head of a picture is in both views."""
    rows = _rows("me", {frame.name: look(read_grey(frame))}, method, params)
    assert [row[:3] for row in rows] == [("me", view, frame.name) for view in VIEWS]
    return {view: box for _, view, _, box in rows}


@pytest.mark.parametrize(
    ("width", "height", "place"),
    [
        (320, 240, 0.5),
        (320, 240, 0.3),
        (320, 240, 0.8),  # partly outside the centre square, on the right
        (320, 240, 0.17),  # and on the left
        (640, 360, 0.6),  # larger than heads are looked for in
        (64, 60, 0.5),  # and smaller
        (280, 320, 0.5),
    ],
)
def test_the_box_lies_where_the_head_is_in_both_crops(
    frame: Path, crop_params: CropParams, width: int, height: int, place: float
) -> None:
    head = film(frame, place, width, height)
    found = heads_in(frame, "square", crop_params)
    face = find_face(read_grey(frame))
    around = part_of((height, width), face, "face", crop_params)
    parts: dict[View, Box] = {"plain": centre_square(width, height), "face": around}
    for view, part in parts.items():
        box = found[view]
        assert box is not None
        expected = seen(head, part, crop_params.size)
        size = expected[3] - expected[1]
        assert np.abs(np.array(box) - expected).max() < TOLERANCE * size, view
        reaches_outside = box.left < 0 or box.right > crop_params.size
        assert reaches_outside == (view == "plain" and place in (0.8, 0.17))


def test_the_box_is_in_pixels_of_whatever_crop_params_ask_for(
    frame: Path, crop_params: CropParams
) -> None:
    film(frame, 0.5, 320, 240)
    small = heads_in(frame, "square", crop_params)
    large = heads_in(frame, "square", crop_params.model_copy(update={"size": 128}))
    for view in VIEWS:
        assert np.abs(2 * np.array(small[view]) - np.array(large[view])).max() <= 1
    stretched = heads_in(frame, "stretch", crop_params)
    assert stretched["face"] == small["face"]
    plain, squeezed = small["plain"], stretched["plain"]
    assert plain is not None
    assert squeezed is not None
    wide = plain.right - plain.left
    assert squeezed.right - squeezed.left == pytest.approx(wide * 240 / 320, abs=1.5)
    assert (squeezed.top, squeezed.bottom) == (plain.top, plain.bottom)


def test_a_picture_without_a_head_has_no_box_in_any_view(
    frame: Path, crop_params: CropParams
) -> None:
    Image.new("L", (320, 240), 90).save(frame)
    assert heads_in(frame, "square", crop_params) == {"plain": None, "face": None}


def test_the_points_of_a_face_lie_where_they_are_drawn_the_subjects_right_first(
    tmp_path: Path,
) -> None:
    scene = Scene(240, 240, 60, (0.5, 0.45), lamp=1.1, ambient=0.5, room="kitchen")
    picture, _ = render(Person(), yaw=0, pitch=0, scene=scene)
    drawn = landmarks(Person(), yaw=0, pitch=0, roll=0, scene=scene)
    eyes = drawn[36:42].mean(axis=0), drawn[42:48].mean(axis=0)
    table = tmp_path / "faces.csv"
    write_looks(table, {"a": {"0.png": look(picture), "1.png": Looked((9, 9), None)}})
    names, points = read_points(table, "a")
    assert names.tolist() == ["0.png", "1.png"]
    expected = np.stack([*eyes, drawn[30], drawn[48], drawn[54]])
    assert np.abs(points[0] - expected).max() < 12
    assert np.isnan(points[1]).all()
    assert read_looks(table, "a")["0.png"] == look(picture)


def test_every_photograph_has_what_was_found_in_its_finest_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = INTERIM / "cmu_faces"
    folder.mkdir(parents=True)
    film(folder / "000001.png", 0.5, 128, 120)
    Image.new("L", (64, 60), 90).save(folder / "000000.png")
    Image.new("L", (64, 60), 90).save(folder / "000002.png")
    index = pd.DataFrame(
        {
            "image": ["000000.png", "000001.png", "000002.png"],
            "source": ["a_2.pgm", "a.pgm", "b_2.pgm"],
            "scale": ["2", "1", "2"],
        }
    )
    index.to_csv(folder / "index.csv", index=False)
    looks = _look_into("cmu_faces", threads=1)
    write_looks(FACES, {"cmu_faces": looks, "recordings": {"000001.png": Looked((9, 9), None)}})
    assert list(looks) == ["000001.png", "000002.png"]
    found = look(read_grey(folder / "000001.png"))
    assert found.shape == (120, 128)
    assert found.face is not None
    nothing = Looked((60, 64), None)
    images = zip(index["image"], (found, found, nothing), strict=True)
    assert _photographs() == dict(images)


def test_of_a_recorded_person_some_labelled_frames_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params
) -> None:
    monkeypatch.chdir(tmp_path)
    # Every other frame is labelled: six of the one person, and two of the other.
    images = [f"{number:06d}.png" for number in range(16)]
    looks = {image: Looked((9, 9 + number), None) for number, image in enumerate(images)}
    write_looks(FACES, {"recordings": looks})
    subjects, poses = ["zoe"] * 12 + ["adam"] * 4, ["left", ""] * 8
    truth = {"image": images, "left": [1, ""] * 8, "pose": poses, "subject": subjects}
    (PROCESSED / "recordings").mkdir(parents=True)
    pd.DataFrame(truth).to_csv(PROCESSED / "recordings/truth.csv", index=False)
    people = [RecordingParams(subject=name, path=Path(name)) for name in ("zoe", "adam")]
    audit = params.audit.model_copy(update={"heads": 4})
    found = _some_frames(params.model_copy(update={"recordings": people, "audit": audit}))
    assert list(found) == ["zoe", "adam"]
    assert len(found["zoe"]) == 4
    assert found["zoe"].keys() < set(images[:12:2])
    assert found["adam"].keys() == set(images[12::2])
    assert all(look == looks[image] for frames in found.values() for image, look in frames.items())


def test_heads_are_counted_once_an_image() -> None:
    box = Box(1, 2, 3, 4)
    heads = [("zoe", "0", box), ("zoe", "1", None), ("zoe", "2", box), ("adam", "3", None)]
    counts = _counts([(name, view, image, head) for name, image, head in heads for view in VIEWS])
    assert counts == {
        "zoe": {"images": 3, "heads_found": 2},
        "adam": {"images": 1, "heads_found": 0},
    }
    assert list(counts) == ["zoe", "adam"]
