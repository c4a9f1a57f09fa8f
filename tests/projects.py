"""A project of its own, on a drawn cast of two, with the real params made small."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml
from filelock import FileLock

from happymaps.demo import prepare
from happymaps.files import replacing_folder
from toys import ROOT

NETWORKS = ("experiment0", "four_class")

# Python runs it before a stage of the project: it notes which of the project's files are read.
_WATCH = """\
import os, sys

OPENED = os.path.join(os.pardir, "opened")

if os.path.isdir(OPENED) and "happymaps.stages." in "".join(sys.orig_argv[2:3]):
    root = os.getcwd() + os.sep
    name = "@".join(sys.orig_argv[2:]).removeprefix("happymaps.stages.")
    notes = os.open(os.path.join(OPENED, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def note(event, arguments):
        if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            path, _, flags = arguments
            path = os.path.abspath(path)
            if path.startswith(root) and flags & os.O_ACCMODE == os.O_RDONLY:
                os.write(notes, os.fsencode(path.removeprefix(root)) + b"\\n")

    sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Project:
    """A folder with the pipeline in it."""

    folder: Path

    @property
    def read(self) -> Path:
        """A folder beside it: in a file per stage, what of the project it has read."""
        return self.folder.parent / "read"

    def run(self, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command there, as a user would with the environment activated."""
        keys = [
            f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        ]
        identity = dict.fromkeys(keys, "a@b")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        apart = {
            "PATH": path,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder.parent / "site_cache"),
        }
        environment = os.environ | identity | apart
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str, check: bool = True) -> str:
        """Run dvc and give what it printed."""
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check).stdout

    def python(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run python with the project's own code and give all of it."""
        return self.run("env", "PYTHONPATH=src", sys.executable, *arguments, check=False)

    def set_params(self, **changes: object) -> None:
        """Change values of params.yaml; double underscores stand for dots."""
        file = self.folder / "params.yaml"
        content = yaml.safe_load(file.read_text())
        for key, value in changes.items():
            section = content
            *path, last = key.split("__")
            for part in path:
                section = section[part]
            section[last] = value
        file.write_text(yaml.safe_dump(content, sort_keys=False))


def each(*stages: str) -> set[str]:
    """The stages of every network."""
    return {f"{stage}@{network}" for stage in stages for network in NETWORKS}


def stages_that_ran(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def read_json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def watch(source: Path) -> None:
    """Have the stages whose code is in `source` note what they read, while there is `opened`."""
    (source / "sitecustomize.py").write_text(_WATCH)


def unlisted(lock: Path, read: Path, not_run: str | None = None) -> set[tuple[str, str]]:
    """What of data and results stages have read without depending on it: stage and path.

    Networks are opened by a library that Python does not see, checkpoints are a stage's own, and
    sources lie where users have them: here beside the project's data.

    Args:
        lock: the pipeline's.
        read: folder with a file per stage, that lists what it has read.
        not_run: a stage whose outputs came otherwise.
    """
    found = set()
    own = {"data/sample", "data/checkpoints"}
    stages = yaml.safe_load(lock.read_text())["stages"]
    for name, stage in stages.items():
        if name == not_run:
            continue
        listed = {entry["path"] for kind in ("deps", "outs") for entry in stage.get(kind, [])}
        notes = read / stage["cmd"].split("happymaps.stages.")[1].replace(" ", "@")
        paths = set(map(PurePath, notes.read_text().splitlines()))
        assert paths
        for path in paths:
            above = {place.as_posix() for place in (path, *path.parents)}
            if path.parts[0] in {"data", "metrics", "plots"} and not above & own:
                drafted = any(part.endswith(".draft") for part in path.parts)
                found |= set() if drafted or above & listed else {(name, str(path))}
    return found


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole pipeline, run by `dvc repro` in a git repository and committed; only to be read.

    Of several workers one runs it, and the others copy what came out.
    """
    if shutil.which("git") is None:
        pytest.skip("needs git")
    own = tmp_path_factory.mktemp("project")
    made = Project(own / "happymaps")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _reproduce(made)
        return made
    shared = tmp_path_factory.getbasetemp().parent / "project"
    with FileLock(f"{shared}.lock"):
        if shared.is_dir():
            shutil.copytree(shared, own, symlinks=True, dirs_exist_ok=True)
        else:
            _reproduce(made)
            with replacing_folder(shared) as draft:
                shutil.copytree(own, draft, symlinks=True, dirs_exist_ok=True)
    return made


def _reproduce(project: Project) -> None:
    opened = project.folder.parent / "opened"
    opened.mkdir()
    prepare(ROOT, project.folder, people=2)
    networks = yaml.safe_load((ROOT / "params.yaml").read_text())["networks"]
    # Enough to say left at times, rightly and wrongly.
    small = {"filters": [4, 6, 6], "dense": [16], "epochs": 10, "learning_rate": 0.05}
    # All that only the generalist does, in the other network.
    ways = (
        "normalize", "batch_norm", "crop", "schedule", "weight_decay", "balanced", "augment",
        "more_people", "test_time_augmentation",
    )  # fmt: skip
    networks["four_class"] |= {way: networks["generalist"][way] for way in ways}
    networks["four_class"]["augment"]["nod"] = 35
    project.set_params(
        threads=1,
        crop__size=32,
        happymaps__steps=3,
        happymaps__seeds=2,
        attributions__methods=["saliency", "pixel_importance", "lime"],
        attributions__lime={"superpixels": 9, "samples": 20},
        audit__heads=20,
        audit__images=4,
        audit__randomised=1,
        audit__random_networks=12,
        audit__steps=4,
        audit__offsets=3,
        audit__scales=[1.0],
        audit__people=2,
        networks={name: networks[name] | small for name in NETWORKS},
        cross_validate__networks=list(NETWORKS),
        steps=[
            {"name": "poses", "changes": {"target": "pose"}},
            {"name": "changed", "changes": {"crop": "face", "augment.mirror": True}},
        ],
    )
    watch(project.folder / "src")
    (project.folder / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    project.run("git", "init", "--quiet")
    project.dvc("init", "--quiet")
    project.run("git", "add", ".")
    project.run("git", "commit", "--quiet", "-m", "before")
    project.dvc("repro")
    project.run("git", "add", ".")
    project.run("git", "commit", "--quiet", "-m", "reproduced")
    opened.rename(project.read)  # what is run later notes nothing


@pytest.fixture
def changeable(project: Project) -> Iterator[Project]:
    """The project, which is put back to its commit afterwards."""
    yield project
    project.run("git", "reset", "--quiet", "--hard")
    project.run("git", "clean", "--quiet", "-fd")
    project.dvc("checkout", "--quiet", "--force")
