"""Truth: read from file names, from landmarks, or from intervals that a person has set by hand."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from happymaps.errors import InputError
from happymaps.params import OBJECTS, POSES, LandmarksParams

_COLUMNS = ["start", "end", "pose"]
_TRUTH_COLUMNS = ["image", "left", "pose", "subject"]
_OBJECT_COLUMNS = ["image", "object", "part"]
_ROUNDED = 0.1  # seconds, at most, by which a container's length is more than its frames'


class _Marks(NamedTuple):
    """Which of the landmarks are where, the subject's right first."""

    sides: tuple[list[int], list[int]]  # of the face; the middle of each counts
    eyes: tuple[int, int]
    nose: int
    mouth: tuple[int, int]


# By how many there are: the usual 68, and the five that a detector of faces gives.
_MARKS = {
    68: _Marks(([2], [14]), (36, 45), 30, (48, 54)),
    5: _Marks(([0, 3], [1, 4]), (0, 1), 2, (3, 4)),
}


def read_annotation(path: Path, end_of_video: float) -> pd.DataFrame:
    """Read a recording's intervals.

    Args:
        path: CSV with the columns `start,end,pose`: seconds from the video's start, half-open
            `[start, end)`, in any order, and one of the four poses.
        end_of_video: seconds; no interval may end later.

    Returns:
        The intervals sorted by start.

    Raises:
        InputError: naming file and row (the header is row 1) of an unreadable number, an end not
            after its start, an unknown pose, a time outside the video, or an overlap.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: missing; write one with the columns {','.join(_COLUMNS)}"
            " (only the header leaves every frame unlabelled)"
        )
    table = _read_rows(path)
    for column in ("start", "end"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        _refuse(path, table, ~np.isfinite(numbers), f"{column} is not a number of seconds")
        table[column] = numbers
    _refuse(path, table, ~table["pose"].isin(POSES), f"pose is none of {', '.join(POSES)}")
    _refuse(path, table, table["end"] <= table["start"], "end is not after start")
    _refuse(path, table, table["start"] < 0, "start is before the video")
    late = f"end is past the video's end at {end_of_video:g} s"
    _refuse(path, table, table["end"] > end_of_video, late)
    table = table.sort_values("start")
    overlapping = table["start"] < table["end"].shift(fill_value=0)
    _refuse(path, table, overlapping, "overlaps the interval before it")
    return table.reset_index(drop=True)


def end_of(frames: pd.DataFrame) -> float:
    """Where a recording ends, in seconds; a little later, for containers round their length.

    Args:
        frames: columns `time` and `until`, in seconds; at least one row.
    """
    last = frames.iloc[-1]
    return float(last["until"] + min(last["until"] - last["time"], _ROUNDED))


def _read_rows(path: Path) -> pd.DataFrame:
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file ({error})") from error
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows or rows[0] != _COLUMNS:
        raise InputError(f"{path}, row 1: should be {','.join(_COLUMNS)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(_COLUMNS):
            raise InputError(f"{path}, row {number} ({','.join(row)}): should be {_COLUMNS}")
    return pd.DataFrame(rows[1:], columns=_COLUMNS, dtype=str)


def _refuse(path: Path, table: pd.DataFrame, wrong: "pd.Series[bool]", why: str) -> None:
    if wrong.any():
        row = table.index[wrong.to_numpy()].min()
        found = ",".join(str(value) for value in table.loc[row])
        raise InputError(f"{path}, row {row + 2} ({found}): {why}")


def poses_at(times: "pd.Series[float]", intervals: pd.DataFrame) -> "pd.Series[str]":
    """The pose at each time in seconds; a missing value where no interval says."""
    if intervals.empty:
        return pd.Series(None, index=times.index, dtype="object")
    index = pd.IntervalIndex.from_arrays(intervals["start"], intervals["end"], closed="left")
    rows = index.get_indexer(pd.Index(times))
    poses = intervals["pose"].reindex(rows).astype("object")
    return poses.set_axis(times.index)


def turn_and_lift(
    landmarks: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far heads are turned and raised, whatever their tilt in the picture.

    Args:
        landmarks: (N, 68, 2), columns and rows of the usual 68 points; or (N, 5, 2) of eyes, tip of
            the nose and corners of the mouth, the subject's right first.

    Returns:
        Two (N,): how far the tip of the nose is from the middle of the face to the subject's left,
        in halves of its width, which 68 points know from cheek to cheek and five from eye and
        corner of the mouth to the others; and how low it is between the eyes (0) and the corners of
        the mouth (1), which is less the more a head is raised.
    """
    marks = _MARKS[landmarks.shape[1]]
    across = landmarks[:, marks.eyes[1]] - landmarks[:, marks.eyes[0]]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    down = np.stack([-across[:, 1], across[:, 0]], axis=1)
    x, y = (np.einsum("npi,ni->np", landmarks, axis) for axis in (across, down))
    right, left = (x[:, side].mean(axis=1) for side in marks.sides)
    eyes, mouth = (y[:, points].mean(axis=1) for points in (list(marks.eyes), list(marks.mouth)))
    nose = marks.nose
    return (2 * x[:, nose] - right - left) / (left - right), (y[:, nose] - eyes) / (mouth - eyes)


def poses_of_landmarks(landmarks: NDArray[np.float64], params: LandmarksParams) -> "pd.Series[str]":
    """The pose of each head, None where it is in doubt: straight, left or right, never up.

    Args:
        landmarks: as for `turn_and_lift`; NaN where there are none.
        params: what is straight, turned and level.
    """
    turn, lift = turn_and_lift(landmarks)
    level = (lift > params.level[0]) & (lift < params.level[1])
    kinds = [
        level & (np.abs(turn) < params.straight),
        level & (turn > params.turned),
        level & (turn < -params.turned),
    ]
    return pd.Series(np.select(kinds, POSES[:3], default=""), dtype=object).replace("", None)


def truth_table(
    images: "pd.Series[str]", poses: "pd.Series[str]", subjects: "pd.Series[str]"
) -> pd.DataFrame:
    """The truth of a set: row N belongs to image N; `left` is 0, 1 or missing."""
    left = poses.eq("left").astype("Int64").mask(poses.isna())
    return pd.DataFrame({"image": images, "left": left, "pose": poses, "subject": subjects})


def count_truth(truth: pd.DataFrame) -> dict[str, int]:
    """How many images, of each pose, and unlabelled."""
    counts = {"images": len(truth)}
    counts |= {pose: int((truth["pose"] == pose).sum()) for pose in POSES}
    return counts | {"unlabelled": int(truth["pose"].isna().sum())}


def read_truth(path: Path) -> pd.DataFrame:
    """Read a truth file; the columns `left` and `pose` are missing values where nobody decided.

    Raises:
        InputError: naming the file when it is missing or has other columns.
    """
    try:
        # Somebody may be called "nan": only nothing is a missing value.
        truth = pd.read_csv(
            path,
            dtype={"image": str, "pose": str, "subject": str},
            keep_default_na=False,
            na_values={"left": [""], "pose": [""]},
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a truth file ({error})") from error
    if list(truth.columns) != _TRUTH_COLUMNS:
        raise InputError(f"{path}: columns are {list(truth.columns)}, should be {_TRUTH_COLUMNS}")
    return truth


def read_objects(path: Path) -> pd.DataFrame:
    """Read the truth of CIFAR-10: columns `image,object,part`, the part as published.

    Raises:
        InputError: naming the file when it is missing, has other columns or an unknown object.
    """
    try:
        truth = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a truth file ({error})") from error
    if list(truth.columns) != _OBJECT_COLUMNS:
        raise InputError(f"{path}: columns are {list(truth.columns)}, should be {_OBJECT_COLUMNS}")
    _refuse(path, truth, ~truth["object"].isin(OBJECTS), f"object is none of {', '.join(OBJECTS)}")
    return truth
