"""The whole pipeline on the drawn cast, in a copy that leaves the project as it is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from happymaps.errors import InputError
from happymaps.figures import Row, draw_sheet
from happymaps.images.decode import read_grey
from happymaps.params import POSES, Params, Pose, load_study
from happymaps.sources.sample import USERS, draw_cast
from happymaps.sources.strangers import draw_strangers
from happymaps.stages.layout import MORE_PEOPLE

_COPIED = (
    "dvc.yaml",
    "params.yaml",
    "src",
    "data/manifests",
    "data/videos/README.md",
    ".dvcignore",
)
_MARK = ".happymaps-demo"
# All that a DVC repository needs; like the project's own it does not call home.
_CONFIG = """\
[core]
    no_scm = true
    analytics = false
    check_update = false
"""
_LEFT_OR_NOT = {
    "left": "looking left",
    "false_negatives": "of these missed",
    "false_positives": "others called left",
    "left_balanced_accuracy": "balanced accuracy",
}
# A demo is for looking, and takes minutes: a network of two answers, one of four, which know all of
# the cast's test part after five epochs; smaller images, rougher maps.
_NETWORKS = ("experiment0", "four_class")
_EPOCHS = 6
_STRANGERS = 2  # in each set of more people, whom neither of these networks learns from
_ROUGH: dict[str, dict[str, Any]] = {
    "crop": {"size": 96},
    "happymaps": {"steps": 24, "seeds": 2},
    "attributions": {
        "smoothgrad": {"samples": 16, "noise": 0.1},
        "occlusion": {"patch": 16, "stride": 8},
        "pixel_importance": {"patch": 5, "stride": 4},
        "lime": {"superpixels": 64, "samples": 64},
    },
    "audit": {
        "heads": 30,
        # Of fewer than twelve images or networks no verdict is sure: all methods would fail.
        "images": 12,
        "randomised": 1,
        "random_networks": 12,
        "steps": 12,
        "offsets": 5,
        "scales": [1.0],
        "people": 2,
    },
}


def run_demo(project: Path, folder: Path, *, people: int) -> None:
    """Draw the cast, run `dvc repro` on it in `folder`, and print what came out.

    Args:
        project: the project's folder.
        folder: made anew; an earlier demo in it is replaced, anything else is left alone.
        people: size of the cast.

    Raises:
        InputError: not called in a project, `folder` taken, people out of range, a network that it
            needs is not in params, or a failed run.
    """
    folder = folder.absolute()
    prepare(project, folder, people=people)
    # The stages call `python`: it has to be the one that runs this.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"PATH": path}
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text(_CONFIG)
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment)
    if done.returncode != 0:
        raise InputError(
            f"{folder}: dvc repro failed; what it says stands above. `dvc repro` in that folder"
            " goes on from there"
        )
    _report(folder)


def prepare(project: Path, folder: Path, *, people: int) -> None:
    """Make `folder` a copy of the project whose params name the drawn cast as their source."""
    if not (project / "dvc.yaml").is_file():
        raise InputError(f"{project}: no dvc.yaml here; type this in the project's folder")
    if folder.exists() and not (folder / _MARK).is_file():
        raise InputError(f"{folder}: exists and is no earlier demo; name another folder")
    if project.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder}: the project is in it; name another folder")
    if any(folder.resolve().is_relative_to((project / name).resolve()) for name in _COPIED):
        raise InputError(f"{folder}: is among what is copied into it; name another folder")
    if not 2 <= people <= len(USERS):
        raise InputError(f"a cast has between 2 and {len(USERS)} people, not {people}")
    params = load_study(project / "params.yaml")
    if not isinstance(params, Params):
        raise InputError(f"{project}: a study; type this in the project's folder")
    if missing := set(_NETWORKS) - params.networks.keys():
        raise InputError(f"params.yaml: the demo needs the networks {', '.join(sorted(missing))}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    _clear(folder)
    for name in _COPIED:
        _copy(project / name, folder / name)
    draw_cast(folder / "data" / "sample", people=people)
    for seed, name in enumerate(MORE_PEOPLE):
        draw_strangers(
            folder / "data/sample" / name,
            people=_STRANGERS,
            seed=seed,
            with_landmarks=name == "youtube_faces",
        )
    shutil.copytree(folder / "data/sample/annotations", folder / "data/annotations")
    drawn = folder / "params.yaml"
    content = yaml.safe_dump(_with_cast(drawn, folder), sort_keys=False)
    drawn.write_text(content, encoding="utf-8")
    draw_cast_sheet(folder / "data/sample/cmu_faces", folder / "plots/cast.png")


def _clear(folder: Path) -> None:
    """Remove all but the mark: interrupted, what is left is still an earlier demo."""
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != _MARK:
            child.unlink()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(source, target, ignore=unwanted)
    else:
        shutil.copyfile(source, target)


def _with_cast(params: Path, folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(params.read_text(encoding="utf-8"))
    content["faces"] |= {
        "path": "data/sample/cmu_faces",
        "manifest": "data/sample/cmu_faces.sha256",
    }
    for name in MORE_PEOPLE:
        content[name] |= {
            "path": f"data/sample/{name}",
            "manifest": f"data/sample/{name}.sha256",
        }
    content["split"] |= {"method": "random"}  # for others may name people who are not in the cast
    networks = content["networks"]
    content["networks"] = {name: networks[name] | {"epochs": _EPOCHS} for name in _NETWORKS}
    content["cross_validate"]["networks"] = list(_NETWORKS)
    for section, rough in _ROUGH.items():
        content[section] |= rough
    content["recordings"] = [
        {"subject": video.stem, "path": video.relative_to(folder).as_posix()}
        for video in sorted((folder / "data/sample/recordings").iterdir())
    ]
    return content


def draw_cast_sheet(faces: Path, sheet: Path) -> None:
    """Draw everybody of a cast in all poses, with and without sunglasses."""
    looks = [(pose, eyes) for pose in POSES for eyes in ("open", "sunglasses")]
    rows = []
    for number, user in enumerate(sorted(path.name for path in faces.iterdir())):
        shown = [
            _one_picture(faces / user, pose, eyes, number + column)
            for column, (pose, eyes) in enumerate(looks)
        ]
        captions = [file.stem.removeprefix(f"{user}_").replace("_", " ") for file in shown]
        rows.append(Row(user, [read_grey(file) for file in shown], captions))
    draw_sheet(sheet, "The drawn cast", rows, len(looks))


def _one_picture(folder: Path, pose: Pose, eyes: str, number: int) -> Path:
    """One of a person's good full-size pictures, another expression with every `number`."""
    files = sorted(folder.glob(f"{folder.name}_{pose}_*_{eyes}.pgm"))
    return files[number % len(files)]


def _print_table(rows: dict[str, dict[str, float | None]]) -> None:
    table = pd.DataFrame.from_dict(rows, orient="index").rename(columns=_LEFT_OR_NOT)
    print(table.to_string(float_format="{:.4f}".format))


def _report(folder: Path) -> None:
    tests = {
        file.stem: json.loads(file.read_text())
        for file in sorted((folder / "metrics/test").glob("*.json"))
    }
    print("\nAccuracy of every network on its test part and on people of another room:\n")
    _print_table(
        {
            name: {test: scores.get("accuracy") for test, scores in figures.items()}
            for name, figures in tests.items()
        }
    )
    print("\nWhat it says when all these people are asked for left or not:\n")
    _print_table(
        {
            name: {key: figures["recordings"].get(key) for key in _LEFT_OR_NOT}
            for name, figures in tests.items()
        }
    )
    print(
        f"\nAll metrics: {folder}/metrics/\nThe cast: {folder}/plots/cast.png"
        f"\nWhat each network looks for: {folder}/plots/compare/decision_layer.png, and layer by"
        f" layer {folder}/plots/happymaps/<network>/"
        f"\nWhy it answers as it does: {folder}/plots/explain/<network>/, and which explanations to"
        f" trust {folder}/plots/audit/<network>/"
        f"\nWhat each network got wrong: {folder}/plots/test/<network>/false_positives.png"
        f" and false_negatives.png\nCurves: cd {folder} && dvc plots show --open"
    )
