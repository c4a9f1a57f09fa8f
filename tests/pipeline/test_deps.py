"""DVC does not follow imports: a stage's deps must name every module of ours that it imports."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from happymaps.params import TrainingCropParams

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PEOPLE = yaml.safe_load((ROOT / "studies/people/dvc.yaml").read_text())
STAGES = {
    name: stage.get("do", stage) for name, stage in (PIPELINE["stages"] | PEOPLE["stages"]).items()
}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


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
def test_deps_are_exactly_what_is_imported(stage: str) -> None:
    module = STAGES[stage]["cmd"].split("-m ")[1].split()[0]
    code = {dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")}
    assert code == closure(module)


def test_packages_hold_no_code() -> None:
    for file in SRC.rglob("__init__.py"):
        body = ast.parse(file.read_text()).body
        assert [type(node) for node in body] == [ast.Expr], file


def test_closure_follows_imports_of_imports_and_inside_functions() -> None:
    assert "src/happymaps/errors.py" in closure("happymaps.stages.convert")
    assert "src/happymaps/sources/archives.py" in closure("happymaps.stages.fetch_faces")
    assert "src/happymaps/figures.py" not in closure("happymaps.stages.train")


def listed_params(stage: str) -> set[str]:
    names = STAGES[stage].get("params", [])
    return {re.sub(r"\$\{.*?\}", "experiment0", name) for name in names}


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_named_leaf_by_leaf(stage: str) -> None:
    for name in listed_params(stage):
        value = PARAMS
        for key in name.split("."):
            value = value[key]
        # Who looks at several networks has to know which there are.
        several = name == "networks" and stage in ("compare", "augmentations")
        assert not isinstance(value, dict) or several, name


def leaves_of(name: str) -> set[str]:
    """A param's own name, or the names of all below it."""
    value = PARAMS
    for key in name.split("."):
        value = value[key]
    if not isinstance(value, dict):
        return {name}
    return {leaf for key in value for leaf in leaves_of(f"{name}.{key}")}


def read_params(module: str) -> set[str]:
    """Leaves that a stage reads: `params.crop.size`, or all of crop where it hands on the whole."""
    text = SRC.joinpath(*module.split(".")).with_suffix(".py").read_text()
    leaves = set()
    for section, key in re.findall(r"(?:params|load\(\))\.(\w+)(?:\.(\w+))?", text):
        if section == "networks":
            leaves.add(section)
        elif section == "network":
            leaves |= leaves_of("networks.experiment0")
        elif section == "step_by_step":
            leaves.add("steps")
        elif section == "subjects":
            leaves.add("recordings")
        elif section in PARAMS and isinstance(PARAMS[section], dict):
            if key == "of_training":
                leaves |= {f"crop.{name}" for name in TrainingCropParams.model_fields}
                continue
            name = f"{section}.{key}" if key in PARAMS[section] else section
            # Which networks are tested is what the stages are made for.
            leaves |= leaves_of(name) - {"cross_validate.networks"}
        elif section in PARAMS:
            leaves.add(section)
    return leaves


@pytest.mark.parametrize("stage", STAGES)
def test_every_param_that_a_stage_reads_is_listed_and_no_other(stage: str) -> None:
    module = STAGES[stage]["cmd"].split("-m ")[1].split()[0]
    # Of a network the steps only say that it is none of them.
    not_its_own = {"steps"} if stage == "cross_validate" else set()
    assert listed_params(stage) == read_params(module) - not_its_own


def test_every_network_has_its_curves_among_the_plots() -> None:
    titles = {title for plot in PIPELINE["plots"] for title in plot}
    assert titles == {
        f"{name}: {figure}" for name in PARAMS["networks"] for figure in ("accuracy", "loss")
    }
