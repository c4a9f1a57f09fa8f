"""Frames of a video, through ffmpeg."""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from io import BufferedReader
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, cast

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from happymaps.errors import InputError

# What films and animations come in, and no texts or drawings, which ffmpeg would show as well.
_FORMATS = (
    "apng,asf,avi,dv,flv,gif,h264,hevc,ivf,m4v,matroska,webm,mjpeg,mov,mp4,m4a,3gp,3g2,mj2,mpeg,"
    "mpegts,mpegvideo,mxf,nut,ogg,rm,webp_anim,webp_pipe,wtv,yuv4mpegpipe"
)
# Of pictures that are whole: what some webcams write around them, times that two of them share,
# pictures before a cut that those after it could do without, and sound that was cut in its midst.
_HARMLESS = re.compile(
    "unable to decode APP fields|app: invalid len|non monotonically increasing dts to muxer"
    "|mmco: unref short failure"
    r"|^\[mp[123]\w* @ \w+\] (\[error\] )?Header missing"
)
_TRANSPARENT = ("apng", "webp_anim")  # where ffmpeg leaves transparent what is
_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)", re.MULTILINE)
_TICKS = 1_000_000  # a second, in which frames are timed
_NO_TIME = -(1 << 63)
# A pixel, in its heights. Of films it is 2 at most; a file may claim anything.
_WIDEST = 4


@cache
def ffmpeg_binary() -> str:
    """Path of the ffmpeg that imageio-ffmpeg carries, else the system's.

    Raises:
        InputError: when there is neither.
    """
    try:
        return cast(str, imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        found = shutil.which("ffmpeg")
        if found is None:
            raise InputError("no ffmpeg: install imageio-ffmpeg or ffmpeg itself") from None
        return found


def extract_frames(
    video: Path,
    folder: Path,
    *,
    rate: float | None = None,
    first_number: int = 0,
    on_frame: Callable[[], object] = lambda: None,
) -> list[float]:
    """Write the frames of a video as `folder/NNNNNN.png`, upright and with square pixels.

    Args:
        video: any container that ffmpeg reads, with rotation flags and variable frame rate.
        folder: where the pictures go; it exists.
        rate: frames per second; None takes every frame once.
        first_number: number of the first picture.
        on_frame: called as each frame passes, for a progress bar.

    Returns:
        The frames' times in seconds from the video's start.

    Raises:
        InputError: no such file, not a video, damaged, or no frame in it.
    """
    # A name may hold a %, which would stand for a number. The pictures are read once or twice;
    # packing them tight costs more.
    target = f"file:{str(folder).replace('%', '%%')}/%06d.png"
    options = {"start_number": first_number, "compression_level": 1}
    times = []
    with _Decoding(_frames_of(video, rate), video, target, options) as decoding:
        for time in iter(decoding.times.get, None):
            times.append(time)
            on_frame()
    last = folder / f"{first_number + len(times) - 1:06d}.png"
    if not last.is_file() or last.with_name(f"{first_number + len(times):06d}.png").exists():
        raise InputError(f"{video}: ffmpeg announced {len(times)} frames and wrote another number")
    return times


def stream_frames(
    video: Path, *, rate: float | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The same frames as `extract_frames`, one at a time and without touching the disk.

    Yields:
        Time in seconds and the frame, (H, W, 3) uint8.

    Raises:
        InputError: as `extract_frames`.
    """
    options = {"format": "image2pipe", "vcodec": "ppm"}
    with _Decoding(_frames_of(video, rate), video, "pipe:", options) as decoding:
        while (frame := _read_ppm(decoding.pictures)) is not None:
            time = decoding.times.get()
            assert time is not None  # it is told before the frame is encoded
            yield time, frame


def duration_of(video: Path) -> float | None:
    """How long a video lasts by its container, in seconds; None where that does not say.

    A last frame that is held, as in many animations, ends then.

    Raises:
        InputError: no such file.
    """
    # It tells of every file that it opens; of nothing more is there a need.
    stream = _source_of(video).output("-", format="null", t=0).global_args("-nostdin")
    command = ffmpeg.compile(stream, cmd=ffmpeg_binary())
    told = subprocess.run(command, capture_output=True, env=_plain_log(), check=False).stderr
    if (found := _DURATION.search(told.decode(errors="replace"))) is None:
        return None
    hours, minutes, seconds = map(float, found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _plain_log() -> dict[str, str]:
    """Our surroundings, but for colours in ffmpeg's log."""
    return os.environ | {"AV_LOG_FORCE_NOCOLOR": "1"}


def _source_of(video: Path) -> Any:
    if not video.is_file():
        raise InputError(f"{video}: no such video")
    try:
        str(video).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{video}: a video's name has to be UTF-8, and so has the locale; rename it"
        ) from error
    # A playlist could name addresses: ffmpeg may open local files and nothing else.
    # ffmpeg would take a picture whose name has a %d for one of many.
    kind = {"format": known} if (known := _format_of(video)) else {}
    return ffmpeg.input(
        f"file:{video}", protocol_whitelist="file", format_whitelist=_FORMATS, **kind
    )


def _frames_of(video: Path, rate: float | None) -> Any:
    # The first track of pictures that is a film: covers and thumbnails are tracks of their own,
    # and frames of two tracks would come mixed.
    film = _source_of(video)["V:0"]
    frames = _on_white_paper(film) if _format_of(video) in _TRANSPARENT else film
    if rate is not None:
        # Of each moment what is on the screen then; by default it would be the nearest frame.
        frames = frames.filter("fps", fps=rate, round="up")
    # Pixels of some cameras are wider or narrower than high.
    return frames.filter("scale", f"max(1, round(iw * clip(sar, 1/{_WIDEST}, {_WIDEST})))", "ih")


def _format_of(video: Path) -> str | None:
    """The format of what ffmpeg would take for a single picture; None of anything else."""
    with video.open("rb") as file:
        start = file.read(12)
    if start.startswith(b"\x89PNG"):
        return "apng"
    if start.startswith(b"\xff\xd8\xff"):
        return "mjpeg"
    return "webp_anim" if start.startswith(b"RIFF") and start.endswith(b"WEBP") else None


def _on_white_paper(frames: Any) -> Any:
    """As `decode.read_picture` shows what is transparent in a picture."""
    copies = frames.filter("format", "rgba").split()
    paper = copies[0].filter("drawbox", color="white", thickness="fill", replace=1)
    return ffmpeg.overlay(paper, copies[1], format="auto")


@dataclass
class _Decoding:
    """A running ffmpeg: its pictures on standard output, its frames' times in seconds beside them.

    The times come through a pipe of their own. In the log they would stand between the complaints
    of other threads, and sometimes in the middle of one.
    """

    frames: Any
    video: Path
    target: str
    options: dict[str, Any]
    times: "SimpleQueue[float | None]" = field(default_factory=SimpleQueue)
    _count: int = 0

    def __enter__(self) -> "_Decoding":
        timed, timing = os.pipe()
        stream = self.frames.output(
            self.target,
            pix_fmt="rgb24",
            fps_mode="passthrough",
            # Fine enough that no two frames of any film come at the same time.
            enc_time_base=f"1:{_TICKS}",
            stats_enc_pre=f"pipe:{timing}",
            stats_enc_pre_fmt="{pts}",
            **self.options,
        ).global_args(
            "-hide_banner", "-nostdin", "-nostats", "-xerror", "-loglevel", "repeat+level+error"
        )
        try:
            self._process = subprocess.Popen(
                ffmpeg.compile(stream, cmd=ffmpeg_binary()),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[timing],
                env=_plain_log(),
            )
        except BaseException:
            os.close(timed)
            raise
        finally:
            os.close(timing)
        self.pictures = cast(BufferedReader, self._process.stdout)
        self._complaints: list[str] = []  # the first and the last
        self._readers = [
            threading.Thread(target=self._read_times, args=[timed], daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        self.pictures.close()
        code = self._process.wait()
        for reader in self._readers:
            reader.join()
        if kind is not None:
            return
        if code != 0 or self._complaints:
            # Cut-off files may end well for ffmpeg, with a complaint in its log.
            reason = " ... ".join(self._complaints) or f"exit code {code}"
            if "Option not found" in reason:
                raise InputError(f"{ffmpeg_binary()}: too old; ffmpeg 6 or newer is needed")
            if "matches no streams" in reason:
                raise InputError(f"{self.video}: no film in it; ffmpeg says: {reason}")
            raise InputError(f"{self.video}: damaged, or no video; ffmpeg says: {reason}")
        if self._count == 0:
            raise InputError(f"{self.video}: no frame in it")

    def _read_times(self, pipe: int) -> None:
        time = 0.0
        try:
            with os.fdopen(pipe) as lines:
                for ticks in map(int, lines):
                    self._count += 1
                    # A stream may say of a frame that it has no time: then it is the one before's.
                    time = time if ticks == _NO_TIME else ticks / _TICKS
                    self.times.put(time)
        finally:
            self.times.put(None)  # whoever reads them would wait for ever

    def _read_log(self) -> None:
        with cast(IO[bytes], self._process.stderr) as log:
            for raw in log:
                line = raw.decode(errors="replace").strip()
                if line and not _HARMLESS.search(line):
                    self._complaints = [*self._complaints[:1], line]


def _read_ppm(pictures: BufferedReader) -> NDArray[np.uint8] | None:
    """The next P6 picture of a stream; None at its end."""
    if pictures.readline() != b"P6\n":
        return None
    width, height = (int(number) for number in pictures.readline().split())
    pictures.readline()
    pixels = pictures.read(width * height * 3)
    if len(pixels) < width * height * 3:
        return None
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
