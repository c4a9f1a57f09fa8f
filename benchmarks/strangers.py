"""People of a set that no network has learned from and nothing was chosen by: IMM's, 40 Danes.

IMM Face Database (Nordstrøm et al. 2004): of each person a photograph looking straight ahead
neutrally, one happily, one under a spotlight, and one turned to either side by about 30 degrees;
the sixth is free and left out. Every network is asked through `happymaps predict`, as users ask.
Give the folder or archive, or have `imm_face_db.tar.gz` in the mirror.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

# `happymaps.py` in this folder, where Python looks first, would hide the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from happymaps.errors import exit_on_error
from happymaps.params import Params
from happymaps.sources.archives import iter_members
from happymaps.sources.download import in_mirror

RESULT = Path(__file__).with_suffix(".json")
POSES = {"1": "straight", "2": "straight", "3": "right", "4": "left", "5": "straight"}
_NAME = re.compile(r"\d\d-([1-5])[fm]\.jpg")


def main() -> None:
    """Print and write the share of right answers of each network, by pose."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="folder or archive of the photographs")
    source = parser.parse_args().source or in_mirror(["imm_face_db", "imm_face_db.tar.gz"])
    if source is None:
        parser.error("no photographs: give their folder or archive")
    with tempfile.TemporaryDirectory() as folder:
        for member, content in iter_members(source):
            name = PurePosixPath(member).name
            if _NAME.fullmatch(name):
                (Path(folder) / name).write_bytes(content)
        found = {name: _ask(name, folder) for name in Params.load().networks}
    text = json.dumps(found, indent=2)
    print(text)
    RESULT.write_text(text + "\n")


def _ask(network: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "happymaps.cli", "predict", "--network", network, folder]
    answers = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    right: dict[str, list[bool]] = defaultdict(list)
    for row in csv.DictReader(answers.splitlines()):
        match = _NAME.fullmatch(Path(row["path"]).name)
        assert match is not None
        pose, answer = POSES[match[1]], row["prediction"]
        if answer == "not left":
            right[pose].append(pose != "left")
        else:
            right[pose].append(answer == pose)
    everything = [one for each in right.values() for one in each]
    return {
        "images": len(everything),
        "accuracy": sum(everything) / len(everything),
        "by_pose": {pose: sum(right[pose]) / len(right[pose]) for pose in sorted(right)},
    }


if __name__ == "__main__":
    exit_on_error(main)
