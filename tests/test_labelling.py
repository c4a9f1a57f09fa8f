from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from happymaps.errors import InputError
from happymaps.labelling import (
    count_truth,
    end_of,
    poses_at,
    poses_of_landmarks,
    read_annotation,
    read_truth,
    truth_table,
    turn_and_lift,
)
from happymaps.params import POSES, LandmarksParams, Params
from toys import ROOT


def write(folder: Path, rows: str) -> Path:
    file = folder / "ann.csv"
    file.write_text("start,end,pose\n" + rows)
    return file


def test_intervals_are_half_open_and_gaps_unlabelled(tmp_path: Path) -> None:
    # Blank lines at the end are what editors leave.
    intervals = read_annotation(write(tmp_path, "1,2,left\n0,0.5,straight\n2,3,up\n\n\n"), 3)
    times = pd.Series([0, 0.49, 0.5, 0.99, 1, 1.99, 2, 2.9], index=range(10, 18))
    poses = poses_at(times, intervals)
    assert poses.index.tolist() == times.index.tolist()
    assert poses.where(poses.notna(), None).tolist() == [
        "straight", "straight", None, None, "left", "left", "up", "up",
    ]  # fmt: skip


def test_the_header_alone_leaves_every_frame_unlabelled(tmp_path: Path) -> None:
    poses = poses_at(pd.Series([0.0, 1.0]), read_annotation(write(tmp_path, ""), 2))
    assert poses.isna().all()


@pytest.mark.parametrize(("seconds", "end"), [(0.04, 10.04), (2, 10.1)])
def test_a_recording_ends_a_frame_after_its_last_at_most(seconds: float, end: float) -> None:
    frames = pd.DataFrame({"time": [9.0, 10 - seconds], "until": [9.5, 10.0]})
    assert end_of(frames) == pytest.approx(end)


@pytest.mark.parametrize(
    ("rows", "row", "why"),
    [
        ("0,2,left\n1,3,up\n", 3, "overlaps"),
        ("0,5,left\n1,2,up\n", 3, "overlaps"),
        ("1,1,left\n", 2, "end is not after start"),
        ("0,1,left\n3,2,up\n", 3, "end is not after start"),
        ("0,1,down\n", 2, "pose is none of straight, left, right, up"),
        ("0,1,Left\n", 2, "pose is none of"),
        ("0,1,\n", 2, "pose is none of"),
        ("8,9,up\n9,11,left\n", 3, "past the video's end at 10 s"),
        ("-1,1,left\n", 2, "before the video"),
        ("0,x,left\n", 2, "end is not a number"),
        (",1,left\n", 2, "start is not a number"),
        ("0,inf,left\n", 2, "end is not a number"),
        ("0,1,left\n\n2,3,up\n", 3, "should be"),
        ("0,1,left,2\n", 2, "should be"),
        ("0,1\n", 2, "should be"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, rows: str, row: int, why: str) -> None:
    file = write(tmp_path, rows)
    with pytest.raises(InputError) as caught:
        read_annotation(file, 10)
    assert f"{file}, row {row} " in str(caught.value)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"start;end;pose\n0;1;left\n", b"0,1,left\n", b"\xff\xfe\x00", b"a,b\n1,2,3,4\n"],
)
def test_a_file_that_is_no_annotation_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ann.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"ann\.csv"):
        read_annotation(file, 10)


def test_a_missing_annotation_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="columns start,end,pose"):
        read_annotation(tmp_path / "ann.csv", 10)


def test_truth_keeps_row_n_for_image_n() -> None:
    images = pd.Series(["000000.png", "000001.png", "000002.png"])
    truth = truth_table(images, pd.Series(["left", None, "up"]), pd.Series(["ann"] * 3))
    assert truth["left"].astype(object).where(truth["left"].notna(), None).tolist() == [1, None, 0]
    counts = {"images": 3, "straight": 0, "left": 1, "right": 0, "up": 1, "unlabelled": 1}
    assert count_truth(truth) == counts


def test_every_committed_recording_has_a_readable_annotation(params: Params) -> None:
    for recording in params.recordings:
        file = ROOT / "data/annotations" / f"{recording.subject}.csv"
        intervals = read_annotation(file, end_of_video=60)
        assert set(intervals["pose"]) <= set(POSES)
        assert not intervals.empty


def test_somebody_may_be_called_nan(tmp_path: Path) -> None:
    rows = "image,left,pose,subject\na.png,1,left,nan\nb.png,,,nan\n"
    (tmp_path / "truth.csv").write_text(rows)
    truth = read_truth(tmp_path / "truth.csv")
    assert truth["subject"].tolist() == ["nan", "nan"]
    assert truth["pose"].isna().tolist() == [False, True]


def face(nose: tuple[float, float], tilt: float = 0.0) -> NDArray[np.float64]:
    """Landmarks (68, 2): eyes at height 0, mouth at 2, cheeks 2 apart, all turned by `tilt`."""
    points = np.zeros((68, 2))
    points[[2, 14]] = (-1, 1), (1, 1)
    points[[36, 45]] = (-0.6, 0), (0.6, 0)
    points[[48, 54]] = (-0.4, 2), (0.4, 2)
    points[30] = nose
    sine, cosine = np.sin(tilt), np.cos(tilt)
    return np.asarray(50 + 30 * points @ np.array([[cosine, sine], [-sine, cosine]]))


@pytest.mark.parametrize("tilt", [0, 0.5, -1.2])
def test_a_heads_turn_and_lift_by_hand_whatever_its_tilt(tilt: float) -> None:
    turn, lift = turn_and_lift(np.stack([face((0.25, 1), tilt), face((-0.5, 0.5), tilt)]))
    assert turn == pytest.approx([0.25, -0.5])
    assert lift == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize("tilt", [0, 0.5, -1.2])
def test_five_points_tell_it_too(tilt: float) -> None:
    eyes_nose_and_mouth = [36, 45, 30, 48, 54]
    heads = np.stack([face((0.25, 1), tilt), face((-0.5, 0.5), tilt)])[:, eyes_nose_and_mouth]
    turn, lift = turn_and_lift(heads)
    # The sides are between eye and corner of the mouth: half as far away as the cheeks.
    assert turn == pytest.approx([0.5, -1])
    assert lift == pytest.approx([0.5, 0.25])


def test_a_picture_without_a_face_has_no_pose() -> None:
    limits = LandmarksParams(straight=0.2, turned=0.4, level=(0.3, 0.8))
    points = np.stack([np.full((5, 2), np.nan), face((0, 1))[[36, 45, 30, 48, 54]]])
    assert poses_of_landmarks(points, limits).tolist() == [None, "straight"]


def test_only_clear_heads_have_a_pose() -> None:
    limits = LandmarksParams(straight=0.2, turned=0.4, level=(0.3, 0.8))
    expected = {
        (0, 1): "straight", (0.19, 1): "straight", (-0.19, 1.5): "straight",
        (0.21, 1): None, (-0.39, 1): None, (0.41, 1): "left", (-0.41, 1): "right",
        (0, 0.59): None, (0, 1.61): None, (0.9, 0.59): None, (0.9, 0.61): "left",
    }  # fmt: skip
    poses = poses_of_landmarks(np.stack([face(nose) for nose in expected]), limits)
    assert poses.tolist() == list(expected.values())


def test_of_poses_from_landmarks_those_that_are_none_are_unlabelled() -> None:
    limits = LandmarksParams(straight=0.2, turned=0.4, level=(0.3, 0.8))
    poses = poses_of_landmarks(np.stack([face((0.9, 1)), face((0.3, 1))]), limits)
    names = pd.Series(["0.png", "1.png"])
    assert count_truth(truth_table(names, poses, names)) == {
        "images": 2, "straight": 0, "left": 1, "right": 0, "up": 0, "unlabelled": 1,
    }  # fmt: skip


def test_an_annotation_that_a_spreadsheet_has_saved_is_read(tmp_path: Path) -> None:
    file = tmp_path / "ann.csv"
    file.write_text("start,end,pose\n0,1,left\n", encoding="utf-8-sig")
    assert read_annotation(file, 1)["pose"].tolist() == ["left"]


def test_of_a_crooked_mouth_both_corners_count() -> None:
    heads = face((0.25, 1))[None].copy()
    heads[0, 54, 1] += 30  # a half lower between both
    _, lift = turn_and_lift(heads)
    assert lift == pytest.approx([1 / 2.5])


def test_of_two_wrong_rows_the_first_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 3 "):
        read_annotation(write(tmp_path, "0,1,left\n2,x,up\n3,y,up\n"), 10)
