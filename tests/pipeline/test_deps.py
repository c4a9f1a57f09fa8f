"""DVC does not follow imports: a stage's deps must name every module of ours that it imports."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from happymaps.params import ColourCropParams, TrainingCropParams

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"


@dataclass(frozen=True)
class Stage:
    """A stage of one of the pipelines, and the params that it may read."""

    name: str
    content: dict[str, Any]
    params: dict[str, Any]

    @property
    def module(self) -> str:
        return str(self.content["cmd"].split("-m ")[1].split()[0])

    @property
    def network(self) -> str:
        """Any that it can be made for."""
        return str(next(iter(self.params["networks"])))

    @property
    def code(self) -> set[str]:
        """Its deps that are code, relative to the project."""
        found = (dep.removeprefix("../../") for dep in self.content["deps"])
        return {dep for dep in found if dep.startswith("src/")}

    @property
    def listed_params(self) -> set[str]:
        names = self.content.get("params", [])
        return {re.sub(r"\$\{.*?\}", self.network, name) for name in names}


def stages_of(pipeline: str, params: str) -> list[Stage]:
    content = yaml.safe_load((ROOT / params).read_text())
    stages = yaml.safe_load((ROOT / pipeline).read_text())["stages"]
    return [Stage(name, stage.get("do", stage), content) for name, stage in stages.items()]


PIPELINES = {
    "dvc.yaml": "params.yaml",
    "studies/people/dvc.yaml": "params.yaml",
    "studies/cifar10/dvc.yaml": "studies/cifar10/params.yaml",
}
STAGES = [
    pytest.param(stage, id=f"{pipeline}:{stage.name}")
    for pipeline, params in PIPELINES.items()
    for stage in stages_of(pipeline, params)
]


def module_file(module: str) -> Path | None:
    """The file of a dotted name: a module, or a package's __init__."""
    path = SRC.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def imported_names(file: Path) -> set[str]:
    """Dotted names that a file imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not followed"
            names.add(str(node.module))
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "happymaps"}


def closure(module: str) -> set[str]:
    """Files, relative to the project, that running `module` reads."""
    todo, seen, files = [module], set(), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        file = module_file(name)
        if file is not None:
            files.add(file.relative_to(ROOT).as_posix())
            todo += imported_names(file)
    # A package's __init__ holds a docstring only, which the next test makes sure of.
    return {file for file in files if not file.endswith("__init__.py")}


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_exactly_what_is_imported(stage: Stage) -> None:
    assert stage.code == closure(stage.module)


def test_packages_hold_no_code() -> None:
    for file in SRC.rglob("__init__.py"):
        body = ast.parse(file.read_text()).body
        assert [type(node) for node in body] == [ast.Expr], file


def test_closure_follows_imports_of_imports_and_inside_functions() -> None:
    assert "src/happymaps/errors.py" in closure("happymaps.stages.convert")
    assert "src/happymaps/sources/archives.py" in closure("happymaps.stages.fetch_faces")
    assert "src/happymaps/figures.py" not in closure("happymaps.stages.train")


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_named_leaf_by_leaf(stage: Stage) -> None:
    for name in stage.listed_params:
        value = stage.params
        for key in name.split("."):
            value = value[key]
        # Who looks at several networks has to know which there are.
        several = name == "networks" and stage.name in ("compare", "augmentations")
        assert not isinstance(value, dict) or several, name


def leaves_of(params: dict[str, Any], name: str) -> set[str]:
    """A param's own name, or the names of all below it."""
    value = params
    for key in name.split("."):
        value = value[key]
    if not isinstance(value, dict):
        return {name}
    return {leaf for key in value for leaf in leaves_of(params, f"{name}.{key}")}


# Which networks are tested is what the stages are made for. Where they are trained changes no
# figure, and should cost nobody hours.
NO_PARAM_OF_A_STAGE = {
    f"cross_validate.{name}" for name in ("networks", "backend", "jobs", "address")
}


def read_params(stage: Stage) -> set[str]:
    """Leaves that a stage reads: `params.crop.size`, or all of crop where it hands on the whole."""
    text = SRC.joinpath(*stage.module.split(".")).with_suffix(".py").read_text()
    params = stage.params
    leaves = set()
    if "recordings" in params and re.search(r"\btests\(params", text):
        leaves.add("recordings")
    for section, key in re.findall(r"(?:params|load\(\))\.(\w+)(?:\.(\w+))?", text):
        if section == "networks":
            leaves.add(section)
        elif section == "network":
            leaves |= leaves_of(params, f"networks.{stage.network}")
        elif section == "step_by_step":
            leaves.add("steps")
        elif section == "subjects":
            leaves |= {"recordings"} & set(params)
        elif section in params and isinstance(params[section], dict):
            if key == "channels":  # what kind of study it is, which is no param
                continue
            if key == "of_training":
                faces = "cmu_faces" in params["crop"]
                remembered = TrainingCropParams if faces else ColourCropParams
                leaves |= {f"crop.{name}" for name in remembered.model_fields}
                continue
            name = f"{section}.{key}" if key in params[section] else section
            leaves |= leaves_of(params, name) - NO_PARAM_OF_A_STAGE
        elif section in params:
            leaves.add(section)
    return leaves


@pytest.mark.parametrize("stage", STAGES)
def test_every_param_that_a_stage_reads_is_listed_and_no_other(stage: Stage) -> None:
    # What it hands on with the rest of a section, and overwrites or does not use.
    not_its_own = {
        # Of a network the steps only say that it is none of them.
        "cross_validate": {"steps"},
        # It goes through all methods and folds by itself.
        "leaks": {
            "split.method", "split.people", "split.fold",
            "cross_validate.folds", "cross_validate.leave_one_out",
        },
    }  # fmt: skip
    assert stage.listed_params == read_params(stage) - not_its_own.get(stage.name, set())


@pytest.mark.parametrize("pipeline", ["dvc.yaml", "studies/cifar10/dvc.yaml"])
def test_every_network_has_its_curves_among_the_plots(pipeline: str) -> None:
    plots = yaml.safe_load((ROOT / pipeline).read_text())["plots"]
    networks = yaml.safe_load((ROOT / PIPELINES[pipeline]).read_text())["networks"]
    titles = {title for plot in plots for title in plot}
    assert titles == {f"{name}: {figure}" for name in networks for figure in ("accuracy", "loss")}
    watched = "validation" if "cifar10" in pipeline else "test"
    for title, style in (pair for plot in plots for pair in plot.items()):
        name, figure = title.split(": ")
        folder = f"plots/train/{name}/plots/metrics"
        files = [f"{folder}/{part}/{figure}.tsv" for part in ("train", watched)]
        assert style == {"template": "linear", "x": "step", "y": dict.fromkeys(files, figure)}
