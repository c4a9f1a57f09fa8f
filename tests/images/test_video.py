import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from happymaps.errors import InputError
from happymaps.images.video import (
    _Decoding,
    duration_of,
    extract_frames,
    ffmpeg_binary,
    stream_frames,
)
from toys import takes_any_name

TEST_PATTERN = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=1")
LOSSLESS = ("-c:v", "png", "-pix_fmt", "rgb24")
TENTHS = [number / 10 for number in range(10)]

Frames = NDArray[np.uint8]


def ffmpeg(target: Path, *arguments: str | Path, pixels: bytes | None = None) -> Path:
    command = [ffmpeg_binary(), "-v", "error", "-y", *map(str, arguments), f"file:{target}"]
    subprocess.run(command, input=pixels, check=True, timeout=30)
    return target


def noise_video(target: Path, height: int, width: int, *arguments: str) -> Frames:
    """Write 10 frames of noise at 10 per second, without loss, and return them."""
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (10, height, width, 3), dtype=np.uint8)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "10")
    ffmpeg(target, *raw, "-i", "pipe:", *LOSSLESS, *arguments, pixels=frames.tobytes())
    return frames


def pictures(folder: Path) -> Frames:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    return path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that are started from now on, in real."""
    processes: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    return processes


@pytest.fixture
def long_video(tmp_path: Path) -> Path:
    """More than fits in a pipe: ffmpeg cannot end while nobody reads."""
    source = "testsrc=size=320x240:rate=25:duration=8"
    return ffmpeg(tmp_path / "long.mp4", "-f", "lavfi", "-i", source, "-preset", "ultrafast")


@pytest.mark.parametrize(("height", "width"), [(24, 32), (32, 24), (17, 5)])
def test_every_frame_once_pixel_by_pixel(
    tmp_path: Path, folder: Path, height: int, width: int
) -> None:
    video = tmp_path / "noise.mov"
    frames = noise_video(video, height, width)
    assert extract_frames(video, folder, first_number=7) == TENTHS
    assert [path.name for path in sorted(folder.iterdir())] == [
        f"{number:06d}.png" for number in range(7, 17)
    ]
    assert np.array_equal(pictures(folder), frames)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "gif", "mkv", "avi", "ts", "h264"])
def test_containers(tmp_path: Path, folder: Path, suffix: str) -> None:
    video = ffmpeg(tmp_path / f"clip.{suffix}", *TEST_PATTERN)
    assert extract_frames(video, folder) == pytest.approx(TENTHS)
    assert pictures(folder).shape == (10, 48, 64, 3)


def variable_rate(target: Path) -> Path:
    """10 frames, the n-th at n * n / 100 seconds."""
    stretch = ("-vf", "settb=1/1000,setpts=N*N*10", "-enc_time_base", "1:1000")
    return ffmpeg(target, *TEST_PATTERN, *stretch, "-fps_mode", "vfr")


def test_variable_frame_rate_keeps_frames_and_times(tmp_path: Path, folder: Path) -> None:
    video = variable_rate(tmp_path / "variable.mkv")
    assert extract_frames(video, folder) == pytest.approx([n * n / 100 for n in range(10)])
    assert len(list(folder.iterdir())) == 10


def test_a_frame_close_to_another_is_a_frame(tmp_path: Path, folder: Path) -> None:
    early = ("-vf", "settb=1/1000,setpts=N*100-if(eq(N\\,5)\\,95)", "-enc_time_base", "1:1000")
    video = ffmpeg(tmp_path / "early.mkv", *TEST_PATTERN, *early, "-fps_mode", "passthrough")
    times = [*TENTHS[:5], 0.405, *TENTHS[6:]]
    assert extract_frames(video, folder) == pytest.approx(times)
    assert [time for time, _ in stream_frames(video)] == pytest.approx(times)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
def test_rotation_flag_is_applied(tmp_path: Path, folder: Path, degrees: int, turns: int) -> None:
    frames = noise_video(tmp_path / "flat.mov", 24, 32)
    flag = ("-display_rotation", str(degrees))
    video = ffmpeg(tmp_path / "turned.mov", *flag, "-i", tmp_path / "flat.mov", "-c", "copy")
    extract_frames(video, folder)
    assert np.array_equal(pictures(folder), np.rot90(frames, turns, axes=(1, 2)))


@pytest.mark.parametrize(
    ("aspect", "width", "width_turned"),
    # What no camera does is not believed: frames would take all memory.
    [("2/1", 48, 8), ("3/4", 18, 21), ("1/1", 24, 16), ("1/9", 6, 64), ("9/1", 96, 4)],
)
def test_pixels_that_are_not_square_are_made_so(
    tmp_path: Path, folder: Path, aspect: str, width: int, width_turned: int
) -> None:
    flat, turned = tmp_path / "flat.mov", tmp_path / "turned.mov"
    noise_video(flat, 16, 24, "-vf", f"setsar={aspect}")
    ffmpeg(turned, "-display_rotation", "90", "-i", flat, "-c", "copy")
    extract_frames(flat, folder)
    assert pictures(folder).shape[1:3] == (16, width)
    extract_frames(turned, folder)
    assert pictures(folder).shape[1:3] == (24, width_turned)


@pytest.mark.parametrize(
    ("rate", "times"),
    [(5, [0.0, 0.2, 0.4, 0.6, 0.8]), (20, [number / 20 for number in range(20)]), (None, TENTHS)],
)
def test_rate(tmp_path: Path, folder: Path, rate: float | None, times: list[float]) -> None:
    video = ffmpeg(tmp_path / "clip.mp4", *TEST_PATTERN)
    assert extract_frames(video, folder, rate=rate) == pytest.approx(times)
    assert len(list(folder.iterdir())) == len(times)


def test_at_a_rate_a_frame_is_what_is_on_the_screen_then(tmp_path: Path) -> None:
    frames = noise_video(tmp_path / "noise.mkv", 48, 64)
    found = list(stream_frames(tmp_path / "noise.mkv", rate=4))
    assert [time for time, _ in found] == pytest.approx([0, 0.25, 0.5, 0.75])
    assert np.array_equal(np.stack([frame for _, frame in found]), frames[[0, 2, 5, 7]])


def test_times_count_from_the_start_of_a_video_that_starts_late(
    tmp_path: Path, folder: Path
) -> None:
    video = ffmpeg(tmp_path / "late.mkv", *TEST_PATTERN, "-output_ts_offset", "3")
    assert extract_frames(video, folder) == pytest.approx(TENTHS)


@pytest.mark.parametrize("rate", [None, 4])
@pytest.mark.parametrize("kind", ["mp4", "gif", "variable", "turned"])
def test_stream_gives_what_extract_writes(
    tmp_path: Path, folder: Path, kind: str, rate: float | None
) -> None:
    if kind == "variable":
        video = variable_rate(tmp_path / "clip.mkv")
    elif kind == "turned":
        flat = ffmpeg(tmp_path / "flat.mp4", *TEST_PATTERN)
        turned = ("-display_rotation", "90", "-i", flat, "-c", "copy")
        video = ffmpeg(tmp_path / "clip.mp4", *turned)
    else:
        video = ffmpeg(tmp_path / f"clip.{kind}", *TEST_PATTERN)
    times = extract_frames(video, folder, rate=rate)
    streamed = list(stream_frames(video, rate=rate))
    assert [time for time, _ in streamed] == times
    assert np.array_equal(np.stack([frame for _, frame in streamed]), pictures(folder))


@pytest.mark.parametrize(
    "name", ["showinfo pts_time:9", "100%d %", "a:b", "-i", "it's ü", "an [error]"]
)
def test_awkward_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(f"{name} frames")
    folder.mkdir()
    video = ffmpeg(Path(f"{name}.mp4"), *TEST_PATTERN)
    assert extract_frames(video, folder) == TENTHS
    assert len(list(folder.iterdir())) == 10


@pytest.mark.parametrize(
    "comment", ["showinfo pts_time:9", "showinfo pts_time:x", "[fatal] attraction"]
)
def test_a_title_is_not_taken_for_a_frame(tmp_path: Path, folder: Path, comment: str) -> None:
    video = ffmpeg(tmp_path / "clip.mp4", *TEST_PATTERN, "-metadata", f"comment={comment}")
    assert extract_frames(video, folder) == TENTHS


@pytest.mark.parametrize("seconds", [0.5, 75.25, 3700.0])
def test_duration(tmp_path: Path, seconds: float) -> None:
    still = ("-f", "lavfi", "-i", f"color=size=16x16:rate=4:duration={seconds}")
    title = ("-metadata", "title=Duration: 09:00:00.00")
    video = ffmpeg(tmp_path / "clip.mp4", *still, *title, "-preset", "ultrafast")
    assert duration_of(video) == seconds


def test_what_tells_no_duration_has_none(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=200)
    broken_video(tmp_path / "a.mp4", "text")
    assert duration_of(tmp_path / "a.webp") is None
    assert duration_of(tmp_path / "a.mp4") is None


def broken_video(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("not a video\n" * 100)
    elif kind == "empty":
        path.touch()
    elif kind == "sound":
        ffmpeg(path, "-f", "lavfi", "-i", "sine=duration=1")
    else:
        content = ffmpeg(path, *TEST_PATTERN).read_bytes()
        path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("kind", "last_line"),
    [
        ("text", "Invalid data found"),
        ("empty", "Invalid data found"),
        ("truncated", "moov atom not found ... .*Invalid data found"),
        ("sound", "no film in it; .*(Invalid argument|matches no streams)$"),
    ],
)
def test_broken_videos_are_named_with_the_reason(
    tmp_path: Path, folder: Path, kind: str, last_line: str, streamed: bool
) -> None:
    video = tmp_path / f"{kind}.mp4"
    broken_video(video, kind)
    with pytest.raises(InputError, match=rf"{kind}\.mp4: .*({last_line})"):
        list(stream_frames(video)) if streamed else extract_frames(video, folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", ("-movflags", "+faststart")),
        ("a.mkv", ()),
        ("a.gif", ()),
        ("a.avi", ()),
    ],
)
def test_a_video_cut_off_half_way_is_no_shorter_video(
    tmp_path: Path, folder: Path, name: str, options: tuple[str, ...]
) -> None:
    source = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=4")
    video = ffmpeg(tmp_path / name, *source, *options)
    assert len(extract_frames(video, folder)) == 100
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    with pytest.raises(InputError, match=f"{name}: damaged, or no video; ffmpeg says"):
        extract_frames(video, folder)


def test_a_coloured_log_is_read_all_the_same(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AV_LOG_FORCE_COLOR", "1")
    video = ffmpeg(tmp_path / "a.mp4", *TEST_PATTERN)
    assert len(extract_frames(video, folder)) == 10
    assert len(list(stream_frames(video))) == 10
    assert duration_of(video) == 1


def test_a_film_without_a_frame_is_named(tmp_path: Path, folder: Path) -> None:
    video = tmp_path / "a.y4m"
    video.write_text("YUV4MPEG2 W16 H16 F25:1\n")
    with pytest.raises(InputError, match=r"a\.y4m: no frame in it"):
        list(stream_frames(video))
    with pytest.raises(InputError, match=r"a\.y4m: no frame in it"):
        extract_frames(video, folder)


@pytest.mark.parametrize("name", ["a.txt", "a.svg", "a.mp4"])
def test_a_text_or_a_drawing_is_no_video(tmp_path: Path, name: str) -> None:
    text = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>\n'
    (tmp_path / name).write_text(text if name.endswith("svg") else "Dear diary,\n" * 50)
    with pytest.raises(InputError, match="damaged, or no video"):
        list(stream_frames(tmp_path / name))


@pytest.fixture
def cover(tmp_path: Path) -> Path:
    path = tmp_path / "cover.png"
    Image.new("RGB", (32, 32)).save(path)
    return path


@pytest.mark.parametrize("rate", [None, 10.0])
@pytest.mark.parametrize("order", [("film", "cover"), ("cover", "film")])
def test_a_thumbnail_is_no_frame(
    tmp_path: Path, cover: Path, order: tuple[str, str], rate: float | None
) -> None:
    film = ffmpeg(tmp_path / "film.mkv", *TEST_PATTERN, *LOSSLESS)
    files = {"film": film, "cover": cover}
    inputs = [part for name in order for part in ("-i", files[name])]
    marked = f"-disposition:v:{order.index('cover')}"
    both = ("-map", "0", "-map", "1", "-c", "copy", marked, "attached_pic")
    assert_is_the_film(ffmpeg(tmp_path / "a.mp4", *inputs, *both), rate)


@pytest.mark.parametrize("rate", [None, 10.0])
def test_an_attached_picture_is_no_frame(tmp_path: Path, cover: Path, rate: float | None) -> None:
    attached = ("-attach", cover, "-metadata:s:t", "mimetype=image/png")
    assert_is_the_film(ffmpeg(tmp_path / "a.mkv", *TEST_PATTERN, *attached), rate)


def assert_is_the_film(video: Path, rate: float | None) -> None:
    found = list(stream_frames(video, rate=rate))
    assert [time for time, _ in found] == pytest.approx(TENTHS)
    assert {frame.shape for _, frame in found} == {(48, 64, 3)}


def test_of_two_films_in_one_file_the_first_is_seen(tmp_path: Path, folder: Path) -> None:
    small = ("-f", "lavfi", "-i", "testsrc=size=32x32:rate=25:duration=1")
    both = ("-map", "0", "-map", "1", *LOSSLESS)
    video = ffmpeg(tmp_path / "a.mkv", *TEST_PATTERN, *small, *both)
    assert extract_frames(video, folder) == pytest.approx(TENTHS)
    assert pictures(folder).shape == (10, 48, 64, 3)


def test_a_song_with_a_cover_is_no_video(tmp_path: Path, cover: Path) -> None:
    tone = ("-f", "lavfi", "-i", "sine=duration=1", "-i", cover)
    both = ("-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v:0", "attached_pic")
    song = ffmpeg(tmp_path / "a.m4a", *tone, *both)
    with pytest.raises(InputError, match="no film in it;"):
        list(stream_frames(song))


@takes_any_name
def test_a_name_that_ffmpeg_cannot_take_is_said(tmp_path: Path) -> None:
    video = ffmpeg(tmp_path / "a.mp4", *TEST_PATTERN)
    video = video.rename(tmp_path / os.fsdecode(b"caf\xe9.mp4"))
    with pytest.raises(InputError, match="UTF-8"):
        list(stream_frames(video))


@pytest.mark.parametrize("rate", [None, 10.0])
@pytest.mark.parametrize("suffix", ["png", "webp", "gif"])
def test_white_paper_behind_what_is_transparent(
    tmp_path: Path, suffix: str, rate: float | None
) -> None:
    still = np.zeros((8, 12, 4), np.uint8)
    still[2:6, 4:8] = (90, 90, 90, 255)
    first, second = (Image.fromarray(np.roll(still, by, axis=1)) for by in (0, 2))
    path = tmp_path / f"a.{suffix}"
    of_its_own: dict[str, dict[str, Any]] = {"webp": {"lossless": True}, "gif": {"disposal": 2}}
    options = of_its_own.get(suffix, {})
    first.save(path, save_all=True, append_images=[second], duration=100, **options)
    frames = [frame[..., 0] for _, frame in stream_frames(path, rate=rate)]
    for frame, by in zip(frames, (0, 2), strict=True):
        opaque = np.roll(still[..., 3] == 255, by, axis=1)
        assert np.abs(frame[opaque].astype(int) - 90).max() <= 2
        assert frame[~opaque].min() >= 253


def test_odd_markers_of_webcams_cost_no_frame(tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(jpeg, "JPEG")
    content = jpeg.getvalue()
    odd = content[:2] + b"\xff\xe0\x00\x00" + content[2:]  # an APP0 without a length
    (tmp_path / "a.mjpeg").write_bytes(odd * 5)
    given = ("-f", "mjpeg", "-i", tmp_path / "a.mjpeg", "-c", "copy")
    with contextlib.suppress(subprocess.CalledProcessError):  # it complains as well
        ffmpeg(tmp_path / "a.avi", *given)
    frames = [frame for _, frame in stream_frames(tmp_path / "a.avi")]
    assert len(frames) == 5
    assert np.abs(np.stack(frames).astype(int) - 90).max() <= 1


def test_frames_may_share_their_time(tmp_path: Path) -> None:
    twice = r"setpts=PTS-eq(N\,5)*0.1/TB"
    options = ("-vf", twice, "-fps_mode", "passthrough", "-c:v", "ffv1")
    video = ffmpeg(tmp_path / "twice.mkv", *TEST_PATTERN, *options)
    times = [time for time, _ in stream_frames(video)]
    assert times == pytest.approx([*TENTHS[:5], 0.4, *TENTHS[6:]])


def test_a_film_that_was_cut_without_recoding_is_whole(tmp_path: Path) -> None:
    """Its sound begins in the midst of something."""
    sight = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=5")
    sound = ("-f", "lavfi", "-i", "sine=duration=5", "-c:a", "mp2")
    whole = ffmpeg(tmp_path / "whole.mpg", *sight, *sound, "-bf", "2")
    for start in (1.0, 2.2, 3.7):
        cut = ffmpeg(tmp_path / "cut.mpg", "-ss", str(start), "-i", whole, "-c", "copy")
        # From a picture on that needs no other; of these there are two a second.
        assert len(list(stream_frames(cut))) >= 25 * (4.5 - start)


@pytest.fixture
def open_groups(tmp_path: Path) -> Path:
    """Whose pictures may need some of the group before, as broadcasters have them."""
    source = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=3")
    groups = ("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=25:bframes=3")
    return ffmpeg(tmp_path / "whole.mp4", *source, *groups)


def test_of_open_groups_that_were_cut_each_picture_is_as_it_was(
    tmp_path: Path, open_groups: Path
) -> None:
    frames = {frame.tobytes() for _, frame in stream_frames(open_groups)}
    cut = ffmpeg(tmp_path / "cut.mp4", "-ss", "1.5", "-i", open_groups, "-c", "copy")
    kept = [frame.tobytes() for _, frame in stream_frames(cut)]
    assert len(kept) >= 25
    assert set(kept) <= frames


def test_a_lost_picture_is_damage(tmp_path: Path, open_groups: Path) -> None:
    lossy = ("-c", "copy", "-bsf:v", r"noise=drop=eq(n\,27):amount=-1")
    with pytest.raises(InputError, match=r"lossy\.mp4: damaged"):
        list(stream_frames(ffmpeg(tmp_path / "lossy.mp4", "-i", open_groups, *lossy)))


@pytest.mark.parametrize("size", ["64x48", "640x480"])
def test_motion_jpeg_is_a_film_of_any_size(tmp_path: Path, folder: Path, size: str) -> None:
    """ffmpeg takes it for a single picture unless its frames are tiny."""
    source = ("-f", "lavfi", "-i", f"testsrc=size={size}:rate=25:duration=0.4")
    video = ffmpeg(tmp_path / "a.mjpeg", *source, "-pix_fmt", "yuvj420p")
    assert extract_frames(video, folder) == pytest.approx([number / 25 for number in range(10)])
    assert len(list(stream_frames(video))) == 10


def test_the_programs_own_input_is_not_read(long_video: Path) -> None:
    """In which `q` would end ffmpeg: that of `while read name; do happymaps ...`, say."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from happymaps.images.video import stream_frames\n"
        "frames = stream_frames(Path(sys.argv[1]))\n"
        "next(frames)\n"
        "time.sleep(1.2)  # ffmpeg looks twice a second\n"
        "print(1 + len(list(frames)), sys.stdin.read())"
    )
    command = [sys.executable, "-c", code, str(long_video)]
    done = subprocess.run(
        command, input="q and the rest", capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "200 q and the rest\n"


def test_a_frame_without_a_time_comes_after_the_one_before(tmp_path: Path) -> None:
    decoding = _Decoding(None, tmp_path, "", {})
    reads, writes = os.pipe()
    os.write(writes, b"500000\n-9223372036854775808\n1500000\n")
    os.close(writes)
    decoding._read_times(reads)
    assert [decoding.times.get() for _ in range(4)] == [0.5, 0.5, 1.5, None]


def test_nobody_waits_for_times_that_cannot_be_read(tmp_path: Path) -> None:
    decoding = _Decoding(None, tmp_path, "", {})
    reads, writes = os.pipe()
    os.write(writes, b"500000\nN/A\n1500000\n")
    os.close(writes)
    with pytest.raises(ValueError, match="N/A"):
        decoding._read_times(reads)
    assert [decoding.times.get(timeout=1) for _ in range(2)] == [0.5, None]


def test_an_ffmpeg_that_is_too_old_is_blamed_and_not_the_video(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = ffmpeg(tmp_path / "clip.mp4", *TEST_PATTERN)
    old = tmp_path / "ffmpeg4"
    old.write_text(
        "#!/bin/sh\necho \"[error] Unrecognized option 'stats_enc_pre'.\" >&2\n"
        "echo '[fatal] Error splitting the argument list: Option not found' >&2\nexit 1\n"
    )
    old.chmod(0o755)
    monkeypatch.setattr("happymaps.images.video.ffmpeg_binary", lambda: str(old))
    with pytest.raises(InputError, match="ffmpeg4: too old; ffmpeg 6"):
        extract_frames(video, folder)


def test_an_ffmpeg_that_cannot_be_started_leaves_no_pipe_open(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = ffmpeg(tmp_path / "clip.mp4", *TEST_PATTERN)
    monkeypatch.setattr("happymaps.images.video.ffmpeg_binary", lambda: str(tmp_path / "none"))
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        extract_frames(video, folder)
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.parametrize("name", ["a%20dance.webp", "a%d.png", "%03d.gif", "a%20b.mp4", "%d.mjpeg"])
def test_a_name_with_a_number_in_it_is_one_file(tmp_path: Path, folder: Path, name: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    if name.endswith(("mp4", "mjpeg")):
        ffmpeg(tmp_path / "plain", *TEST_PATTERN, "-f", name.rpartition(".")[2])
        (tmp_path / "plain").rename(tmp_path / name)
    else:
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=200)
    count = 10 if name.endswith(("mp4", "mjpeg")) else 2
    assert len(list(stream_frames(tmp_path / name))) == count
    assert len(extract_frames(tmp_path / name, folder)) == count


def test_missing_video(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"none\.mp4: no such video"):
        extract_frames(tmp_path / "none.mp4", folder)
    with pytest.raises(InputError, match=r"none\.mp4: no such video"):
        next(stream_frames(tmp_path / "none.mp4"))
    with pytest.raises(InputError, match=r"none\.mp4: no such video"):
        duration_of(tmp_path / "none.mp4")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """An address that serves a video, and the requests it has had."""
    ffmpeg(tmp_path / "part.ts", *TEST_PATTERN)
    requests: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(tmp_path))
    ) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/part.ts", requests
        http.shutdown()


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"
HLS_MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
    ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT1S">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    "<BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>"
)


@pytest.mark.parametrize(
    ("name", "playlist"), [("a.m3u8", HLS), ("a.m3u8", HLS_MASTER), ("a.mpd", DASH)]
)
def test_a_playlist_reaches_no_network(
    tmp_path: Path, folder: Path, server: tuple[str, list[str]], name: str, playlist: str
) -> None:
    address, requests = server
    video = tmp_path / name
    video.write_text(playlist.format(url=address))
    with pytest.raises(InputError, match="ffmpeg says"):
        extract_frames(video, folder)
    assert requests == []
    permissive = [ffmpeg_binary(), "-v", "quiet", "-protocol_whitelist", "file,http,tcp"]
    subprocess.run([*permissive, "-i", video, "-f", "null", "-"], timeout=30)
    assert requests  # the playlist was a working one


@pytest.mark.parametrize("leave", ["close", "forget", "raise"])
def test_an_abandoned_stream_leaves_no_ffmpeg(
    long_video: Path, started: list[subprocess.Popen[bytes]], leave: str
) -> None:
    frames = cast(Generator[object, None, None], stream_frames(long_video))
    next(frames)
    (process,) = started
    assert process.poll() is None
    if leave == "close":
        frames.close()
    elif leave == "raise":
        with pytest.raises(KeyboardInterrupt):
            frames.throw(KeyboardInterrupt)
    else:
        del frames
    assert process.returncode is not None


def test_on_frame_is_called_for_each_and_may_stop_it(
    long_video: Path, folder: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    calls: list[int] = []

    def enough() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_frames(long_video, folder, on_frame=enough)
    assert len(calls) == 3
    assert started[0].returncode not in (None, 0)
    calls[:] = [1] * 10
    assert len(extract_frames(long_video, folder, on_frame=enough)) == len(calls) - 10 == 200


def test_no_ffmpeg_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none() -> str:
        raise RuntimeError("no ffmpeg exe could be found")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="install imageio-ffmpeg"):
        ffmpeg_binary.__wrapped__()
    own = tmp_path / "ffmpeg"
    own.touch(mode=0o755)
    assert ffmpeg_binary.__wrapped__() == str(own)


def test_pictures_that_were_there_are_not_taken_for_frames(tmp_path: Path, folder: Path) -> None:
    video = ffmpeg(tmp_path / "a.mp4", *TEST_PATTERN)
    (folder / "000010.png").touch()
    with pytest.raises(InputError, match="announced 10 frames and wrote another number"):
        extract_frames(video, folder)
