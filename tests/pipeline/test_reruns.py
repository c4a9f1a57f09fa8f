"""What runs again after a change, and what does not: real DVC, in a repository."""

import json

import pytest

from projects import Project, each, read_json, stages_that_ran

UP_TO_DATE = "Data and pipelines are up to date."


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert UP_TO_DATE in project.dvc("repro")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"test__examples": 3}, each("test")),
        ({"happymaps__steps": 4}, each("happymaps")),
        (
            {"networks__four_class__dropout": 0.4},
            {"train@four_class", "augmentations", "compare"},
        ),
        ({"split__test_share": 0.2}, {"split"}),
        ({"extract__rate": 2.0}, {"extract"}),
        ({"crop__recordings": "stretch"}, {"crop", "heads", "cast"}),
        (
            {"networks__experiment0__epochs": 3},
            {"train@experiment0", "augmentations", "compare"},
        ),
        (
            {"networks__four_class__augment__shift": 0.3},
            {"train@four_class", "augmentations", "compare"},
        ),
        ({"leaks__runs": 3, "cross_validate__folds": 3}, set()),
    ],
)
def test_a_param_reruns_what_depends_on_it_and_nothing_else(
    project: Project, change: dict[str, object], expected: set[str]
) -> None:
    """What comes after is decided when it is known whether the stage's outputs have changed."""
    project.set_params(**change)
    status = json.loads(project.dvc("status", "--json"))
    changed = {
        stage
        for stage, reasons in status.items()
        if any("params.yaml" in reason.get("changed deps", {}) for reason in reasons)
    }
    assert changed == expected


def test_how_recordings_are_cropped_is_no_matter_of_training(project: Project) -> None:
    project.set_params(crop__recordings="stretch")
    ran = stages_that_ran(project.dvc("repro"))
    again = each("test", "happymaps", "feature_maps", "audit", "explain")
    # Heads are looked for in frames; the cast is drawn again, and comes out the same.
    assert ran == {"crop", "heads", "cast", "compare", *again}


def test_a_person_whom_nobody_has_labelled_is_counted_and_left_out(project: Project) -> None:
    (project.folder / "data/annotations/umo.csv").write_text("start,end,pose\n")
    project.dvc("repro", "test@four_class", "audit@four_class")
    assert read_json(project.folder / "metrics/label.json")["umo"]["unlabelled"] > 0
    assert read_json(project.folder / "metrics/audit/four_class.json")["diagnosis"]["umo"] == {}
    assert read_json(project.folder / "metrics/test/four_class.json")["umo"] == {"images": 0}
