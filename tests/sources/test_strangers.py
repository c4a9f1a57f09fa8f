"""People drawn before other cameras: their landmarks lie where they are drawn."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from happymaps.images.decode import read_grey
from happymaps.labelling import poses_of_landmarks, turn_and_lift
from happymaps.params import Params
from happymaps.sources.drawing import Person, Scene, landmarks, render
from happymaps.sources.manifests import read_manifest
from happymaps.sources.sample import STRANGERS
from happymaps.sources.strangers import draw_strangers
from happymaps.sources.youtube_faces import LANDMARKS, read_landmarks
from packing import contents

SCENE = Scene(width=240, height=240, scale=60, centre=(0.5, 0.45), light=(0, 0.3, 0.9), noise=0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strangers") / "faces"
    draw_strangers(folder, people=2, seed=3)
    return folder


def test_the_same_seed_draws_the_same_bytes_and_another_others(drawn: Path, tmp_path: Path) -> None:
    for seed in (3, 4):
        draw_strangers(tmp_path / str(seed), people=2, seed=seed)
    assert contents(tmp_path / "3") == contents(drawn)
    other = contents(tmp_path / "4")
    assert other.keys() == contents(drawn).keys()
    assert not [name for name, data in contents(drawn).items() if other[name] == data]


def test_the_manifest_names_all_that_is_drawn(drawn: Path) -> None:
    files = contents(drawn)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert read_manifest(drawn.with_suffix(".sha256")) == sums
    assert len(files) == 2 * 8 + 1
    names, points = read_landmarks(drawn / LANDMARKS)
    assert {f"images/{name}" for name in names} == files.keys() - {LANDMARKS}
    assert names.is_monotonic_increasing
    for name, found in zip(names, points, strict=True):
        height, width = read_grey(drawn / "images" / name).shape
        assert (found >= 0).all()
        assert (found < (width, height)).all()


def test_landmarks_tell_the_pose_that_is_drawn(drawn: Path, params: Params) -> None:
    names, points = read_landmarks(drawn / LANDMARKS)
    poses = poses_of_landmarks(points, params.landmarks).set_axis(names)
    for person in STRANGERS[:2]:
        found = [poses[f"{person}_{number:02d}.jpg"] for number in range(6)]
        assert found == ["straight", "straight", "left", "right", "left", "right"]


@pytest.mark.parametrize("people", [0, 7])
def test_only_so_many_people_are_there(tmp_path: Path, people: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 6"):
        draw_strangers(tmp_path / "faces", people=people)
    assert not (tmp_path / "faces").exists()


@pytest.mark.parametrize("person", [Person(hair_style="bald"), Person(0.9, 1.1, hair_style="bald")])
@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (25, 0), (-40, 0), (0, 30)])
def test_landmarks_lie_on_the_head_and_turn_with_it(person: Person, yaw: int, pitch: int) -> None:
    _, head = render(person, yaw=yaw, pitch=pitch, scene=SCENE)
    points = landmarks(person, yaw=yaw, pitch=pitch, roll=0, scene=SCENE)
    assert points.shape == (68, 2)
    columns, rows = points[17:].round().astype(int).T  # the jaw runs along the edge
    assert head[rows, columns].mean() > 0.95
    # Where it does not look to, they would not lie.
    other = landmarks(person, yaw=yaw + 60, pitch=pitch, roll=0, scene=SCENE)
    columns, rows = other[17:].round().astype(int).T
    assert head[rows, columns].mean() < 0.95


def test_a_nose_moves_to_the_subjects_left_and_up_with_the_head() -> None:
    def measured(**angles: float) -> tuple[float, float]:
        pose = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0} | angles
        turn, lift = turn_and_lift(landmarks(Person(), scene=SCENE, **pose)[None])
        return float(turn[0]), float(lift[0])

    assert measured()[0] == pytest.approx(0, abs=1e-5)
    turns = [measured(yaw=yaw)[0] for yaw in (-50, -20, -5, 0, 5, 20, 50)]
    assert turns == sorted(turns)
    assert np.allclose(turns, [-turn for turn in reversed(turns)], atol=1e-4)
    lifts = [measured(pitch=pitch)[1] for pitch in (-20, 0, 20, 40)]
    assert lifts == sorted(lifts, reverse=True)
    # About what is asked of recordings: 10 degrees are straight yet, 20 are a clear turn.
    assert measured(yaw=10)[0] < 0.35 < 0.42 < measured(yaw=20)[0]
