"""Take the frames out of the recordings, and check what was written down of them."""

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from happymaps.errors import InputError, exit_on_error
from happymaps.files import replacing_folder, write_json
from happymaps.images.video import duration_of, extract_frames
from happymaps.labelling import end_of, read_annotation
from happymaps.params import Params
from happymaps.stages.layout import ANNOTATIONS, INTERIM, METRICS, RAW


def main() -> None:
    """Write data/interim/recordings: all frames numbered in one row, and index.csv with times."""
    params = Params.load()
    indices: list[pd.DataFrame] = []
    with (
        replacing_folder(INTERIM / "recordings") as folder,
        tqdm(unit="frame", desc="extracting") as bar,
    ):
        for recording in params.recordings:
            video = _video_of(recording.subject)
            first = sum(len(index) for index in indices)
            bar.set_postfix_str(recording.subject)
            times = extract_frames(
                video,
                folder,
                rate=params.extract.rate,
                first_number=first,
                on_frame=bar.update,
            )
            lasts = duration_of(video)
            index = _index(recording.subject, video, first, times, params.extract.rate, lasts)
            # A mistake in it is told now, and not when all faces have been looked for.
            read_annotation(ANNOTATIONS / f"{recording.subject}.csv", end_of(index))
            indices.append(index)
        index = pd.concat(indices) if indices else _index("", Path(), 0, [], None, None)
        index.to_csv(folder / "index.csv", index=False)
    frames = {
        recording.subject: int((index["subject"] == recording.subject).sum())
        for recording in params.recordings
    }
    write_json(METRICS / "extract.json", {"frames": len(index), **frames})


def _video_of(subject: str) -> Path:
    found = [path for path in (RAW / "recordings").iterdir() if path.stem == subject]
    if not found:
        raise InputError(f"{RAW / 'recordings'}: no video of {subject}; run fetch_recordings")
    return found[0]


def _index(
    subject: str,
    video: Path,
    first: int,
    times: list[float],
    rate: float | None,
    duration: float | None,
) -> pd.DataFrame:
    """One row per frame; a frame is on screen from `time` to `until`, in seconds."""
    start = pd.Series(times, dtype=float)
    gaps = [gap for gap in start.diff() if gap > 0]  # frames may share their time
    last_gap = gaps[-1] if gaps else 0.04
    gap = last_gap if rate is None else 1 / rate
    end = max(start.iloc[-1] + gap, duration or 0) if times else 0
    return pd.DataFrame(
        {
            "image": [f"{first + frame:06d}.png" for frame in range(len(times))],
            "source": video.name,
            "subject": subject,
            "frame": range(len(times)),
            "time": start,
            "until": start.shift(-1, fill_value=end),
        }
    )


if __name__ == "__main__":
    exit_on_error(main)
