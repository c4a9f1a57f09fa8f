from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from pydantic import ValidationError

from happymaps.augmentation import UNCHANGED
from happymaps.errors import InputError
from happymaps.params import (
    Cifar10Params,
    NetworkParams,
    Params,
    StepParams,
    _changed,
    load_study,
)
from toys import ROOT


def write(folder: Path, change: dict[str, Any], of: Path = ROOT) -> Path:
    content = yaml.safe_load((of / "params.yaml").read_text())
    for key, value in change.items():
        section = content
        *path, last = key.split(".")
        for part in path:
            section = section[part]
        section[last] = value
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_a_network_may_not_be_called_what_dvc_reads_as_a_failure(
    tmp_path: Path, params: Params
) -> None:
    same = params.networks["experiment0"].model_dump(mode="json")
    with pytest.raises(InputError, match="networks: error is a name of the metrics' own"):
        Params.load(write(tmp_path, {"networks.error": same}))


def test_a_network_has_a_name_that_files_can_have(tmp_path: Path, params: Params) -> None:
    same = params.networks["experiment0"].model_dump(mode="json")
    with pytest.raises(InputError, match=r"networks\./mine\.\[key\]: String should match"):
        Params.load(write(tmp_path, {"networks./mine": same}))


def test_the_seven_published_networks_and_the_generalist_are_there(params: Params) -> None:
    *published, last = params.networks
    assert published == [
        "experiment0", "fewer_filters", "deeper_dense", "wider_dense", "four_class", "no_dense",
        "linear_output",
    ]  # fmt: skip
    assert last == "generalist"
    # The study knew nothing of what the generalist is given.
    for name in published:
        network = params.networks[name]
        assert network.augment == UNCHANGED
        assert (network.crop, network.schedule, network.weight_decay) == ("plain", "constant", 0)
        assert network.normalize == "none"
        assert not network.balanced


def test_subjects_are_the_recorded_people_in_their_order(tmp_path: Path) -> None:
    people = [{"subject": name, "path": f"{name}.mp4"} for name in ("zoe", "adam")]
    assert Params.load(write(tmp_path, {"recordings": people})).subjects == ["zoe", "adam"]


@pytest.mark.parametrize("study", [".", "studies/cifar10"])
@pytest.mark.parametrize("value", ["happymaps.steps=128", "attributions.lime.samples=64"])
def test_an_experiment_changes_its_own_line_alone(tmp_path: Path, study: str, value: str) -> None:
    before = (ROOT / study / "params.yaml").read_text()
    file = tmp_path / "params.yaml"
    file.write_text(before)
    apply_overrides(file, [value])
    pairs = zip(before.splitlines(), file.read_text().splitlines(), strict=True)
    ((old, new),) = [(old, new) for old, new in pairs if old != new]
    assert new.split(":")[0] == old.split(":")[0]


def test_params_hold_nothing_that_an_experiment_would_resolve_for_good() -> None:
    assert "${" not in (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("train.batch_size", 0, "train.batch_size"),
        ("train.epochs", 10, "train.epochs"),  # each network has its own
        ("networks.experiment0.epochs", 0, "networks.experiment0.epochs"),
        ("networks.experiment0.epochs", "1e1", "networks.experiment0.epochs"),
        ("networks.experiment0.crop", "stretch", "networks.experiment0.crop"),
        ("networks.experiment0.schedule", "cosine", "networks.experiment0.schedule"),
        ("networks.experiment0.weight_decay", -1, "networks.experiment0.weight_decay"),
        ("networks.generalist.augment.turn", 90, "networks.generalist.augment.turn"),
        ("networks.generalist.augment.nod", 90, "networks.generalist.augment.nod"),
        ("networks.generalist.augment.scale", 1.0, "networks.generalist.augment.scale"),
        ("networks.experiment0.momentum", 1.0, "networks.experiment0.momentum"),
        ("extract.rate", 0, "extract.rate"),
        ("happymaps.seeds", 1, "happymaps.seeds"),
        ("attributions.integrated_gradients.steps", 0, "attributions.integrated_gradients.steps"),
        ("audit.random_networks", 11, "audit.random_networks"),
        ("audit.people", 1, "audit.people"),
        ("networks.generalist.augment.colour", 1, "networks.generalist.augment.colour"),
        ("networks.experiment0.learning_rate", "1e-3x", "networks.experiment0.learning_rate"),
        ("networks.experiment0.learning_rate", float("inf"), "networks.experiment0.learning_rate"),
        ("networks.experiment0.filters", [], "networks.experiment0.filters"),
        ("networks.experiment0.filters", [16, -1], "networks.experiment0.filters.1"),
        ("networks.experiment0.head", "sigmoid", "networks.experiment0.head"),
        ("networks.linear_output.loss", "cross_entropy", "networks.linear_output"),
        ("networks.linear_output.label_smoothing", 0.1, "label_smoothing needs cross_entropy"),
        ("networks.experiment0.colour", True, "networks.experiment0.colour"),
        ("landmarks.straight", 0.5, "landmarks: Value error, straight"),
        ("landmarks.level", [0.8, 0.4], "landmarks: Value error, level"),
        ("landmarks.level", [0.5, 0.5], "landmarks: Value error, level"),
        ("points.straight", 0.9, "points: Value error, straight"),
        ("youtube_faces.manifest", None, "youtube_faces.manifest"),
        ("networks.experiment0.more_people", "some", "networks.experiment0.more_people"),
        ("split.test_share", 1.0, "split.test_share"),
        ("split.method", "by_scale", "split.method"),
        ("split.fold", 5, "split"),
        ("crop.size", 8, "crop.size"),
        ("recordings", [{"subject": "me"}], "recordings.0"),
        ("recordings", [{"subject": "me", "sha256": "0" * 64}], "needs a path or a url"),
        ("recordings", [{"subject": "me", "url": "https://a/b.mp4"}], "sha256"),
        ("recordings", [{"subject": "me", "url": "a", "sha256": "0" * 63}], "recordings.0.sha256"),
        ("recordings", [{"subject": "../me", "path": "me.mp4"}], "recordings.0.subject"),
        ("recordings", [{"subject": "-me", "path": "me.mp4"}], "recordings.0.subject"),
        ("recordings", [{"subject": "me", "path": "a"}, {"subject": "me", "path": "b"}], "once"),
        ("recordings", [{"subject": "cmu_test", "path": "a"}], "metrics' own"),
        ("recordings", [{"subject": "recordings", "path": "a"}], "metrics' own"),
        ("recordings", [{"subject": "error", "path": "a"}], "metrics' own"),
        ("recordings", [{"subject": "youtube_faces", "path": "a"}], "metrics' own"),
        ("recordings", [{"subject": "untrained", "path": "a"}], "metrics' own"),
        ("recordings", [{"subject": "filters", "path": "a"}], "metrics' own"),
        ("recordings", [{"subject": "facial_expressions", "path": "a"}], "metrics' own"),
        ("cross_validate.folds", 1, "cross_validate.folds"),
        ("cross_validate.backend", "threads", "cross_validate.backend"),
        ("leaks.runs", 1, "leaks.runs"),
        ("seed", 1 << 31, "seed"),  # libraries that are seeded with it take no more
        ("networks.experiment0.target", "object", "networks.experiment0: objects are of"),
        ("networks.experiment0.initialization", "zeros", "networks.experiment0.initialization"),
        ("networks.experiment0.batch_norm", "often", "networks.experiment0.batch_norm"),
        ("networks.experiment0.batch_size", 0, "networks.experiment0.batch_size"),
        ("networks.experiment0.test_time_augmentation", True, "needs the target pose or object"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(
    tmp_path: Path, key: str, value: object, named: str
) -> None:
    file = write(tmp_path, {key: value})
    with pytest.raises(InputError) as caught:
        Params.load(file)
    assert str(file) in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"more_people": True}, "more_people and the face crop need a target in faces"),
        ({"crop": "face"}, "more_people and the face crop need a target in faces"),
        ({"augment.turn": 30}, "turn, nod and background need a target in faces"),
        ({"augment.nod": 10}, "turn, nod and background need a target in faces"),
        ({"augment.background": 0.4}, "turn, nod and background need a target in faces"),
        ({"optimizer": "nesterov", "momentum": 0}, "nesterov needs momentum"),
        ({"filters": [[8, 8]], "pool_dropout": 0.1, "last_pool": False}, "needs a max-pool"),
    ],
)
def test_what_is_of_no_use_to_networks_of_objects_is_refused(
    objects: Cifar10Params, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        _changed(objects.networks["basic"], changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"pool_dropout": 0.1, "last_pool": False},  # behind the pools between its blocks
        {"optimizer": "sgd", "momentum": 0.0},
    ],
)
def test_what_is_of_use_is_not_refused(params: Params, changes: dict[str, object]) -> None:
    changed = _changed(params.networks["experiment0"], changes)
    assert changed.model_dump(include=set(changes)) == changes


def test_a_network_of_faces_knows_them_first_and_whole_pictures_as_well(params: Params) -> None:
    assert params.networks["generalist"].views == ("face", "plain")
    assert params.networks["experiment0"].views == ("plain",)


def test_every_set_is_cropped_by_a_method_of_its_own(params: Params) -> None:
    methods = {
        "cmu_faces": "square",
        "recordings": "stretch",
        "youtube_faces": "face",
        "facial_expressions": "square",
    }
    assert params.crop.model_copy(update=methods).methods == methods


@pytest.mark.parametrize("name", ["cmu_faces", "frames", "similarity", "shuffled", "above_control"])
def test_nobody_is_called_like_a_set_or_a_figure(params: Params, name: str) -> None:
    content = params.model_dump() | {"recordings": [{"subject": name, "path": "a.mp4"}]}
    with pytest.raises(ValidationError, match=f"recordings: {name} is a name of the metrics' own"):
        Params.model_validate(content)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("networks.basic.target", "pose", r"networks\.basic: the target should be object"),
        ("crop.size", 48, r"crop\.size: should be 32"),
    ],
)
def test_what_is_of_no_use_to_the_study_of_objects_is_refused(
    tmp_path: Path, key: str, value: object, reason: str
) -> None:
    file = write(tmp_path, {key: value}, of=ROOT / "studies/cifar10")
    with pytest.raises(InputError, match=reason):
        Cifar10Params.load(file)


@pytest.mark.parametrize(
    "content", ["", "- 1\n", "seed: [", "seed: 0\n", "seed: 2024-13-45\n", "seed: !!int x\n"]
)
def test_a_file_that_is_no_params_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=r"params\.yaml"):
        Params.load(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Params.load(tmp_path / "params.yaml")


def test_an_unknown_network_lists_those_there_are(params: Params) -> None:
    with pytest.raises(InputError, match="there are experiment0, fewer_filters"):
        params.network("resnet")


# --- step by step


def test_from_the_last_step_to_the_generalist_time_and_looks_are_missing(
    params: Params,
) -> None:
    found = params.step_by_step()
    assert list(found) == ["experiment0", *(step.name for step in params.steps)]
    assert found["experiment0"] == params.networks["experiment0"]
    generalist = params.networks["generalist"]
    last = list(found.values())[-1]
    more = {"epochs": generalist.epochs, "test_time_augmentation": True}
    assert last.model_copy(update=more) == generalist
    # A step's figures stand beside those of the networks.
    assert not {step.name for step in params.steps} & set(params.networks)


@pytest.mark.parametrize("names", [["one", "one"], ["four_class"]])
def test_a_step_has_a_name_of_its_own(names: list[str]) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["steps"] = [{"name": name, "changes": {"epochs": 3}} for name in names]
    with pytest.raises(ValidationError, match=f"steps: {names[-1]} is already"):
        Params.model_validate(content)


def with_steps(params: Params, *changes: dict[str, object]) -> Params:
    steps = [StepParams(name=f"step{n}", changes=each) for n, each in enumerate(changes)]
    return params.model_copy(update={"steps": steps})


def test_every_step_stands_on_those_before(params: Params) -> None:
    found = with_steps(params, {"target": "pose"}, {"augment.turn": 30, "epochs": 3}).step_by_step()
    first = params.networks["experiment0"]
    second = first.model_copy(update={"target": "pose"})
    augment = first.augment.model_copy(update={"turn": 30.0})
    third = second.model_copy(update={"augment": augment, "epochs": 3})
    assert found == {"experiment0": first, "step0": second, "step1": third}
    # Nothing of it is left in the network that it began with.
    assert params.step_by_step()["experiment0"] == first


def test_a_folder_tells_which_study_it_is(tmp_path: Path, objects: Cifar10Params) -> None:
    assert load_study(ROOT / "params.yaml") == Params.load(ROOT / "params.yaml")
    assert load_study(ROOT / "studies/cifar10/params.yaml") == objects
    for content in ("", "[1, 2]", "3"):
        (tmp_path / "params.yaml").write_text(content)
        with pytest.raises(InputError, match="top level: should be a mapping"):
            load_study(tmp_path / "params.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_study(tmp_path / "none.yaml")


@pytest.mark.parametrize("filters", [[], [[]], [[4, 0]], [4, [3, -1]], ["a"]])
def test_blocks_have_filters(params: Params, filters: list[object]) -> None:
    content = params.networks["experiment0"].model_dump() | {"filters": filters}
    with pytest.raises(ValidationError, match="filters"):
        NetworkParams.model_validate(content)


def test_a_number_is_a_block_of_one(params: Params) -> None:
    content = params.networks["experiment0"].model_dump() | {"filters": [4, [5, 6], 7]}
    assert NetworkParams.model_validate(content).blocks == [[4], [5, 6], [7]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"epoch": 3}, "steps.step1: no such param 'epoch'"),
        ({"augment.turns": 3}, "steps.step1: no such param 'augment.turns'"),
        ({"augmented.turn": 3}, "steps.step1: no such param 'augmented'"),
        ({"target.pose": 3}, "steps.step1: no such param 'target.pose'"),
        ({"augment.turn.left": 3}, "steps.step1: no such param 'augment.turn.left'"),
        ({"augment.turn.left.more": 3}, "steps.step1: no such param"),
        ({"target": "object"}, "steps.step1: objects are of studies/cifar10"),
        ({"epochs": 0}, "steps.step1: epochs: Input should be greater than 0"),
        ({"head": "linear"}, "steps.step1: .*cross_entropy needs the softmax head"),
    ],
)
def test_a_step_that_is_none_is_named(
    params: Params, change: dict[str, object], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        with_steps(params, {"epochs": 3}, change).step_by_step()
