import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from happymaps.files import replacing, replacing_folder, write_json


def test_a_file_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "a.txt") as draft:
        draft.write_text("a")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "a"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with replacing_folder(tmp_path / "out") as draft:
            (draft / name).touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_takes_the_place_of_a_link_and_what_it_named_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/old").touch()
    (tmp_path / "out").symlink_to("disk")
    with replacing_folder(tmp_path / "out") as draft:
        (draft / "new").touch()
    assert not (tmp_path / "out").is_symlink()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["old"]


def test_after_an_error_the_old_output_stands_and_no_litter(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "out") as draft:
        (draft / "good").touch()
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "out") as draft:
        (draft / "half").touch()
        raise RuntimeError
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "out",
        "out/good",
    ]


def test_where_nothing_is_written_the_old_output_stands(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "out") as draft:
        (draft / "good").touch()
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "good").is_file()


def kill_a_writer(target: Path, when: str) -> None:
    """Have another process replace a folder of one good file, and killed by a line of its own."""
    code = (
        "import os, pathlib, signal, sys\n"
        "from happymaps.files import replacing_folder\n"
        "die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with replacing_folder(pathlib.Path(sys.argv[1])) as draft:\n"
        "    (draft / 'half').touch()\n"
        f"    {when}\n"
    )
    with replacing_folder(target) as draft:
        (draft / "good").touch()
    done = subprocess.run([sys.executable, "-c", code, str(target)], env=os.environ)
    assert done.returncode == -signal.SIGKILL


def test_a_killed_writer_leaves_the_old_output_and_its_litter_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "out"
    kill_a_writer(target, "die()")
    assert [path.name for path in target.iterdir()] == ["good"]
    with replacing_folder(target) as draft:
        (draft / "better").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in target.iterdir()] == ["better"]


def test_killed_between_moving_the_old_and_the_new_the_old_output_comes_back(
    tmp_path: Path,
) -> None:
    target = tmp_path / "out"
    kill_a_writer(target, "pathlib.Path.replace = die")
    assert not target.exists()
    with pytest.raises(RuntimeError), replacing_folder(target):
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_killed_just_after_the_new_output_has_come_that_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"
    kill_a_writer(target, "import shutil; shutil.rmtree = lambda *_, **__: die()")
    with pytest.raises(RuntimeError), replacing_folder(target):
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["half"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_writer_may_have_had_the_number_that_is_ours_now(tmp_path: Path) -> None:
    """As in containers, where numbers begin at 1 each time."""
    (tmp_path / f".a.{os.getpid()}.draft").mkdir()
    with replacing(tmp_path / "a") as draft:
        draft.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_draft_of_somebody_elses_process_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(number: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    theirs = tmp_path / f".a.{os.getppid()}.draft"
    theirs.mkdir()
    with replacing(tmp_path / "a") as draft:
        draft.touch()
    assert theirs.is_dir()


def test_a_file_takes_the_place_of_a_folder_and_a_folder_that_of_anything(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.symlink_to("nowhere")
    for _ in range(2):
        with replacing_folder(target) as draft:
            (draft / "new").touch()
        assert [path.name for path in target.iterdir()] == ["new"]
        with replacing(target) as draft:
            draft.write_text("a file")
        assert target.read_text() == "a file"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_litter_of_a_number_that_no_process_has_is_cleared(tmp_path: Path) -> None:
    (tmp_path / f".a.{'9' * 20}.draft").mkdir()
    with replacing(tmp_path / "a") as draft:
        draft.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_writer_at_work_keeps_its_draft(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from happymaps.files import replacing_folder\n"
        "with replacing_folder(pathlib.Path(sys.argv[1])) as draft:\n"
        "    print(flush=True)\n"
        "    input()\n"
        "    (draft / 'slow').touch()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as slow:
        assert slow.stdin is not None
        assert slow.stdout is not None
        slow.stdout.readline()
        with replacing_folder(tmp_path / "out") as draft:
            (draft / "quick").touch()
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["quick"]
        slow.stdin.write(b"\n")
        slow.stdin.close()
        assert slow.wait() == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["slow"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_put_in_place_leaves_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    with replacing_folder(target) as draft:
        (draft / "good").touch()

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"), replacing_folder(target):
        pass
    assert [path.name for path in target.iterdir()] == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_interrupted_just_after_the_old_has_moved_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    with replacing_folder(target) as draft:
        (draft / "good").touch()
    rename = Path.rename

    def interrupted(old: Path, new: Path) -> Path:
        moved = rename(old, new)
        if old == target:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), replacing_folder(target):
        pass
    assert [path.name for path in target.iterdir()] == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_draft_of_another_whose_name_begins_alike_is_left_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "face.npy") as outer:
        outer.write_text("half")
        with replacing_folder(tmp_path / "face") as draft:
            (draft / "a").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["face", "face.npy"]


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    with replacing(tmp_path / "ab") as outer:
        outer.write_text("half")
        with replacing(tmp_path / "a*") as draft:
            draft.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a*", "ab"]


def test_json_refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not (tmp_path / "a.json").exists()
