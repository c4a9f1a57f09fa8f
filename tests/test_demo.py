import shutil
from pathlib import Path

import pytest
import yaml

from happymaps.demo import _COPIED, _ROUGH, _clear, _copy, _with_cast, prepare, run_demo
from happymaps.errors import InputError
from happymaps.stages.layout import MORE_PEOPLE
from happymaps.understanding import intervals
from toys import ROOT

pytestmark = pytest.mark.usefixtures("short_footage")


def test_whom_the_project_is_split_by_is_not_asked_of_the_cast(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["split"] |= {"method": "by_person", "people": ["an2i"]}
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(content))
    (tmp_path / "data/sample/recordings").mkdir(parents=True)
    assert _with_cast(file, tmp_path)["split"]["method"] == "random"


def test_a_demo_audits_enough_for_a_verdict() -> None:
    enough = intervals.FEWEST
    assert _ROUGH["audit"]["images"] >= enough
    assert _ROUGH["audit"]["random_networks"] >= enough


def test_a_demo_is_not_made_within_what_it_copies(tmp_path: Path) -> None:
    for name in ("src/demo", "src", "data/manifests/demo"):
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        (project / "dvc.yaml").touch()
        with pytest.raises(InputError, match="among what is copied"):
            prepare(project, project / name, people=2)
        assert not (project / name).exists()


def project_of(folder: Path, **stages: object) -> Path:
    """This project with other stages."""
    for name in _COPIED:
        _copy(ROOT / name, folder / name)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    return folder


def test_a_demo_runs_the_projects_stages_on_the_cast(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    project = project_of(tmp_path / "project", fetch_faces=stages["fetch_faces"])
    before = sorted(project.rglob("*"))
    run_demo(project, tmp_path / "demo", people=2)
    assert "Running stage 'fetch_faces'" in capfd.readouterr().out
    drawn = sorted((tmp_path / "demo/data/sample/cmu_faces").rglob("*.*"))
    fetched = sorted((tmp_path / "demo/data/raw/cmu_faces").rglob("*.*"))
    assert [file.read_bytes() for file in fetched] == [file.read_bytes() for file in drawn]
    assert len(drawn) > 100
    strangers = [
        {file.read_bytes() for file in (tmp_path / "demo/data/sample" / name).rglob("*.jpg")}
        for name in MORE_PEOPLE
    ]
    assert all(strangers)
    assert not strangers[0] & strangers[1]
    assert sorted(project.rglob("*")) == before


def test_a_demo_whose_stage_fails_says_how_to_go_on(tmp_path: Path) -> None:
    project = project_of(tmp_path / "project", broken={"cmd": "false"})
    with pytest.raises(InputError, match=r"dvc repro failed.*goes on from there"):
        run_demo(project, tmp_path / "demo", people=2)
    assert (tmp_path / "demo/dvc.yaml").is_file()


@pytest.mark.parametrize("people", [1, 21])
def test_a_cast_of_the_wrong_size_is_refused(tmp_path: Path, people: int) -> None:
    with pytest.raises(InputError, match="between 2 and 20"):
        prepare(ROOT, tmp_path / "demo", people=people)


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists and is no earlier demo"):
        prepare(ROOT, tmp_path, people=2)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_demo_that_was_replaced_half_way_is_still_an_earlier_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "demo"
    for name in ("data", "plots", "src"):
        (folder / name).mkdir(parents=True)
        (folder / f"{name}.txt").touch()
    (folder / ".happymaps-demo").touch()
    real = shutil.rmtree
    removed: list[Path] = []

    def interrupted(path: Path) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        real(path)

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(shutil, "rmtree", interrupted)
        prepare(ROOT, folder, people=2)
    assert len(removed) == 1
    assert not removed[0].exists()
    prepare(ROOT, folder, people=2)
    assert not list(folder.glob("*.txt"))
    assert (folder / "dvc.yaml").is_file()


def test_of_a_link_in_an_earlier_demo_the_link_alone_goes(tmp_path: Path) -> None:
    folder, mine = tmp_path / "demo", tmp_path / "disk/mine"
    for file in (folder / ".happymaps-demo", mine):
        file.parent.mkdir()
        file.touch()
    (folder / "data").symlink_to(mine.parent)
    _clear(folder)
    assert [path.name for path in folder.iterdir()] == [".happymaps-demo"]
    assert mine.is_file()


def test_the_project_is_not_replaced_by_its_demo(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "project"):
        folder.mkdir(exist_ok=True)
        (folder / ".happymaps-demo").touch()
    (tmp_path / "project/dvc.yaml").touch()
    for folder in (tmp_path, tmp_path / "project"):
        with pytest.raises(InputError, match="the project is in it"):
            prepare(tmp_path / "project", folder, people=2)
    assert (tmp_path / "project/dvc.yaml").is_file()


def test_outside_a_project_there_is_nothing_to_demonstrate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no dvc\.yaml here"):
        prepare(tmp_path, tmp_path / "demo", people=2)
    assert not (tmp_path / "demo").exists()


def test_a_study_is_not_the_project(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cifar10: a study; type this in the project's folder"):
        prepare(ROOT / "studies/cifar10", tmp_path / "demo", people=2)
    assert not (tmp_path / "demo").exists()


def test_a_link_to_nothing_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="demo"):
        run_demo(ROOT, tmp_path / "demo", people=2)
    assert not (tmp_path / "elsewhere").exists()


def test_a_project_without_the_networks_of_the_demo_is_told_and_keeps_its_old_demo(
    tmp_path: Path,
) -> None:
    project, folder = tmp_path / "project", tmp_path / "demo"
    project.mkdir()
    (project / "dvc.yaml").touch()
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    del content["networks"]["four_class"]
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    folder.mkdir()
    (folder / ".happymaps-demo").touch()
    with pytest.raises(InputError, match="the demo needs the networks four_class"):
        prepare(project, folder, people=2)
    assert (folder / ".happymaps-demo").is_file()
