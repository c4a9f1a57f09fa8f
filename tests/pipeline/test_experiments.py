"""What an experiment runs, and what is shown of it afterwards: real DVC, in a repository."""

import json
import shutil

from projects import Project, each, read_json, stages_that_ran


def test_a_change_of_how_decisions_are_explained_redraws_them_alone(changeable: Project) -> None:
    done = changeable.dvc("exp", "run", "-n", "fine", "-S", "attributions.lime.superpixels=4")
    assert stages_that_ran(done) == each("audit", "explain")


def test_how_much_is_drawn_is_no_matter_of_training(changeable: Project) -> None:
    changes = ("-S", "happymaps.steps=5", "-S", "explain.examples=2")
    done = changeable.dvc("exp", "run", "-n", "steps", *changes)
    assert stages_that_ran(done) == {"compare", *each("happymaps", "explain")}
    diff = json.loads(changeable.dvc("metrics", "diff", "HEAD", "steps", "--json"))
    assert "dense_1.activation_ratio" in diff["metrics/happymaps/experiment0.json"]


def test_an_experiment_retrains_that_network_alone_and_the_diff_shows_it(
    changeable: Project,
) -> None:
    change = "networks.experiment0.filters=[2,3,3]"
    done = changeable.dvc("exp", "run", "-n", "half", "-S", change)
    assert stages_that_ran(done) == {
        "augmentations",
        "compare",
        *(
            f"{stage}@experiment0"
            for stage in (
                "train",
                "control",
                "test",
                "happymaps",
                "feature_maps",
                "audit",
                "explain",
            )
        ),
    }
    diff = json.loads(changeable.dvc("metrics", "diff", "HEAD", "half", "--json"))
    parameters = diff["metrics/train/experiment0.json"]["parameters"]
    assert parameters["new"] < parameters["old"]
    assert "metrics/train/four_class.json" not in diff
    shown = json.loads(changeable.dvc("exp", "show", "--json"))
    assert "half" in json.dumps(shown)
    sheets = changeable.dvc("plots", "diff", "HEAD", "half", "-o", "compared")
    assert "index.html" in sheets
    pictures = [file.name for file in (changeable.folder / "compared/static").iterdir()]
    for sheet in ("false_negatives", "dense_2", "filters", "decision_layer"):
        assert any("half" in name and sheet in name for name in pictures), sheet
    shutil.rmtree(changeable.folder / "compared")


def test_an_experiment_in_a_folder_of_its_own_runs_that_folders_code(changeable: Project) -> None:
    """`--temp` copies the project: its stages must not run the code of the place it came from."""
    code = changeable.folder / "src/happymaps/stages/split.py"
    code.write_text(code.read_text().replace('"train": int', '"learnt_from": int'))
    changeable.dvc("exp", "run", "--temp", "-n", "edited", "split")
    diff = json.loads(changeable.dvc("metrics", "diff", "HEAD", "edited", "--json"))
    assert "learnt_from" in diff["metrics/split.json"]
    assert "train" in read_json(changeable.folder / "metrics/split.json")
