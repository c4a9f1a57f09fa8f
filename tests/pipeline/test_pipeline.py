"""The pipeline as its users know it: real DVC, real ffmpeg, real networks, in a repository."""

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import auc, roc_auc_score

from happymaps.demo import _report
from happymaps.images.decode import read_grey
from happymaps.images.faces import find_face, read_points
from happymaps.labelling import poses_of_landmarks
from happymaps.networks import load_network
from happymaps.params import Params
from happymaps.sources.youtube_faces import read_landmarks
from projects import NETWORKS, Project, read_json, unlisted
from toys import ROOT


def test_every_stage_leaves_its_outputs_and_metrics(project: Project) -> None:
    metrics = project.folder / "metrics"
    convert = read_json(metrics / "convert.json")
    drawn = list((project.folder / "data/sample/cmu_faces").rglob("*.pgm"))
    assert convert["images"] == len(drawn)
    assert convert["bad"] == len(list((project.folder / "data/sample/cmu_faces").rglob("*.bad")))
    label = read_json(metrics / "label.json")
    assert set(label) == {"cmu_faces", "umo", "velu", "wyn", "youtube_faces", "facial_expressions"}
    assert all(counts["left"] > 0 for counts in label.values())
    split = read_json(metrics / "split.json")
    assert split["train"] + split["test"] == convert["images"]
    for network in NETWORKS:
        assert read_json(metrics / "train" / f"{network}.json")["epochs"] == 10
        scores = read_json(metrics / "test" / f"{network}.json")
        assert list(scores) == ["cmu_test", "umo", "velu", "wyn", "recordings"]
        assert scores["cmu_test"]["images"] == split["test"]
        assert (project.folder / f"data/models/{network}.safetensors").is_file()
        for picture in ("false_positives", "false_negatives"):
            assert (project.folder / f"plots/test/{network}/{picture}.png").stat().st_size > 1000
    # What follows would hold of a network that never says left, too.
    everybody = read_json(metrics / "test/experiment0.json")["recordings"]
    for count in ("true_positives", "false_positives", "false_negatives"):
        assert everybody[count] > 0


def test_what_a_stage_reads_it_depends_on(project: Project) -> None:
    """Of data and metrics; which code it imports, and which params it reads, test_deps computes."""
    assert not unlisted(project.folder / "dvc.lock", project.read)


def test_a_demo_is_the_project_with_the_cast_for_its_source(project: Project) -> None:
    params = Params.load(project.folder / "params.yaml")
    assert params.faces.path == Path("data/sample/cmu_faces")
    assert params.youtube_faces.path == Path("data/sample/youtube_faces")
    assert params.facial_expressions.path == Path("data/sample/facial_expressions")
    assert [recording.subject for recording in params.recordings] == ["umo", "velu", "wyn"]
    for recording in params.recordings:
        assert (project.folder / f"data/annotations/{recording.subject}.csv").is_file()
    ours, theirs = (
        yaml.safe_load((folder / "dvc.yaml").read_text()) for folder in (ROOT, project.folder)
    )
    assert ours == theirs


def test_only_who_wants_more_people_learns_from_them(project: Project) -> None:
    metrics = project.folder / "metrics"
    train = read_json(metrics / "split.json")["train"]
    label = read_json(metrics / "label.json")
    more = {}
    for name in ("youtube_faces", "facial_expressions"):
        counts = label[name]
        more[name] = counts["images"] - counts["unlabelled"]
        assert counts["images"] == read_json(metrics / f"fetch_{name}.json")["images"] == 16
        assert counts["up"] == 0
        assert min(counts[pose] for pose in ("straight", "left", "right")) >= 1
    # Each in both views, for it sees faces; but those that are cut to the face.
    images = read_json(metrics / "train/four_class.json")["images"]
    assert images == 2 * (train + more["youtube_faces"]) + more["facial_expressions"]
    assert read_json(metrics / "train/experiment0.json")["images"] == train


def test_every_neuron_of_every_network_has_its_map(project: Project) -> None:
    for network in NETWORKS:
        figures = read_json(project.folder / f"metrics/happymaps/{network}.json")
        table = pd.read_csv(project.folder / f"data/happymaps/{network}.csv")
        maps = load_file(project.folder / f"data/happymaps/{network}.safetensors")
        layers = [layer for layer in figures if layer.startswith(("conv2d", "dense"))]
        assert list(table["layer"].unique()) == layers
        for layer in layers:
            count = figures[layer]["neurons"]
            assert (table["layer"] == layer).sum() == count
            for kind in ("trained", "untrained", "shuffled"):
                assert maps[f"{kind}/{layer}"].shape == (count, 1, 32, 32)
            for sheet in (f"{layer}.png", f"{layer}_examples.png"):
                file = project.folder / "plots/happymaps" / network / sheet
                assert file.stat().st_size > 1000
        assert set(figures["decision"]) == {
            "complementarity", "untrained_complementarity",
            "seed_stability", "untrained_seed_stability",
        }  # fmt: skip
        for prefix, kind in (("", "trained"), ("untrained_", "untrained")):
            pairs = np.corrcoef(maps[f"{kind}/dense_2"].float().flatten(1).numpy())
            mean = pairs[np.triu_indices(len(pairs), 1)].mean()
            found = figures["decision"][f"{prefix}complementarity"]
            assert found == pytest.approx(mean, abs=1e-3)
        sheets = {file.name for file in (project.folder / "plots/feature_maps" / network).iterdir()}
        assert sheets == {"filters.png", "cmu_test.png", "umo.png", "velu.png", "wyn.png"}


def test_every_pair_is_compared_beside_its_controls(project: Project) -> None:
    found = read_json(project.folder / "metrics/compare.json")
    names = list(yaml.safe_load((project.folder / "params.yaml").read_text())["networks"])
    assert set(found["pairs"]) == {f"{one}-{other}" for one, other in combinations(names, 2)}
    for pair in found["pairs"].values():
        figure = pair["decision_maps"]
        control = max(figure["untrained"], figure["shuffled"])
        assert figure["above_control"] == pytest.approx(figure["similarity"] - control)
        assert set(pair["agreement"]) == {"cmu_test", "umo", "velu", "wyn"}
    assert all(set(row) == {"claim", "figure", "control", "holds"} for row in found["claims"])
    one, other = (
        load_file(project.folder / f"data/happymaps/{name}.safetensors") for name in NETWORKS
    )

    def alike(here: str, there: str) -> float:
        """Of the maps for left, which is number 1 in both."""
        pair = one[f"{here}/dense_2"][1], other[f"{there}/dense_2"][1]
        return float(np.corrcoef([drawn.float().flatten().numpy() for drawn in pair])[0, 1])

    figure = found["pairs"]["-".join(NETWORKS)]["decision_maps"]
    assert figure["similarity"] == pytest.approx(alike("trained", "trained"), abs=1e-3)
    for kind in ("untrained", "shuffled"):
        both = (alike("trained", kind) + alike(kind, "trained")) / 2
        assert figure[kind] == pytest.approx(both, abs=1e-3)


def test_a_control_has_learned_something_else(project: Project) -> None:
    for network in NETWORKS:
        trained, control = (
            load_file(project.folder / f"data/{kind}/{network}.safetensors")
            for kind in ("models", "controls")
        )
        assert any((trained[name] != control[name]).any() for name in trained)
    # Turned, a head whose label was shuffled would get a true one.
    assert read_params(project)["networks"]["four_class"]["augment"]["turn"] > 0
    shuffled = load_network(project.folder / "data/controls/four_class.safetensors").network
    assert (shuffled.spec.augment.turn, shuffled.spec.augment.nod) == (0, 0)


def test_every_network_is_audited_and_its_decisions_explained(project: Project) -> None:
    params = yaml.safe_load((project.folder / "params.yaml").read_text())
    methods = {*params["attributions"]["methods"], "random", "edges"}
    for network in NETWORKS:
        found = read_json(project.folder / f"metrics/audit/{network}.json")
        for audit in ("faithfulness", "sanity", "focus"):
            # Where no image is answered rightly nothing can be said of faithfulness.
            assert set(found[audit]) == methods or (audit == "faithfulness" and not found[audit])
        assert found["sanity"]["edges"]["correlation"] == pytest.approx(1)
        assert not found["sanity"]["edges"]["passes"]
        for one in found["focus"].values():
            assert one["faces"]["images"] + one["faces"]["without_head"] == found["images"]
            drawn = one["cast"]["images"] + one["cast"]["without_head"]
            assert drawn == params["audit"]["images"] // 2
        share = found["position"]["share"]
        assert share is None or 0 <= share <= 1
        assert set(found["diagnosis"]) == {"drawn heads", "umo", "velu", "wyn"}
        assert set(found["diagnosis"]["umo"]) >= {"turn"}
        sheets = {file.name for file in (project.folder / "plots/explain" / network).iterdir()}
        assert sheets == {"cmu_test.png", "umo.png", "velu.png", "wyn.png"}
        sheets = {file.name for file in (project.folder / "plots/audit" / network).iterdir()}
        assert sheets == {"cast.png", "faithfulness.png", "position.png", "sanity.png"}


def test_explain_answers_as_predict_does(project: Project, tmp_path: Path) -> None:
    video = "data/raw/recordings/umo.mp4"
    frames = pd.read_csv(io.StringIO(predict(project, video).stdout))
    output = ("--output", str(tmp_path / "why"))
    done = project.python(
        "-m", "happymaps.cli", "explain", "--network", "experiment0", *output, f"{video}@2.01s"
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((tmp_path / "why.json").read_text())
    answer = frames.iloc[found["frame"]]
    assert answer["time"] <= 2.01 < frames["time"].iloc[found["frame"] + 1]
    assert found["prediction"] == answer["prediction"]
    assert found["confidence"] == pytest.approx(answer["confidence"], abs=1e-4)
    audit = read_json(project.folder / "metrics/audit/experiment0.json")
    for method, figures in found["methods"].items():
        assert ("sanity" in (figures["failed"] or "")) != audit["sanity"][method]["passes"]


def test_row_n_of_the_truth_belongs_to_image_n(project: Project) -> None:
    for name in ("cmu_faces", "recordings", "youtube_faces", "facial_expressions"):
        folder = project.folder / "data/processed" / name
        truth = pd.read_csv(folder / "truth.csv", dtype=str)
        for view in ("plain", "face"):
            images = sorted(path.name for path in (folder / view).iterdir())
            assert truth["image"].tolist() == images == [f"{n:06d}.png" for n in range(len(images))]
            packed = np.load(folder / f"{view}.npy")
            for number in range(0, len(images), 17):
                with Image.open(folder / view / images[number]) as image:
                    assert np.array_equal(np.asarray(image), packed[number])


def test_copies_of_a_photograph_are_cropped_alike(project: Project) -> None:
    index = pd.read_csv(project.folder / "data/interim/cmu_faces/index.csv")
    faces = np.load(project.folder / "data/processed/cmu_faces/face.npy").astype(float)
    photographs = index["source"].str.replace(r"(_[24])?\.pgm$", "", regex=True)
    likeness = []
    for rows in photographs.groupby(photographs).groups.values():
        finest, *_, coarsest = faces[list(rows)]
        likeness.append(np.corrcoef(finest.ravel(), coarsest.ravel())[0, 1])
    assert np.median(likeness) > 0.8
    # Of other photographs' faces it is less.
    others = [np.corrcoef(faces[i].ravel(), faces[i - 40].ravel())[0, 1] for i in range(0, 120, 3)]
    assert np.median(others) < np.median(likeness)


def test_truth_of_the_recordings_is_that_of_the_drawing(project: Project) -> None:
    truth = pd.read_csv(project.folder / "data/processed/recordings/truth.csv", dtype=str)
    for subject, frames in truth.groupby("subject"):
        drawn = pd.read_csv(project.folder / f"data/sample/truth/{subject}.csv")
        assert len(frames) == len(drawn)
        left = (frames["pose"] == "left").to_numpy()
        assert (drawn["yaw"][left] >= 20).all()
        assert (drawn["yaw"][(frames["pose"] == "right").to_numpy()] <= -20).all()
    assert set(truth["pose"].dropna()) >= {"left", "right"}


def test_truth_of_more_people_is_what_their_own_faces_say(project: Project) -> None:
    params = Params.load(project.folder / "params.yaml")
    data = project.folder / "data"
    frames, landmarks = read_landmarks(data / "raw/youtube_faces/landmarks/keypoints.csv")
    pictures, points = read_points(data / "interim/faces.csv", "facial_expressions")
    known = {
        "youtube_faces": ("source", frames, landmarks, params.landmarks),
        "facial_expressions": ("image", pictures, points, params.points),
    }
    # As they are drawn, in this order; what comes last is in doubt.
    drawn = ["straight", "straight", "left", "right", "left", "right"]
    for name, (key, names, places, rules) in known.items():
        index = pd.read_csv(data / f"interim/{name}/index.csv", dtype=str)
        truth = pd.read_csv(data / f"processed/{name}/truth.csv", dtype=str)
        assert len(truth) == len(index) == 16
        for image, pose in zip(index.to_dict("records"), truth["pose"], strict=True):
            (row,) = np.flatnonzero(names == image[key])
            (said,) = poses_of_landmarks(places[[row]], rules)
            assert said == pose or (said is None and pd.isna(pose))
            number = int(image["source"].removesuffix(".jpg")[-2:])
            assert said is None or number >= len(drawn) or said == drawn[number]
        people = index["source"].str.rsplit("_", n=1).str[0]
        assert truth["subject"].tolist() == people.tolist()
        counts = read_json(project.folder / "metrics/label.json")[name]
        assert counts["unlabelled"] == truth["pose"].isna().sum()
        for pose in drawn:
            assert counts[pose] == (truth["pose"] == pose).sum()


def test_metrics_agree_with_the_predictions(project: Project) -> None:
    table = pd.read_csv(project.folder / "data/predictions/experiment0.csv", dtype={"image": str})
    scores = read_json(project.folder / "metrics/test/experiment0.json")
    for name, rows in table.groupby("set"):
        wrong = rows[rows["actual"] != rows["predicted"]]
        assert scores[str(name)]["images"] == len(rows)
        assert scores[str(name)]["accuracy"] == pytest.approx(1 - len(wrong) / len(rows))
        assert scores[str(name)]["false_positives"] == (wrong["predicted"] == "left").sum()
    of_cmu = table["set"] == "cmu_test"
    for name, rows in (("cmu_test", table[of_cmu]), ("recordings", table[~of_cmu])):
        plots = project.folder / "plots/test/experiment0"
        confusion = pd.read_csv(plots / f"confusion_{name}.csv")
        assert confusion.to_numpy().tolist() == rows[["actual", "predicted"]].to_numpy().tolist()
        roc = pd.read_csv(plots / f"roc_{name}.csv")
        expected = roc_auc_score(rows["actual"] == "left", rows["left_score"])
        assert auc(roc["fpr"], roc["tpr"]) == pytest.approx(expected)
    people = table[~of_cmu]
    right = people["actual"] == people["predicted"]
    assert scores["recordings"]["accuracy"] == pytest.approx(right.mean())
    worst = right.groupby(people["set"]).mean().min()
    assert scores["recordings"]["worst_person"] == pytest.approx(worst)


def test_the_split_counts_what_is_on_both_sides(project: Project) -> None:
    index = pd.read_csv(project.folder / "data/interim/cmu_faces/index.csv")
    part = pd.read_csv(project.folder / "data/processed/split.csv")["part"]
    photographs = index["source"].str.replace(r"(_[24])?\.pgm$", "", regex=True)
    found = read_json(project.folder / "metrics/split.json")
    for name, groups in (("people", index["subject"]), ("photographs", photographs)):
        both = (part.groupby(groups).nunique() == 2).sum()
        assert found[f"test_{name}_seen_in_training"] == both > 0


def test_git_holds_no_picture_and_no_data(project: Project) -> None:
    tracked = project.run("git", "ls-files", "data", "plots", "metrics").stdout.splitlines()
    assert not [name for name in tracked if name.endswith((".png", ".pgm", ".mp4"))
                and not name.startswith("data/sample")
                and name != "plots/cast.png"]  # fmt: skip
    assert "plots/train/experiment0/plots/metrics/train/loss.tsv" in tracked
    assert "metrics/test/experiment0.json" in tracked
    own = ("data/sample/", "data/annotations/", "data/manifests/", "data/videos/")
    data = [name for name in tracked if name.startswith("data/") and not name.startswith(own)]
    assert {Path(name).name for name in data} == {".gitignore"}


def test_plots_show_draws_curves_confusion_roc_and_sheets(changeable: Project) -> None:
    changeable.dvc("plots", "show", "-o", "shown")
    page = (changeable.folder / "shown/index.html").read_text()
    for title in ("experiment0: accuracy", "confusion", "ROC of left", "false_positives.png"):
        assert title in page
    shutil.rmtree(changeable.folder / "shown")


def test_run_again_from_nothing_it_gives_the_same_bytes(changeable: Project) -> None:
    lock = (changeable.folder / "dvc.lock").read_bytes()
    changeable.dvc("repro", "--force")
    assert (changeable.folder / "dvc.lock").read_bytes() == lock
    assert changeable.run("git", "status", "--short").stdout == ""


def folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("stage", "output"),
    [("convert", "data/interim/cmu_faces"), ("extract", "data/interim/recordings"),
     ("crop", "data/processed/cmu_faces/plain"), ("fetch_faces", "data/raw/cmu_faces"),
     ("train experiment0", "plots/train/experiment0")],
)  # fmt: skip
def test_a_stage_killed_half_way_leaves_the_last_good_output(
    changeable: Project, stage: str, output: str
) -> None:
    before = folder_hash(changeable.folder / output)
    drafts = (changeable.folder / output).parent, f".{Path(output).name}.*.draft"
    process = subprocess.Popen(
        [sys.executable, "-m", *f"happymaps.stages.{stage}".split()],
        cwd=changeable.folder,
        env=os.environ | {"PYTHONPATH": str(changeable.folder / "src")},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while (
        not any(drafts[0].glob(f"{drafts[1]}/*/*"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "ended before it could be killed"
    assert folder_hash(changeable.folder / output) == before
    assert changeable.run("git", "status", "--short").stdout == ""
    done = changeable.python("-m", *f"happymaps.stages.{stage}".split())
    assert done.returncode == 0, done.stderr
    assert folder_hash(changeable.folder / output) == before
    assert not any(drafts[0].glob(drafts[1]))


@pytest.mark.parametrize(
    ("stage", "spoil", "message"),
    [
        ("fetch_faces", {"faces__path": "nowhere"}, "nowhere: no such file or folder"),
        ("fetch_faces", {"faces__path": "params.yaml"}, "params.yaml: not an archive"),
        ("fetch_recordings", {"recordings": [{"subject": "x", "path": "x.mp4"}]}, "x.mp4"),
        ("extract", {"recordings": [{"subject": "x", "path": "x.mp4"}]}, "no video of x"),
        ("split", {"split__method": "by_person", "split__people": ["nobody"]}, "nobody"),
        ("crop", {"crop__size": "big"}, "crop.size"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_1(
    changeable: Project, stage: str, spoil: dict[str, object], message: str
) -> None:
    changeable.set_params(**spoil)
    done = changeable.python("-m", f"happymaps.stages.{stage}")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


def test_an_annotation_with_a_wrong_row_stops_the_label_stage(changeable: Project) -> None:
    file = changeable.folder / "data/annotations/umo.csv"
    file.write_text("start,end,pose\n0,1,left\n0.5,2,up\n")
    done = changeable.python("-m", "happymaps.stages.label")
    assert done.returncode == 1
    assert "data/annotations/umo.csv, row 3 (0.5,2,up): overlaps" in done.stderr


def predict(
    project: Project, *paths: str, network: str = "experiment0"
) -> "subprocess.CompletedProcess[str]":
    return project.python("-m", "happymaps.cli", "predict", "--network", network, *paths)


@pytest.mark.parametrize("network", NETWORKS)
def test_predict_answers_as_the_pipeline_did(project: Project, network: str) -> None:
    """Raw files in, the pipeline's own predictions out: the same preprocessing, to the bit."""
    expected = pd.read_csv(project.folder / f"data/predictions/{network}.csv")
    truth = pd.read_csv(project.folder / "data/interim/recordings/index.csv")
    frames = expected[expected["set"] == "umo"].merge(truth, on="image")
    video = predict(project, "data/raw/recordings/umo.mp4", network=network)
    answers = pd.read_csv(io.StringIO(video.stdout))
    assert len(answers) == (truth["subject"] == "umo").sum()
    found = frames.merge(answers, on="frame")
    assert len(found) == len(frames) > 0
    assert (found["predicted"] == found["prediction"]).all()
    assert (found["confidence_x"] - found["confidence_y"]).abs().max() < 1e-4
    # To the bit, for `happymaps explain` asks for the frame of that time.
    assert (found["time_x"] == found["time_y"]).all()

    faces = expected[expected["set"] == "cmu_test"].merge(
        pd.read_csv(project.folder / "data/interim/cmu_faces/index.csv"), on="image"
    )
    if network == "four_class":
        # The pipeline looks for faces in the finest copies, and where none is found, in others of
        # the same person; here there is only the one given.
        raw = project.folder / "data/raw/cmu_faces"
        faces = faces[faces["scale"] == 1]
        seen = [find_face(read_grey(raw / source)) is not None for source in faces["source"]]
        faces = faces[seen]
    faces["path"] = "data/raw/cmu_faces/" + faces["source"]
    pictures = predict(project, *faces["path"], network=network)
    answers = pd.read_csv(io.StringIO(pictures.stdout))
    found = faces.merge(answers, on="path")
    assert len(found) == len(faces) > 0
    assert (found["predicted"] == found["prediction"]).all()
    assert (found["confidence_x"] - found["confidence_y"]).abs().max() < 1e-4


def test_changes_of_training_images_are_shown_for_the_network_that_has_them(
    project: Project,
) -> None:
    folder = project.folder / "plots/augmentations"
    assert [path.name for path in folder.iterdir()] == ["four_class"]
    augment = read_params(project)["networks"]["four_class"]["augment"]
    sheets = {path.stem for path in (folder / "four_class").iterdir()}
    assert sheets == {"all", *(change for change, size in augment.items() if size)}


def read_params(project: Project) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((project.folder / "params.yaml").read_text())
    return content


def test_predict_takes_folders_and_loses_nothing_to_a_bad_file(
    project: Project, tmp_path: Path
) -> None:
    shutil.copy(project.folder / "data/processed/cmu_faces/plain/000000.png", tmp_path)
    (tmp_path / "broken.mp4").write_text("no video")
    (tmp_path / "notes.txt").write_text("passed over")
    done = predict(project, str(tmp_path / "missing.png"), str(tmp_path))
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert rows[0] == ["path", "frame", "time", "prediction", "confidence"]
    assert [(Path(row[0]).name, row[1], row[2]) for row in rows[1:]] == [("000000.png", "", "")]
    assert rows[1][3] in ("left", "not left")
    assert 0 <= float(rows[1][4]) <= 1
    assert done.returncode == 1
    assert "broken.mp4" in done.stderr
    assert "missing.png" in done.stderr
    assert "notes.txt" not in done.stderr


def test_predict_names_the_networks_there_are(project: Project) -> None:
    done = project.python("-m", "happymaps.cli", "predict", "--network", "resnet", "params.yaml")
    assert done.returncode == 1
    assert "there are experiment0, four_class" in done.stderr


def test_a_demo_tells_at_the_end_what_came_out(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    _report(project.folder)
    told = capsys.readouterr().out
    for shown in ("experiment0", "four_class", "cmu_test", "umo", "velu", "wyn"):
        assert shown in told
    scores = json.loads((project.folder / "metrics/test/experiment0.json").read_text())
    everybody = scores["recordings"]
    row = next(line for line in told.split("looking left")[1].splitlines() if "experiment0" in line)
    counts = [everybody[key] for key in ("left", "false_negatives", "false_positives")]
    assert row.split()[1:] == [*map(str, counts), f"{everybody['left_balanced_accuracy']:.4f}"]
    assert f"{project.folder}/plots/compare/decision_layer.png" in told
    assert (project.folder / "plots/compare/decision_layer.png").is_file()
