"""Truth: read from file names or from intervals that a person has set by hand."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from happymaps.errors import InputError
from happymaps.params import OBJECTS, POSES

_COLUMNS = ["start", "end", "pose"]
_TRUTH_COLUMNS = ["image", "left", "pose", "subject"]
_OBJECT_COLUMNS = ["image", "object", "part"]


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
