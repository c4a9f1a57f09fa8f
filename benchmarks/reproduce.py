"""The whole pipeline from nothing, and again with nothing to do: time and peak memory.

Runs what `make reproduce` runs, in the project's folder, so it leaves what that leaves.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

# `happymaps.py` in this folder, where Python looks first, would hide the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import peak_memory

RESULT = Path(__file__).with_suffix(".json")
IDLE_ROUNDS = 9


def main() -> None:
    """Run, measure and write the result beside this file; with `idle` only the second part anew."""
    if sys.argv[1:] == ["idle"]:
        result = json.loads(RESULT.read_text())
    else:
        seconds, peak = _measure("repro", "--force")
        result = {
            "reproduce_minutes": round(seconds / 60, 2),
            "peak_memory_mib": round(peak / 1024),
        }
    idle = [_time("repro") for _ in range(IDLE_ROUNDS)]
    result["nothing_to_do_seconds"] = {
        "median": round(statistics.median(idle), 2),
        "worst": round(max(idle), 2),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def _time(*command: str) -> float:
    """Seconds of a dvc command; nothing watches it, for on something so short watching tells."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dvc", *command], check=True, capture_output=True)
    return time.perf_counter() - start


def _measure(*command: str) -> tuple[float, int]:
    """Seconds of a dvc command, and the most memory (KiB) it and its children held at once."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "dvc", *command]) as process:
        peak = peak_memory(process, every=0.2)
    if process.returncode != 0:
        sys.exit(f"dvc {' '.join(command)} failed")
    return time.perf_counter() - start, peak


if __name__ == "__main__":
    main()
