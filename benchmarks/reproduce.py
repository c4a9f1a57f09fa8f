"""The whole pipeline from nothing, and again with nothing to do: time and peak memory.

Runs what `make reproduce` runs, in the project's folder, so it leaves what that leaves.
"""

import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

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
    process = subprocess.Popen([sys.executable, "-m", "dvc", *command])
    peak = 0
    waiter = threading.Thread(target=process.wait)
    waiter.start()
    while waiter.is_alive():
        peak = max(peak, _memory_of_tree(process.pid))
        waiter.join(0.2)
    if process.returncode != 0:
        sys.exit(f"dvc {' '.join(command)} failed")
    return time.perf_counter() - start, peak


def _memory_of_tree(root: int) -> int:
    """Proportional set size in KiB of a process and all below it; pages shared count once."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _field(entry / "status", "PPid")
            children.setdefault(parent, []).append(int(entry.name))
    todo, total = [root], 0
    while todo:
        pid = todo.pop()
        total += _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
        todo += children.get(pid, [])
    return total


def _field(file: Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:  # ended meanwhile
        return 0
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(next(found, "0"))


if __name__ == "__main__":
    main()
