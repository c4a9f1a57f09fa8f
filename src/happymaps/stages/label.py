"""Give every image its truth."""

import pandas as pd

from happymaps.errors import exit_on_error
from happymaps.files import write_csv, write_json
from happymaps.images.faces import read_points
from happymaps.labelling import (
    count_truth,
    end_of,
    poses_at,
    poses_of_landmarks,
    read_annotation,
    truth_table,
)
from happymaps.params import Params
from happymaps.photographs import read_index
from happymaps.sources.youtube_faces import LANDMARKS, read_landmarks
from happymaps.stages.layout import (
    ANNOTATIONS,
    FACES,
    INTERIM,
    METRICS,
    MORE_PEOPLE,
    PROCESSED,
    RAW,
)


def main() -> None:
    """Write data/processed/<set>/truth.csv.

    Poses are from names for CMU, by hand for the recordings, from landmarks for the YouTube faces,
    from the points that the detector of faces gives for facial expressions.
    """
    params = Params.load()
    cmu = read_index(INTERIM / "cmu_faces")
    recordings = read_index(INTERIM / "recordings")
    youtube = read_index(INTERIM / "youtube_faces")
    frames, landmarks = read_landmarks(RAW / "youtube_faces" / LANDMARKS)
    youtube_poses = poses_of_landmarks(landmarks, params.landmarks).set_axis(frames)
    expressions = read_index(INTERIM / "facial_expressions")
    pictures, points = read_points(FACES, "facial_expressions")
    found_poses = poses_of_landmarks(points, params.points).set_axis(pictures)
    truths = {
        "cmu_faces": truth_table(cmu["image"], cmu["pose"], cmu["subject"]),
        "recordings": truth_table(
            recordings["image"], _annotated_poses(recordings), recordings["subject"]
        ),
        "youtube_faces": truth_table(
            youtube["image"], youtube["source"].map(youtube_poses), youtube["subject"]
        ),
        "facial_expressions": truth_table(
            expressions["image"], expressions["image"].map(found_poses), expressions["subject"]
        ),
    }
    for name, truth in truths.items():
        write_csv(PROCESSED / name / "truth.csv", truth)
    by_subject = dict(list(truths["recordings"].groupby("subject", sort=False)))
    metrics = {"cmu_faces": count_truth(truths["cmu_faces"])}
    metrics |= {
        recording.subject: count_truth(by_subject[recording.subject])
        for recording in params.recordings
    }
    for name in MORE_PEOPLE:
        metrics[name] = count_truth(truths[name])
    write_json(METRICS / "label.json", metrics)


def _annotated_poses(index: pd.DataFrame) -> "pd.Series[str]":
    poses = [
        poses_at(frames["time"], read_annotation(ANNOTATIONS / f"{subject}.csv", end_of(frames)))
        for subject, frames in index.groupby("subject", sort=False)
    ]
    return pd.concat(poses) if poses else pd.Series([], dtype=object)


if __name__ == "__main__":
    exit_on_error(main)
