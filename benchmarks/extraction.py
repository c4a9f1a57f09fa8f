"""Frames out of a video: the extract stage's way beside the bare ffmpeg command doing the same.

Also a video ten times as long: how many times the time, and whether it takes more memory, ours and
ffmpeg's together. Memory is looked at in runs of its own, which are not timed.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# `happymaps.py` in this folder, where Python looks first, would hide the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import peak_memory
from happymaps.images.video import extract_frames, ffmpeg_binary

RESULT = Path(__file__).with_suffix(".json")
ROUNDS, SECONDS, RATE = 5, 12, 25


def main() -> None:
    """Draw two test videos, time both ways in turns, and write the result beside this file."""
    if len(sys.argv) > 1:
        print(_extract(Path(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        short, long = (_draw_video(Path(folder) / f"{n}.mp4", n * SECONDS) for n in (1, 10))
        pairs = [(_bare(short), _in_own_process(short)) for _ in range(ROUNDS)]
        tenfold = min(_in_own_process(long) for _ in range(ROUNDS))
        once, more = (_peak_mib(video) for video in (short, long))
    bare, ours = (min(times) for times in zip(*pairs, strict=True))
    result = {
        "what": f"all frames of a {SECONDS} s video, 640x360 at {RATE} frames/s, as PNG",
        "bare_ffmpeg_seconds": round(bare, 3),
        "extract_seconds": round(ours, 3),
        "ratio": round(ours / bare, 3),
        "ten_times_longer_time_ratio": round(tenfold / ours, 2),
        "peak_memory_mib": round(once),
        "ten_times_longer_peak_memory_mib": round(more),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _draw_video(path: Path, seconds: int) -> Path:
    source = f"testsrc2=size=640x360:rate={RATE}:duration={seconds}"
    command = [ffmpeg_binary(), "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
    subprocess.run([*command, str(path)], check=True)
    return path


def _bare(video: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            ffmpeg_binary(), "-v", "error", "-nostdin", "-i", str(video), "-pix_fmt", "rgb24",
            "-fps_mode", "passthrough", "-compression_level", "1", f"{folder}/%06d.png",
        ]  # fmt: skip
        start = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - start


def _in_own_process(video: Path) -> float:
    done = subprocess.run(_command(video), check=True, capture_output=True, text=True)
    return float(done.stdout)


def _peak_mib(video: Path) -> float:
    with subprocess.Popen(_command(video), stdout=subprocess.DEVNULL) as process:
        return peak_memory(process, every=0.02) / 1024


def _command(video: Path) -> list[str]:
    return [sys.executable, __file__, str(video)]


def _extract(video: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        extract_frames(video, Path(folder))
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
