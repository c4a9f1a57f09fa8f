"""The drawn sample: what is written, and that the pictures show what the truth says."""

import csv
import hashlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from happymaps.sources import sample
from happymaps.sources.drawing import Expression, Eyes, Person, Scene, render
from happymaps.sources.face_names import parse_name
from happymaps.sources.manifests import read_manifest
from happymaps.sources.sample import Cast, draw_cast, label
from packing import contents

BALD = Person(hair_style="bald")
FRONTAL = Scene(noise=0.0, light=(0.0, 0.4, 0.8), centre=(0.5, 0.42))


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory, short_footage: None) -> Cast:
    return draw_cast(tmp_path_factory.mktemp("two") / "out", people=2, seed=5, progress=False)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_pgm(path: Path) -> tuple[str, int, NDArray[np.uint8]]:
    """The kind, the maxval and the values (height, width) of a grey map without comments."""
    kind, size, maxval, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    values = list(pixels) if kind == b"P5" else [int(word) for word in pixels.split()]
    return kind.decode(), int(maxval), np.array(values, np.uint8).reshape(height, width)


def middle(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean column and row."""
    lines, columns = np.nonzero(mask)
    return np.array([columns.mean(), lines.mean()])


# --- what is written


def test_the_same_seed_writes_the_same_bytes_whatever_the_size_of_the_cast(
    cast: Cast, tmp_path: Path
) -> None:
    three = contents(draw_cast(tmp_path / "three", people=3, seed=5, progress=False).destination)
    shared = ("cmu_faces.sha256", "truth/cmu_faces.csv")
    expected = {
        name: data for name, data in three.items() if name not in shared and "ciro4" not in name
    }
    two = {name: data for name, data in contents(cast.destination).items() if name not in shared}
    assert two == expected
    assert any(name.endswith(".mp4") for name in two)


def test_another_seed_draws_other_pictures(cast: Cast, tmp_path: Path) -> None:
    other = contents(draw_cast(tmp_path / "out", people=2, seed=6, progress=False).destination)
    same = contents(cast.destination)
    pictures = [name for name in same if name.endswith((".pgm", ".mp4")) and name in other]
    assert len(pictures) > 150
    assert not [name for name in pictures if same[name] == other[name]]


def test_layout_and_grammar(cast: Cast) -> None:
    folder = cast.destination / "cmu_faces"
    names = [parse_name(path.name) for path in folder.glob("*/*")]
    assert None not in names
    good = {n for n in names if n and not n.bad}
    bad = {n for n in names if n and n.bad}
    assert {n.scale for n in bad} == {1}
    assert len(bad) == 2
    assert len({n for n in good if n.scale == 1}) + len(bad) == cast.pictures == 64
    for damaged in bad:
        assert not {replace(damaged, scale=scale, bad=False) for scale in (1, 2, 4)} & good
    for whole in (n for n in good if n.scale == 1):
        assert {replace(whole, scale=scale) for scale in (2, 4)} <= good


def test_sixteen_of_the_full_cast_are_damaged() -> None:
    assert sum(sample._is_harmed(user) for user in sample.USERS) == 16


def test_every_grey_map_has_its_scale_and_an_uneven_maxval(cast: Cast) -> None:
    maxvals = []
    for path in (cast.destination / "cmu_faces").glob("*/*"):
        kind, maxval, values = read_pgm(path)
        name = parse_name(path.name)
        assert name is not None
        assert values.shape == (120 // name.scale, 128 // name.scale)
        assert kind == ("P2" if name.scale == 1 else "P5")
        assert values.max() <= maxval
        maxvals.append(maxval)
    assert 119 <= min(maxvals) < max(maxvals) <= 159
    assert len(set(maxvals)) > 20


def test_the_scales_show_the_same_picture(cast: Cast) -> None:
    folder = cast.destination / "cmu_faces/aru"
    full = next(path for path in sorted(folder.glob("*_open.pgm")))
    _, maxval, values = read_pgm(full)
    _, half_maxval, half = read_pgm(full.with_stem(full.stem + "_2"))
    expected = values.reshape(60, 2, 64, 2).mean(axis=(1, 3)) / maxval
    assert np.abs(expected - half / half_maxval).max() < 0.02


def test_the_manifest_names_every_file_in_order(cast: Cast) -> None:
    manifest = read_manifest(cast.destination / "cmu_faces.sha256")
    files = contents(cast.destination / "cmu_faces")
    assert list(manifest) == sorted(files)
    assert all(hashlib.sha256(files[name]).hexdigest() == manifest[name] for name in files)


def test_the_truth_agrees_with_the_names(cast: Cast) -> None:
    truth = rows(cast.destination / "truth/cmu_faces.csv")
    full = [p for p in (cast.destination / "cmu_faces").glob("*/*") if p.stem[-2:] not in "_2_4"]
    assert sorted(row["image"] for row in truth) == sorted(
        f"{path.parent.name}/{path.name}" for path in full
    )
    for row in truth:
        name = parse_name(Path(row["image"]).name)
        assert name is not None
        assert label(float(row["yaw"]), float(row["pitch"])) == name.pose


def test_masks_are_one_plausible_head(cast: Cast) -> None:
    paths = list((cast.destination / "truth/masks").rglob("*.png"))
    assert len(paths) == cast.pictures + cast.frames
    for path in paths:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        pieces, _ = cv2.connectedComponents(mask)
        assert pieces == 2, path  # the background and the head
        assert 0.05 < (mask > 0).mean() < 0.35


def test_annotations_follow_the_truth(cast: Cast) -> None:
    for subject, footage in zip(cast.subjects, sample.FOOTAGE, strict=True):
        truth = rows(cast.destination / f"truth/{subject}.csv")
        intervals = rows(cast.destination / f"annotations/{subject}.csv")
        assert {row["pose"] for row in intervals} >= {"straight", "left", "right"}
        assert ("up" in {row["pose"] for row in intervals}) == footage.looks_up
        for row in truth:
            time = float(row["time"])
            found = [i for i in intervals if float(i["start"]) <= time < float(i["end"])]
            pose = label(float(row["yaw"]), float(row["pitch"]))
            assert [i["pose"] for i in found] == ([pose] if pose else [])


def test_recordings_can_be_played(cast: Cast) -> None:
    for footage in sample.FOOTAGE:
        film = cv2.VideoCapture(str(cast.destination / f"recordings/{footage.subject}.mp4"))
        for _ in rows(cast.destination / f"truth/{footage.subject}.csv"):
            played, frame = film.read()
            assert played
            assert frame.shape[:2] == (footage.height, footage.width)
        assert not film.read()[0]
        assert film.get(cv2.CAP_PROP_FPS) == footage.rate


def test_intervals_are_half_open_half_a_frame_early() -> None:
    runs = sample._intervals(["straight", "straight", None, "left", "up"], rate=10)
    assert runs == [(0.0, 0.15, "straight"), (0.25, 0.35, "left"), (0.35, 0.45, "up")]


@pytest.mark.parametrize(
    ("yaw", "pitch", "pose"),
    [
        (0, 0, "straight"),
        (9.9, -9.9, "straight"),
        (10, 0, None),
        (20, 0, "left"),
        (-20, 0, "right"),
        (-60, 12, None),
        (0, 18, "up"),
        (0, -12, None),
    ],
)
def test_label(yaw: float, pitch: float, pose: str | None) -> None:
    assert label(yaw, pitch) == pose


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 3:
            assert list(tmp_path.iterdir()), "nothing was under way"
            raise KeyboardInterrupt
        return write_mask(*args, **kwargs)

    write_mask = sample._write_mask
    monkeypatch.setattr(sample, "_write_mask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw_cast(tmp_path / "out", people=2, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"people": 1}, {"people": 21}, {"seed": -1}])
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        draw_cast(tmp_path / "out", progress=False, **arguments)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("precious")
    with pytest.raises(FileExistsError):
        draw_cast(tmp_path, progress=False)
    assert contents(tmp_path) == {"kept.txt": b"precious"}


# --- what the pictures show


def lens_offset(yaw: float, pitch: float) -> NDArray[np.float64]:
    """How far right of and below the middle of the head the dark lenses are, in pixels."""
    picture, mask = render(BALD, yaw=yaw, pitch=pitch, eyes="sunglasses", scene=FRONTAL)
    return middle(mask & (picture < 50)) - middle(mask)


def test_the_glasses_go_where_the_head_turns() -> None:
    assert abs(lens_offset(0, 0)[0]) < 2
    assert lens_offset(60, 0)[0] > 6  # the subject's left is the right of the picture
    assert lens_offset(-60, 0)[0] < -6
    assert lens_offset(0, 35)[1] < lens_offset(0, 0)[1] - 3


def test_the_nose_leads_the_profile() -> None:
    _, mask = render(BALD, yaw=75, pitch=0)
    lines, columns = np.nonzero(mask)
    tip = lines[columns == columns.max()].mean()
    height = (tip - lines.min()) / np.ptp(lines)
    assert 0.5 < height < 0.8  # below the forehead, above the chin


def test_opposite_turns_are_mirror_images() -> None:
    left, left_mask = render(BALD, yaw=60, pitch=0, scene=FRONTAL)
    right, right_mask = render(BALD, yaw=-60, pitch=0, scene=FRONTAL)
    mirrored = right_mask[:, ::-1]
    assert (left_mask & mirrored).sum() / (left_mask | mirrored).sum() > 0.95
    both = left_mask & mirrored
    assert np.abs(left.astype(int) - right[:, ::-1])[both].mean() < 12
    assert (left_mask & right_mask).sum() / (left_mask | right_mask).sum() < 0.9


def test_a_turn_hides_the_ear_on_its_side() -> None:
    def ears(yaw: float) -> NDArray[np.float64]:
        """Columns, against the middle of the head, where the size of the ears shows."""
        small, mask = render(replace(BALD, ears=0.6), yaw=yaw, pitch=0, scene=FRONTAL)
        large, _ = render(replace(BALD, ears=1.4), yaw=yaw, pitch=0, scene=FRONTAL)
        columns = np.nonzero(np.abs(small.astype(int) - large) > 25)[1]
        return np.asarray(columns - middle(mask)[0])

    assert ears(0).min() < -10
    assert ears(0).max() > 10
    assert ears(65).max() < 5
    assert ears(-65).min() > -5


def test_expressions_and_glasses_change_the_face_and_nothing_else() -> None:
    looks = {
        (expression, eyes): render(
            BALD, yaw=0, pitch=0, expression=expression, eyes=eyes, scene=FRONTAL
        )
        for expression in get_args(Expression)
        for eyes in get_args(Eyes)
    }
    for (one, mask), (other, _) in itertools.combinations(looks.values(), 2):
        change = np.abs(one.astype(int) - other)
        assert change[mask].mean() > 0.8
        assert np.percentile(change[~mask], 95) == 0


def test_a_picture_is_full_of_contrast_and_its_size_is_kept() -> None:
    scene = Scene(width=90, height=110, scale=20)
    picture, mask = render(BALD, yaw=10, pitch=5, scene=scene)
    assert picture.shape == mask.shape == (110, 90)
    assert picture.dtype == np.uint8
    assert mask.dtype == np.bool_
    assert np.ptp(picture[mask]) > 120


def test_unknown_looks_are_refused() -> None:
    with pytest.raises(ValueError, match="expression"):
        render(BALD, yaw=0, pitch=0, expression="bored")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eyes"):
        render(BALD, yaw=0, pitch=0, eyes="shut")  # type: ignore[arg-type]
