"""What runs again after a change, and what does not: real DVC, in a repository."""

import json
import shutil

import yaml

from projects import NETWORKS, Project, each, read_json, stages_that_ran

UP_TO_DATE = "Data and pipelines are up to date."


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert UP_TO_DATE in project.dvc("repro")


def test_a_param_reruns_what_depends_on_it_and_nothing_else(changeable: Project) -> None:
    """What comes after is decided when it is known whether the stage's outputs have changed."""
    changeable.set_params(
        test__examples=3,
        happymaps__steps=4,
        networks__four_class__dropout=0.4,
        networks__four_class__augment__shift=0.3,
        networks__experiment0__epochs=3,
        split__test_share=0.2,
        extract__rate=2.0,
        crop__recordings="stretch",
        leaks__runs=3,  # these two of another pipeline
        cross_validate__folds=3,
    )
    found: dict[str, set[str]] = {}
    for stage, reasons in json.loads(changeable.dvc("status", "--json")).items():
        for reason in reasons:
            for param in reason.get("changed deps", {}).get("params.yaml", {}):
                found.setdefault(param, set()).add(stage)
    assert found == {
        "test.examples": each("test"),
        "happymaps.steps": each("happymaps"),
        "networks.four_class.dropout": {"train@four_class"},
        "networks.four_class.augment.shift": {"train@four_class"},
        "networks.experiment0.epochs": {"train@experiment0"},
        "networks": {"augmentations", "compare"},
        "split.test_share": {"split"},
        "extract.rate": {"extract"},
        "crop.recordings": {"crop", "heads"},
    }


def test_a_recording_that_is_added_and_how_all_are_cropped_is_no_matter_of_training(
    changeable: Project,
) -> None:
    data = changeable.folder / "data"
    shutil.copy(data / "raw/recordings/umo.mp4", data / "videos/me.mp4")
    shutil.copy(data / "annotations/umo.csv", data / "annotations/me.csv")
    known = yaml.safe_load((changeable.folder / "params.yaml").read_text())["recordings"]
    mine = {"subject": "me", "path": "data/videos/me.mp4"}
    changeable.set_params(recordings=[*known, mine], crop__recordings="stretch")
    ran = stages_that_ran(changeable.dvc("repro"))
    prepared = {"fetch_recordings", "extract", "find_faces", "crop", "label", "heads"}
    asked = each("test", "happymaps", "feature_maps", "audit", "explain")
    assert ran == {*prepared, *asked, "compare"}
    for network in NETWORKS:
        figures = read_json(changeable.folder / f"metrics/test/{network}.json")
        assert figures["me"] == figures["umo"]
        assert figures["recordings"]["images"] == sum(
            figures[one]["images"] for one in ("umo", "velu", "wyn", "me")
        )


def test_a_person_whom_nobody_has_labelled_is_counted_and_left_out(changeable: Project) -> None:
    (changeable.folder / "data/annotations/umo.csv").write_text("start,end,pose\n")
    changeable.dvc("repro", "test@four_class", "audit@four_class")
    assert read_json(changeable.folder / "metrics/label.json")["umo"]["unlabelled"] > 0
    assert read_json(changeable.folder / "metrics/audit/four_class.json")["diagnosis"]["umo"] == {}
    assert read_json(changeable.folder / "metrics/test/four_class.json")["umo"] == {"images": 0}
