"""`happymaps explain` in a project of its own, with the real params made small."""

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from happymaps.cli import main
from happymaps.networks import SavedNetwork, build_network, save_network
from happymaps.params import OBJECTS, ColourCropParams, NetworkParams, Params
from toys import ROOT, takes_any_name

METHODS = ["saliency", "integrated_gradients", "lime"]
SIZE = 32
Figures = list[dict[str, Any]]
Explain = Callable[..., tuple[Figures, str | None]]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params, spec: NetworkParams
) -> Path:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["threads"] = 1
    content["networks"]["tiny"] = content["networks"]["experiment0"]
    content["attributions"]["methods"] = METHODS
    content["attributions"]["lime"] = {"superpixels": 9, "samples": 20}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    crop = params.crop.model_copy(update={"size": SIZE}).of_training()
    network = build_network(spec, SIZE, seed=3)
    with torch.no_grad():  # untrained it would say 0.50 to everything
        network.get_submodule(network.decision_layer).weight.mul_(100)  # type: ignore[operator]
    save_network(SavedNetwork("tiny", network, crop), tmp_path / "data/models/tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def explain(project: Path, monkeypatch: pytest.MonkeyPatch) -> Explain:
    """Run the command; give the JSON (empty without one) and the error that it ended with."""

    def run(*paths: str, output: str = "why", network: str = "tiny") -> tuple[Figures, str | None]:
        command = ["happymaps", "explain", "--network", network, "--output", output, *paths]
        monkeypatch.setattr(sys, "argv", command)
        error = None
        try:
            main()
        except SystemExit as exit_:
            error = str(exit_.code)  # which Python prints, and exits with 1
        file = project / f"{output}.json"
        return (json.loads(file.read_text()) if file.exists() else []), error

    return run


def scene(seed: int = 0) -> NDArray[np.uint8]:
    """A picture in coarse squares, taller than wide."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def save(path: str, grey: NDArray[np.uint8]) -> str:
    Image.fromarray(grey).save(path)
    return path


def without_path(found: Figures) -> Figures:
    return [{key: value for key, value in one.items() if key != "path"} for one in found]


def test_a_sheet_and_its_figures_are_written(
    explain: Explain, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, error = explain(save("a.png", scene()), save("b.png", scene(1)), output="out/of/why")
    assert error is None
    assert capsys.readouterr().out == "out/of/why.png\nout/of/why.json\n"
    assert [one["path"] for one in found] == ["a.png", "b.png"]
    for one in found:
        assert list(one) == ["path", "frame", "time", "prediction", "confidence", "methods"]
        assert (one["frame"], one["time"]) == (None, None)
        assert one["prediction"] in ("left", "not left")
        assert 0.5 <= one["confidence"] <= 1
        assert list(one["methods"]) == [*METHODS, "random", "edges"]
        for figures in one["methods"].values():
            assert list(figures) == ["peak", "grid"]
            assert all(0 <= place < SIZE for place in figures["peak"])
            assert np.shape(figures["grid"]) == (8, 8)
            assert np.abs(figures["grid"]).max() == 1
    with Image.open("out/of/why.png") as sheet:
        assert sheet.height > 2 * SIZE
        assert sheet.width > 6 * SIZE
    assert sorted(path.name for path in (project / "out/of").iterdir()) == ["why.json", "why.png"]


def test_the_same_pictures_give_the_same_bytes(explain: Explain) -> None:
    paths = [save("a.png", scene()), save("b.png", scene(1))]
    for output in ("first", "again"):
        explain(*paths, output=output)
    for ending in ("png", "json"):
        assert Path(f"first.{ending}").read_bytes() == Path(f"again.{ending}").read_bytes()


def test_a_picture_is_explained_the_same_whatever_stands_beside_it(explain: Explain) -> None:
    paths = [save(f"{seed}.png", scene(seed)) for seed in range(3)]
    together, _ = explain(*paths)
    assert len({json.dumps(one["methods"]["lime"]) for one in together}) == 3
    for number in (2, 0):
        alone, _ = explain(paths[number], output=f"alone{number}")
        assert alone == [together[number]]
    backwards, _ = explain(*reversed(paths))
    assert backwards == together[::-1]


def test_what_is_drawn_at_random_is_by_the_seed_in_params(explain: Explain, project: Path) -> None:
    picture = save("a.png", scene())
    (before,), _ = explain(picture)
    content = yaml.safe_load((project / "params.yaml").read_text())
    content["seed"] += 1
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    (after,), _ = explain(picture)
    same = {name for name, one in after["methods"].items() if one == before["methods"][name]}
    assert same == {"saliency", "integrated_gradients", "edges"}


def test_bad_files_are_named_at_the_end_and_the_good_ones_written(
    explain: Explain, project: Path
) -> None:
    Path("text.png").write_text("no picture")
    Path("notes.txt").write_text("no picture")
    Path("empty.png").touch()
    Path("empty").touch()
    Path("album").mkdir()
    whole = Path(save("whole.png", np.kron(scene(), np.ones((9, 9), np.uint8)))).read_bytes()
    Path("half.png").write_bytes(whole[: len(whole) // 2])
    bad = ["text.png", "notes.txt", "empty.png", "empty", "album", "half.png", "none.png"]
    good = save("good.png", scene())
    found, error = explain(*bad[:3], good, *bad[3:], f"{good}@1s")
    assert [one["path"] for one in found] == ["good.png"]
    assert Path("why.png").is_file()
    assert error is not None
    # A line each, which can be looked through for a name.
    named = [line.removeprefix("error: ").split(": ")[0] for line in error.splitlines()]
    assert named == [*bad, good]
    assert error.count("error: ") == len(named)
    assert str(project) not in error


def test_nothing_is_written_where_nothing_can_be_read(explain: Explain, project: Path) -> None:
    found, error = explain("none.png")
    assert (found, error) == ([], "error: none.png: no such file or folder")
    assert not Path("why.png").exists()


def test_a_place_that_cannot_be_written_is_named_before_the_work(
    explain: Explain, project: Path
) -> None:
    picture = save("a.png", scene())
    found, error = explain(picture, output=f"{picture}/why")
    assert found == []
    assert error is not None
    assert error.startswith(f"error: {picture}/why: cannot be written (")


def test_a_name_that_is_too_long_is_told_before_the_work(explain: Explain, project: Path) -> None:
    name = "x" * 245  # which is short enough without an ending
    before = sorted(project.rglob("*"))
    _, error = explain("none.png", output=name)
    assert error == f"error: {name}: cannot be written (File name too long)"
    assert sorted(project.rglob("*")) == before


def test_a_folder_is_written_into_and_an_ending_is_no_part_of_the_name(explain: Explain) -> None:
    picture = save("a.png", scene())
    Path("album").mkdir()
    assert explain(picture, output="album")[1] is None
    assert {file.name for file in Path("album").iterdir()} == {
        "explanation.png", "explanation.json"
    }  # fmt: skip
    assert explain(picture, output="new/")[1] is None
    assert Path("new/explanation.json").is_file()
    assert explain(picture, output="b.png")[1] is None
    assert Path("b.json").is_file()
    assert not Path("b.png.png").exists()
    assert explain(picture, output="v1.2")[1] is None
    assert Path("v1.2.json").is_file()


def test_a_name_that_is_empty_is_refused(
    explain: Explain, capsys: pytest.CaptureFixture[str]
) -> None:
    for paths, output in ((("",), "why"), ((save("a.png", scene()),), "")):
        assert explain(*paths, output=output)[1] == "2"
        assert "an empty name" in capsys.readouterr().err


def test_of_a_network_that_is_no_longer_in_params_it_is_said(
    explain: Explain, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file stays where it was: it answers, but is none of what the pipeline makes."""
    picture, models = save("a.png", scene()), Path("data/models")
    (models / "tiny.safetensors").rename(models / "renamed.safetensors")
    assert explain(picture, network="renamed")[1] is None
    assert "note: params.yaml has no network renamed any more" in capsys.readouterr().err
    assert explain(picture, network=str(models / "renamed.safetensors"))[1] is None
    assert "note" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../models/tiny", "data/models/tiny", "/etc/passwd"])
def test_a_network_is_a_name_or_a_file_of_its_kind(explain: Explain, name: str) -> None:
    _, error = explain(save("a.png", scene()), network=name)
    assert error == f"error: no network {name!r} in data/models; there are tiny"


def test_a_folder_and_nothing_are_no_network_file(explain: Explain) -> None:
    Path("folder.safetensors").mkdir()
    for name in ("folder.safetensors", "none.safetensors"):
        _, error = explain(save("a.png", scene()), network=name)
        assert str(error).startswith(f"error: {name}: no network file;")


def test_outside_of_a_project_it_is_said(explain: Explain) -> None:
    picture = save("a.png", scene())
    Path("params.yaml").unlink()
    _, error = explain(picture)
    assert error == "error: no params.yaml here; type this in the project's folder"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_full_disk_is_one_line(project: Path, command: str) -> None:
    picture = save("a.png", scene())
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "happymaps.cli", command, "--network", "tiny", picture],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=project,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == "error: [Errno 28] No space left on device"


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_nobody_has_to_read_what_is_answered(project: Path, command: str) -> None:
    picture = save("a.png", scene())
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "happymaps.cli", command, "--network", "tiny", picture],
        stdout=writer, stderr=subprocess.PIPE, text=True, cwd=project,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("explanation.png").is_file() == (command == "explain")


def test_without_a_standard_output_there_is_nowhere_to_answer(project: Path) -> None:
    picture = save("a.png", scene())
    command = f"{sys.executable} -m happymaps.cli predict --network tiny {picture} >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, cwd=project)
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output is closed")


def test_without_a_standard_output_an_explanation_is_written_all_the_same(project: Path) -> None:
    picture = save("a.png", scene())
    command = f"{sys.executable} -m happymaps.cli explain --network tiny {picture} >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("explanation.png").is_file()


def test_a_name_that_is_too_long_is_one_line(project: Path) -> None:
    command = ["explain", "--network", "tiny", "--output", "x" * 300, save("a.png", scene())]
    done = subprocess.run(
        [sys.executable, "-m", "happymaps.cli", *command],
        capture_output=True, text=True, cwd=project,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "File name too long" in done.stderr
    assert done.stderr.count("\n") == 1


@contextmanager
def interrupts(handler: Any) -> Iterator[None]:
    """Handle them so, here and in what is started."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("command", ["predict", "explain"])
@pytest.mark.parametrize("ignored", [False, True])
def test_an_interrupt_among_imports_ends_it(project: Path, command: str, ignored: bool) -> None:
    """Though an import may catch what Python raises then: this one does, as NumPy's does."""
    (project / "tqdm.py").write_text(
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(1)\n"
        "except KeyboardInterrupt: pass\n"
        "print('still here')\n"
        "def tqdm(some, **_): return some\n"
    )
    # As a shell does with what its scripts run in the background, these tests perhaps.
    with interrupts(signal.SIG_IGN if ignored else signal.default_int_handler):
        done = subprocess.run(
            [sys.executable, "-m", "happymaps.cli", command, "--network", "tiny", "a.png"],
            capture_output=True, text=True, cwd=project, timeout=60,
        )  # fmt: skip
    if ignored:
        assert done.stdout.startswith("still here\n")
        assert (done.returncode, done.stderr) == (1, "error: a.png: no such file or folder\n")
    else:
        assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_after_the_imports_an_interrupt_is_pythons_again(explain: Explain) -> None:
    for handler in (signal.default_int_handler, signal.SIG_IGN):
        with interrupts(handler):
            explain("none.png")
            assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("given", ["why.png", "./why.png", "why.png@1s"])
def test_a_picture_is_not_overwritten_by_its_explanation(explain: Explain, given: str) -> None:
    before = Path(save("why.png", scene())).read_bytes()
    found, error = explain(given)
    assert found == []
    assert error is not None
    assert "why.png: is one of the pictures; choose another --output" in error
    assert Path("why.png").read_bytes() == before


def test_a_folder_is_not_replaced_by_an_explanation(explain: Explain) -> None:
    Path("why.json/thesis").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):  # the fixture reads it
        explain(save("a.png", scene()))
    assert Path("why.json/thesis").is_dir()
    assert not Path("why.png").exists()


def test_an_audit_that_is_none_is_named(explain: Explain, project: Path) -> None:
    (project / "metrics/audit").mkdir(parents=True)
    (project / "metrics/audit/tiny.json").write_text("<<<<<<< HEAD")
    _, error = explain(save("a.png", scene()))
    assert error is not None
    assert "tiny.json: not an audit's metrics" in error


def test_a_name_with_dollar_signs_is_written_as_it_is(explain: Explain) -> None:
    found, error = explain(save("$_{$.png", scene()))
    assert error is None
    assert found[0]["path"] == "$_{$.png"


@takes_any_name
@pytest.mark.parametrize("disk", [b"caf\xe9.png", "café.png".encode()])
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii"])
def test_a_name_that_is_no_text_for_the_terminal_is_answered_and_written(
    explain: Explain, project: Path, disk: bytes, encoding: str
) -> None:
    name = os.fsdecode(disk)
    found, error = explain(save(name, scene()))
    assert error is None
    assert found[0]["path"] == name
    command = [sys.executable, "-m", "happymaps.cli", "predict", "--network", "tiny", name]
    terminal = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=project, env=terminal, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith(disk + b",")


@takes_any_name
def test_an_explanation_whose_name_is_no_text_is_written_and_told(project: Path) -> None:
    output = os.fsdecode(b"caf\xe9")
    command = ["explain", "--network", "tiny", "--output", output, save("a.png", scene())]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        [sys.executable, "-m", "happymaps.cli", *command],
        cwd=project, env=strict, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"caf\xe9.png\ncaf\xe9.json\n"
    assert Path(f"{output}.json").is_file()


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_without_a_place_for_notes_the_answers_come_all_the_same(
    project: Path, command: str
) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    del content["networks"]["tiny"]  # of which a note tells
    Path("params.yaml").write_text(yaml.safe_dump(content))
    picture = save("a.png", scene())
    line = f"{sys.executable} -m happymaps.cli {command} --network tiny {picture} 2>&-"
    done = subprocess.run(line, shell=True, stdout=subprocess.PIPE, text=True, cwd=project)
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    if command == "predict":
        assert first == "path,frame,time,prediction,confidence"
        assert second.startswith("a.png,,,")
    else:
        assert (first, second) == ("explanation.png", "explanation.json")


def chunk_of(file: int) -> bytes:
    try:
        return os.read(file, 10_000)
    except BlockingIOError:
        return b""


def test_no_bar_is_drawn_between_answers_on_the_same_terminal(project: Path) -> None:
    save("a.png", scene())
    command = [sys.executable, "-m", "happymaps.cli", "predict", "--network", "tiny", "a.png"]
    ours, terminal = pty.openpty()
    os.set_blocking(ours, False)
    termios.tcsetwinsize(terminal, (24, 80))
    for answers in (terminal, subprocess.PIPE):
        done = subprocess.run(command, stdout=answers, stderr=terminal, cwd=project, check=True)
        seen = b"".join(iter(partial(chunk_of, ours), b"")).decode()
        if answers == terminal:
            assert seen.startswith("path,frame,time,prediction,confidence\r\na.png,,,")
            assert seen.count("\n") == 2
        else:
            assert "1image" in seen
            assert done.stdout.decode().count("\n") == 2
    os.close(ours)
    os.close(terminal)


# --- what failed the audit


def test_what_failed_its_audit_is_said_where_there_was_one(explain: Explain, project: Path) -> None:
    path = save("a.png", scene())
    methods = [*METHODS, "random", "edges"]
    audit = {
        "sanity": {method: {"passes": method != "edges"} for method in methods},
        "faithfulness": {method: {"beats_random": method != "random"} for method in methods},
    }
    (project / "metrics/audit").mkdir(parents=True)
    (project / "metrics/audit/other.json").write_text(json.dumps(audit))
    (before,), _ = explain(path)
    assert not any("failed" in figures for figures in before["methods"].values())
    unmarked = Path("why.png").read_bytes()
    (project / "metrics/audit/tiny.json").write_text(json.dumps(audit))
    (after,), _ = explain(path)
    failed = {method: figures.pop("failed") for method, figures in after["methods"].items()}
    assert failed == dict.fromkeys(METHODS) | {"random": "faithfulness", "edges": "sanity"}
    whole_path = str(project / "data/models/tiny.safetensors")
    [by_path], _ = explain("a.png", output="by_path", network=whole_path)
    assert {method: one["failed"] for method, one in by_path["methods"].items()} == failed
    assert after == before
    assert Path("why.png").read_bytes() != unmarked


# --- pictures of every kind


def deep(path: str, grey: NDArray[np.uint8]) -> None:
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)


def opaque(path: str, grey: NDArray[np.uint8]) -> None:
    rgba = np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=2)
    Image.fromarray(rgba).save(path)


def transparent(path: str, grey: NDArray[np.uint8]) -> None:
    """What a grey looks like as black ink on white paper."""
    ink = np.stack([*[np.zeros_like(grey)] * 3, 255 - grey], axis=2)
    Image.fromarray(ink).save(path)


def palette(path: str, grey: NDArray[np.uint8]) -> None:
    colours = np.arange(256, dtype=np.uint8)[::-1].repeat(3)
    image = Image.fromarray(255 - grey).convert("P")
    image.putdata((255 - grey).ravel().tolist())
    image.putpalette(colours.tolist())
    image.save(path)


@pytest.mark.parametrize("write", [deep, opaque, transparent, palette])
def test_a_picture_of_another_kind_is_explained_as_its_plain_twin(
    explain: Explain, write: Callable[[str, NDArray[np.uint8]], None]
) -> None:
    write("kind.png", scene())
    with Image.open("kind.png") as image:
        assert image.mode != "L"
    found, error = explain("kind.png", save("plain.png", scene()))
    assert error is None
    kind, plain = without_path(found)
    assert kind == plain


def test_a_print_in_four_inks_is_answered_as_its_plain_twin(explain: Explain) -> None:
    inks = np.stack([*[np.zeros_like(scene())] * 3, 255 - scene()], axis=2)
    Image.fromarray(inks, mode="CMYK").save("inks.jpg", quality=100)
    found, error = explain("inks.jpg", save("plain.png", scene()), save("other.png", 255 - scene()))
    assert error is None
    inked, plain, other = (one["confidence"] for one in found)
    assert inked == pytest.approx(plain, abs=0.02)
    assert abs(other - plain) > 0.05


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_a_photo_on_its_side_is_explained_upright(
    explain: Explain, orientation: int, turns: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene()).save("camera.jpg", exif=exif)
    with Image.open("camera.jpg") as image:
        upright = np.rot90(np.asarray(image), turns)
    found, error = explain("camera.jpg", save("upright.png", upright), save("side.png", scene()))
    assert error is None
    camera, turned, side = without_path(found)
    assert camera == turned
    assert camera != side


def test_a_picture_of_one_pixel_is_the_even_picture_of_its_grey(explain: Explain) -> None:
    even = save("even.png", np.full((50, 40), 130, np.uint8))
    found, error = explain(save("one.png", np.full((1, 1), 130, np.uint8)), even)
    assert error is None
    one, larger = without_path(found)
    assert one == larger


@pytest.mark.parametrize("brightness", [0, 128, 255])
def test_an_even_picture_is_explained_in_finite_figures(explain: Explain, brightness: int) -> None:
    (found,), error = explain(save("even.png", np.full((40, 40), brightness, np.uint8)))
    assert error is None
    assert np.isfinite([figures["grid"] for figures in found["methods"].values()]).all()


def test_a_photo_of_twenty_megapixels_is_answered_as_its_thumbnail(explain: Explain) -> None:
    large = scene().repeat(103, axis=0).repeat(103, axis=1)
    assert large.size > 20e6
    Image.fromarray(large).save("large.jpg", quality=95)
    Image.fromarray(scene()).save("small.png")
    found, error = explain("large.jpg", "small.png", save("other.png", scene(1)))
    assert error is None
    photo, thumbnail, other = (one["confidence"] for one in found)
    assert photo == pytest.approx(thumbnail, abs=0.02)
    assert found[0]["prediction"] == found[1]["prediction"]
    assert abs(other - thumbnail) > 0.05


def test_where_no_face_is_found_a_note_says_so(
    explain: Explain,
    params: Params,
    spec: NetworkParams,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside the answer, and of a network that looks for none not at all."""
    crop = params.crop.model_copy(update={"size": SIZE}).of_training()
    network = build_network(spec.model_copy(update={"crop": "face"}), SIZE, seed=3)
    save_network(SavedNetwork("faces", network, crop), Path("data/models/faces.safetensors"))
    wall = save("wall.png", np.full((40, 30), 90, np.uint8))
    note = f"note: no face was found in 1 of the images (first: {wall});"
    _, error = explain(wall, network="faces")
    assert error is None
    assert note in capsys.readouterr().err
    explain(wall)
    assert "note" not in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["happymaps", "predict", "--network", "faces", wall])
    main()
    out, err = capsys.readouterr()
    assert note in err
    assert out.splitlines()[1].startswith(f"{wall},,,")
    shades = [Image.new("L", (40, 30), shade) for shade in (90, 140)]
    shades[0].save("wall.gif", save_all=True, append_images=shades[1:], duration=200)
    monkeypatch.setattr(sys, "argv", ["happymaps", "predict", "--network", "faces", "wall.gif"])
    main()
    assert "in 2 of the images (first: wall.gif@0.0s);" in capsys.readouterr().err


def test_a_network_of_objects_is_shown_the_colours(
    explain: Explain, project: Path, spec: NetworkParams
) -> None:
    content = yaml.safe_load((ROOT / "studies/cifar10/params.yaml").read_text())
    content["threads"] = 1
    content["attributions"]["methods"] = ["saliency"]
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    network = build_network(spec.model_copy(update={"target": "object"}), SIZE, 3, seed=3)
    coloured = ColourCropParams(size=SIZE, resample="area")
    save_network(
        SavedNetwork("objects", network, coloured), Path("data/models/objects.safetensors")
    )
    rgb = np.stack([scene(seed) for seed in range(3)], axis=2)
    paths = save("rgb.png", rgb), save("bgr.png", rgb[..., ::-1])
    (one, other), error = explain(*paths, network="objects")
    assert error is None
    assert one["prediction"] in OBJECTS
    assert one["confidence"] != other["confidence"]


def test_a_moment_of_a_film_is_told_with_its_frame_and_time(explain: Explain) -> None:
    frames = [Image.fromarray(scene(seed)) for seed in range(3)]
    frames[0].save("film.gif", save_all=True, append_images=frames[1:], duration=200)
    (found,), error = explain("film.gif@0.5s")
    assert error is None
    assert (found["path"], found["frame"], found["time"]) == ("film.gif", 2, 0.4)


def test_of_damaged_notes_in_a_file_nothing_is_said(project: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0" + bytes(12)  # five notes announced, and one there
    Image.fromarray(scene()).save("a.jpg", exif=exif)
    command = [sys.executable, "-m", "happymaps.cli", "predict", "--network", "tiny", "a.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=project)
    assert done.stderr == ""


def write_audit_that_all_failed(project: Path) -> None:
    (project / "metrics/audit").mkdir(parents=True)
    audit: dict[str, dict[str, Any]] = {"sanity": {}, "faithfulness": {}}
    (project / "metrics/audit/tiny.json").write_text(json.dumps(audit))


def test_of_a_network_that_was_trained_again_no_audit_is_told(
    explain: Explain, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audit_that_all_failed(project)
    path = save("a.png", scene())
    file = "data/models/tiny.safetensors"
    right = hashlib.md5(Path(file).read_bytes()).hexdigest()
    for md5, told in ((right, True), ("0" * 32, False)):
        deps = [{"path": "src/a.py", "hash": "md5", "md5": right}]
        deps.append({"path": file, "hash": "md5", "md5": md5})
        lock = {"schema": "2.0", "stages": {"audit@tiny": {"cmd": "audit", "deps": deps}}}
        Path("dvc.lock").write_text(yaml.safe_dump(lock))
        ((one,), error) = explain(path)
        assert error is None
        assert {"failed" in found for found in one["methods"].values()} == {told}
        assert ("trained again since its audit" in capsys.readouterr().err) != told
    # What was never locked may be audited by hand.
    for lock_of_nothing in ("schema: '2.0'\nstages: {}\n", "schema: '2.0'\n", ""):
        Path("dvc.lock").write_text(lock_of_nothing)
        ((one,), _) = explain(path)
        assert all("failed" in found for found in one["methods"].values())
    Path("dvc.lock").write_text("<<<<<<< HEAD\n: - {\n")
    _, error = explain(path)
    assert error is not None
    assert error.startswith("error: dvc.lock: no YAML")


def test_of_methods_set_otherwise_than_in_their_audit_none_is_told(
    explain: Explain, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audit_that_all_failed(project)
    path = save("a.png", scene())
    content = yaml.safe_load((project / "params.yaml").read_text())
    audited = {
        "seed": content["seed"] + 1,  # of what no verdict hangs on
        "attributions.methods": METHODS[:1],
        "attributions.blur": content["attributions"]["blur"],
        "attributions.lime.superpixels": content["attributions"]["lime"]["superpixels"],
    }
    for other, changed in (
        ({}, ""),
        ({"attributions.blur": 0.5}, "attributions.blur"),
        ({"attributions.lime.superpixels": 49}, "attributions.lime.superpixels"),
        ({"attributions.lime.kernel": 0.25}, "attributions.lime.kernel"),  # which is no param now
    ):
        stage = {"cmd": "audit", "params": {"params.yaml": audited | other}}
        Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"audit@tiny": stage}}))
        ((one,), error) = explain(path)
        assert error is None
        assert {"failed" in found for found in one["methods"].values()} == {not changed}
        said = capsys.readouterr().err
        assert (f"note: {changed} in params.yaml changed since the audit of tiny" in said) == bool(
            changed
        )


@takes_any_name
def test_the_same_picture_by_another_name_is_not_overwritten(explain: Explain) -> None:
    save("photo.PNG", scene())
    Path("photo.png").hardlink_to("photo.PNG")  # as disks have it that tell no capitals
    before = Path("photo.PNG").read_bytes()
    _, error = explain("photo.PNG", output="photo")
    assert error is not None
    assert "photo.png: is one of the pictures" in error
    assert Path("photo.PNG").read_bytes() == before


def test_links_in_a_circle_are_named(explain: Explain) -> None:
    Path("a.png").symlink_to("b.png")
    Path("b.png").symlink_to("a.png")
    _, error = explain("a.png")
    assert error is not None
    assert error.startswith("error: a.png: cannot be read")


def test_of_a_file_from_elsewhere_no_audit_is_told(explain: Explain, project: Path) -> None:
    """Though it carries the name of a network that was audited."""
    write_audit_that_all_failed(project)
    mine = (project / "data/models/tiny.safetensors").read_bytes()
    (project / "theirs.safetensors").write_bytes(mine)
    path = save("a.png", scene())
    for network, told in (("tiny", True), ("theirs.safetensors", False)):
        ((one,), _) = explain(path, network=network)
        assert {"failed" in found for found in one["methods"].values()} == {told}
