"""The CIFAR-10 study as its users know it, on a few hundred drawn pictures."""

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from happymaps.params import OBJECTS
from projects import Project, unlisted, watch
from toys import ROOT, toy_objects

STUDY = "studies/cifar10"
NETWORK = "fast"
TRAIN, TEST, VALIDATION = 200, 60, 40


def draw(folder: Path) -> None:
    """What `fetch_cifar10` would leave."""
    folder.mkdir(parents=True)
    drawn = toy_objects(TRAIN + TEST)
    np.save(folder / "plain.npy", drawn.images.permute(0, 2, 3, 1).contiguous().numpy())
    truth = drawn.truth.assign(part=["train"] * TRAIN + ["test"] * TEST)
    truth.to_csv(folder / "truth.csv", index=False)
    (folder.parents[2] / "metrics").mkdir()
    (folder.parents[2] / "metrics/fetch_cifar10.json").write_text("{}")


def shrink(params: dict[str, Any]) -> dict[str, Any]:
    """The real params, made small; what only the other networks do, in the one that is left."""
    improved = params["networks"]["improved"]
    small = {"filters": [[6, 8], [12]], "dense": [16], "epochs": 5, "learning_rate": 0.02}
    ways = ("pool_dropout", "optimizer", "augment")
    network = params["networks"][NETWORK] | small | {way: improved[way] for way in ways}
    params["attributions"] |= {
        "methods": ["saliency", "grad_cam", "pixel_importance", "lime"],
        "lime": {"superpixels": 9, "samples": 20},
    }
    return params | {
        "threads": 1,
        "split": {"validation": VALIDATION},
        "train": params["train"] | {"batch_size": 16},
        "networks": {NETWORK: network | {"augment": network["augment"] | {"mirror": False}}},
        "happymaps": params["happymaps"] | {"steps": 3, "seeds": 2},
        "audit": {"images": 4, "randomised": 1, "random_networks": 12, "steps": 4, "cell": 2},
        "explain": {"examples": 2},
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run once by `dvc repro` from the project's folder."""
    project = Project(tmp_path_factory.mktemp("cifar10") / "happymaps")
    shutil.copytree(ROOT / "src", project.folder / "src")
    watch(project.folder / "src")
    folder = project.folder / STUDY
    draw(folder / "data/raw/cifar10")
    shutil.copy(ROOT / STUDY / "dvc.yaml", folder)
    params = yaml.safe_load((ROOT / STUDY / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(shrink(params), sort_keys=False))
    project.dvc("init", "--quiet", "--no-scm")
    project.dvc("commit", "--force", f"{STUDY}/dvc.yaml:fetch_cifar10")
    (folder.parent / "opened").mkdir()
    project.dvc("repro", f"{STUDY}/dvc.yaml")
    return folder


def test_what_a_stage_reads_it_depends_on(study: Path) -> None:
    assert not unlisted(study / "dvc.lock", study.parent / "opened", not_run="fetch_cifar10")


def read(study: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((study / f"metrics/{name}.json").read_text())
    return content


def test_validation_is_taken_from_training_and_every_class_alike(study: Path) -> None:
    split = pd.read_csv(study / "data/processed/split.csv")
    truth = pd.read_csv(study / "data/raw/cifar10/truth.csv")
    published = truth.merge(split, on="image", suffixes=("_published", ""))
    assert (published["part"] == "test").equals(published["part_published"] == "test")
    kept = published[published["part"] == "validation"]
    assert kept["object"].value_counts().tolist() == [VALIDATION // 10] * 10
    assert read(study, "split") == {
        "validation": VALIDATION, "train": TRAIN - VALIDATION, "test": TEST,
    }  # fmt: skip


def test_a_training_is_watched_on_the_validation_part(study: Path) -> None:
    figures = read(study, f"train/{NETWORK}")
    assert figures["images"] == TRAIN - VALIDATION
    assert set(figures) >= {"train_loss", "validation_loss", "validation_accuracy"}
    assert not any(name.startswith("test") for name in figures)
    curves = study / f"plots/train/{NETWORK}/plots/metrics"
    for part, figure in product(("train", "validation"), ("loss", "accuracy")):
        curve = pd.read_csv(curves / part / f"{figure}.tsv", sep="\t")
        assert curve["step"].tolist() == [1, 2, 3, 4, 5]
        assert curve[figure].iloc[-1] == pytest.approx(figures[f"{part}_{figure}"])
        assert curve[figure].iloc[0] != curve[figure].iloc[-1]


def test_the_figures_of_the_test_part_are_those_of_its_predictions(study: Path) -> None:
    figures = read(study, f"test/{NETWORK}")["test"]
    answers = pd.read_csv(study / f"data/predictions/{NETWORK}.csv")
    right = answers["actual"] == answers["predicted"]
    assert len(answers) == figures["images"] == TEST
    assert figures["accuracy"] == pytest.approx(right.mean())
    assert figures["accuracy"] > 0.3  # 0.1 by chance, 0.2 once in a hundred: it has learned
    assert list(figures["by_class"]) == list(OBJECTS)
    for name, recall in figures["by_class"].items():
        assert recall == pytest.approx(right[answers["actual"] == name].mean())


def test_every_way_of_looking_leaves_its_pictures(study: Path) -> None:
    plots = study / "plots"
    expected = [
        f"test/{NETWORK}/random.png",
        f"complexity/{NETWORK}.png",
        f"feature_maps/{NETWORK}/filters.png",
        f"feature_maps/{NETWORK}/test.png",
        f"explain/{NETWORK}/test.png",
        f"audit/{NETWORK}/faithfulness.png",
        f"audit/{NETWORK}/sanity.png",
        f"augmentations/{NETWORK}/all.png",
        *(f"happymaps/{NETWORK}/conv2d_{number}.png" for number in (1, 2, 3)),
        f"happymaps/{NETWORK}/dense_2.png",
        f"happymaps/{NETWORK}/dense_2_examples.png",
    ]
    for name in expected:
        with Image.open(plots / name) as picture:
            picture.load()
            assert min(picture.size) > 60, name
    # Pictures of colours are drawn in colour.
    with Image.open(plots / f"test/{NETWORK}/random.png") as sheet:
        shades = np.asarray(sheet.convert("RGB")).astype(int)
    assert np.abs(shades[..., 0] - shades[..., 2]).max() > 100


def test_the_sheet_of_wrong_answers_shows_no_right_one(study: Path) -> None:
    answers = pd.read_csv(study / f"data/predictions/{NETWORK}.csv")
    images = np.load(study / "data/raw/cifar10/plain.npy")[TRAIN:]
    right = answers["actual"] == answers["predicted"]
    with Image.open(study / f"plots/test/{NETWORK}/wrong.png") as sheet:
        pixels = sheet.convert("RGB").tobytes()
    # Enlarged: a line of the sheet has a line of the image in one piece.
    middle = images[:, 16].repeat(4, axis=1)
    shown = np.array([line.tobytes() in pixels for line in middle])
    assert not shown[right].any()
    assert shown.sum() == answers[~right]["actual"].value_counts().clip(upper=10).sum() > 0


def test_maps_are_audited_and_counted_without_a_control_of_faces(study: Path) -> None:
    layers = ["conv2d_1", "conv2d_2", "conv2d_3", "dense_1", "dense_2"]
    assert list(read(study, f"complexity/{NETWORK}")) == layers
    happymaps = read(study, f"happymaps/{NETWORK}")
    assert [happymaps[layer]["neurons"] for layer in layers] == [6, 8, 12, 16, 10]
    assert set(happymaps["advice"]["balanced_accuracy"]) == {"test"}
    audit = read(study, f"audit/{NETWORK}")
    assert set(audit) == {"images", "by_class", "sanity", "faithfulness"}
    assert sum(audit["by_class"].values()) == audit["images"]
    assert set(audit["sanity"]) == {
        "saliency", "grad_cam", "pixel_importance", "lime", "random", "edges",
    }  # fmt: skip


def test_a_user_is_answered_as_the_pipeline_answers(study: Path) -> None:
    project = Project(study)
    answers = pd.read_csv(study / f"data/predictions/{NETWORK}.csv").head(12)
    images = np.load(study / "data/raw/cifar10/plain.npy")[TRAIN:]
    for number, image in enumerate(images[: len(answers)]):
        Image.fromarray(image).save(study / f"{number:02d}.png")
    paths = [f"{number:02d}.png" for number in range(len(answers))]
    done = project.run(
        "env", f"PYTHONPATH={study.parents[1] / 'src'}", "python", "-m", "happymaps.cli",
        "predict", "--network", NETWORK, *paths,
    )  # fmt: skip
    rows = [line.split(",") for line in done.stdout.splitlines()[1:]]
    assert [row[3] for row in rows] == answers["predicted"].tolist()
    assert [float(row[4]) for row in rows] == pytest.approx(answers["confidence"], abs=1e-4)
