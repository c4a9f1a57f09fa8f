"""The extract stage on a short film, and on what was written down of it."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from happymaps.errors import InputError
from happymaps.images.video import ffmpeg_binary
from happymaps.labelling import end_of, poses_at, read_annotation
from happymaps.stages import extract
from happymaps.stages.layout import ANNOTATIONS, INTERIM, RAW
from toys import ROOT


@pytest.fixture
def annotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a recording of half a second in a project that has no other."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["recordings"] = [{"subject": "me", "path": "data/videos/me.mp4"}]
    Path("params.yaml").write_text(yaml.safe_dump(content))
    (RAW / "recordings").mkdir(parents=True)
    ANNOTATIONS.mkdir(parents=True)
    command = [ffmpeg_binary(), "-v", "error", "-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=0.5"]
    subprocess.run([*command, str(RAW / "recordings/me.mp4")], check=True, timeout=30)
    return ANNOTATIONS / "me.csv"


def test_frames_and_their_times(annotation: Path) -> None:
    annotation.write_text("start,end,pose\n0,0.2,left\n")
    extract.main()
    index = pd.read_csv(INTERIM / "recordings/index.csv")
    assert index["time"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert index["until"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert set(index["subject"]) == {"me"}
    assert all((INTERIM / "recordings" / image).is_file() for image in index["image"])


def test_a_rate_is_kept(annotation: Path) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text()) | {"extract": {"rate": 5.0}}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    annotation.write_text("start,end,pose\n")
    extract.main()
    index = pd.read_csv(INTERIM / "recordings/index.csv")
    assert 2 <= len(index) <= 3
    assert (index["until"] - index["time"]).tolist() == pytest.approx([0.2] * len(index))


def test_last_frames_that_share_their_time_can_be_annotated(annotation: Path) -> None:
    times = [0, 0.1, 0.2, 0.3, 0.3]
    index = extract._index("me", Path("me.mp4"), 0, times, None, None)
    assert index["until"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.4])
    annotation.write_text("start,end,pose\n0,0.4,left\n")
    poses = poses_at(index["time"], read_annotation(annotation, end_of(index)))
    assert list(poses) == ["left"] * 5


def test_a_last_frame_that_is_held_can_be_annotated_until_the_video_ends(annotation: Path) -> None:
    frames = [Image.new("L", (16, 12), brightness) for brightness in (0, 100, 200)]
    film = RAW / "recordings/me.gif"
    frames[0].save(film, save_all=True, append_images=frames[1:], duration=[100, 100, 2000])
    film.with_suffix(".mp4").unlink()
    annotation.write_text("start,end,pose\n1.5,2.2,left\n")
    extract.main()
    index = pd.read_csv(INTERIM / "recordings/index.csv")
    assert index["until"].tolist() == pytest.approx([0.1, 0.2, 2.2])
    annotation.write_text("start,end,pose\n1.5,2.5,left\n")
    with pytest.raises(InputError, match=r"row 2 .*past the video's end at 2\.3 s"):
        extract.main()


@pytest.mark.parametrize(
    ("row", "why"), [("0,0.2,Left", "pose is none of"), ("0,9,left", "past the video")]
)
def test_a_mistake_in_an_annotation_is_told_before_anything_is_made_of_the_frames(
    annotation: Path, row: str, why: str
) -> None:
    annotation.write_text(f"start,end,pose\n{row}\n")
    with pytest.raises(InputError, match=rf"me\.csv, row 2 .*{why}"):
        extract.main()
    assert not list(INTERIM.glob("*"))
