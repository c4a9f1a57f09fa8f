"""How fast, in what order and from what changed images a network learns."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from happymaps import answering, augmentation, datasets, devices, networks, whitening
from happymaps.answering import logits_of
from happymaps.augmentation import UNCHANGED, Augmenter
from happymaps.datasets import labels_of
from happymaps.errors import InputError
from happymaps.images import boxes
from happymaps.images.boxes import Box
from happymaps.networks import build_network
from happymaps.params import POSES, AugmentParams, NetworkParams, Params, TrainParams
from happymaps.training import _balanced_order, _fingerprint, _rate, _split
from toys import ROOT, same_weights, toy_faces, train

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 96
HEADS = [Box(4, 4, 28, 28) if number % 3 else None for number in range(COUNT)]
OTHER_HEADS = [Box(4, 4, 28, 27) if number % 3 else None for number in range(COUNT)]


@pytest.fixture
def augmented(spec: NetworkParams, params: Params) -> NetworkParams:
    """The generalist's training, made short: changed images, one cycle, balanced classes."""
    generalist = params.networks["generalist"]
    fields = (
        "normalize", "batch_norm", "schedule", "weight_decay", "balanced", "augment", "target",
    )  # fmt: skip
    changes = {field: getattr(generalist, field) for field in fields}
    return spec.model_copy(update=changes | {"epochs": 4})


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The labels that are learned from, step by step."""
    found: list[int] = []
    real = nn.functional.cross_entropy

    def watched(logits: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
        if logits.requires_grad:
            found.extend(labels.tolist())
        return real(logits, labels, label_smoothing=label_smoothing)

    monkeypatch.setattr(nn.functional, "cross_entropy", watched)
    return found


def test_a_constant_rate_stays(spec: NetworkParams) -> None:
    constant = spec.model_copy(update={"schedule": "constant", "learning_rate": 0.03})
    assert {_rate(constant, progress) for progress in (0, 0.15, 0.5, 1)} == {0.03}


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        (0, 0.04),
        (0.075, 0.52),
        (0.15, 1),
        # From there half a cosine: a quarter, a third, a half and all of the way.
        (0.3625, (1 + 0.5**0.5) / 2),
        (0.15 + 0.85 / 3, 0.75),
        (0.575, 0.5),
        (1, 0),
    ],
)
def test_one_cycle_by_hand(spec: NetworkParams, progress: float, share: float) -> None:
    cycle = spec.model_copy(update={"schedule": "one_cycle", "learning_rate": 0.02})
    assert _rate(cycle, progress) == pytest.approx(0.02 * share, abs=1e-9)


def test_one_cycle_rises_once_and_falls_once_without_a_step(spec: NetworkParams) -> None:
    cycle = spec.model_copy(update={"schedule": "one_cycle", "learning_rate": 1.0})
    rates = np.array([_rate(cycle, progress) for progress in np.linspace(0, 1, 1001)])
    assert rates.argmax() == 150
    assert (np.diff(rates[:151]) > 0).all()
    assert (np.diff(rates[150:]) < 0).all()
    assert np.abs(np.diff(rates)).max() < 0.01


@pytest.mark.parametrize(("batch_norm", "expected"), [(True, [32, 32]), (False, [32, 32, 1])])
def test_an_image_left_over_is_no_batch_for_a_batch_norm(
    spec: NetworkParams, batch_norm: bool, expected: list[int]
) -> None:
    wanted = spec.model_copy(update={"batch_norm": batch_norm})
    assert [len(part) for part in _split(torch.arange(65), 32, wanted)] == expected
    assert [len(part) for part in _split(torch.arange(66), 32, wanted)] == [32, 32, 2]
    train(wanted, train_part=toy_faces(65), batch_size=32)


def test_what_is_trained_with_batch_norms_is_saved_without(spec: NetworkParams) -> None:
    network, history = train(spec.model_copy(update={"batch_norm": True, "epochs": 8}))
    assert not any(
        isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in network.modules()
    )
    test = toy_faces(16, seed=1)
    right = logits_of(network, test.images).argmax(dim=1) == test.labels(network.spec)
    # Epochs are tested before the norms are folded, with the statistics of training.
    assert right.double().mean().item() == history[-1].watched_accuracy > 0.9


@pytest.mark.parametrize("batch_size", [16, 20])
def test_every_step_of_a_training_has_its_rate(
    spec: NetworkParams, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 96 images in 3 epochs; 20 do not divide them.
    rates = []
    real = torch.optim.SGD.step

    def watched(optimizer: torch.optim.SGD) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        real(optimizer)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    cycle = spec.model_copy(update={"schedule": "one_cycle", "epochs": 3})
    train(cycle, batch_size=batch_size)
    seen = [epoch * COUNT + start for epoch in range(3) for start in range(0, COUNT, batch_size)]
    expected = [_rate(cycle, images / (3 * COUNT)) for images in seen]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_a_cycle_trains_too(spec: NetworkParams, schedule: str) -> None:
    changes = {"schedule": schedule, "epochs": 15, "learning_rate": 0.05, "dropout": 0.1}
    _, history = train(spec.model_copy(update=changes))
    assert history[-1].watched_accuracy > 0.9
    assert history[-1].train_loss < history[0].train_loss


def labels_like(*counts: int) -> Tensor:
    """Shuffled labels of classes that are as frequent as this."""
    labels = torch.cat([torch.full((count,), kind) for kind, count in enumerate(counts)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("counts", [(90, 6), (60, 20, 10, 6), (24, 24, 24, 24), (1, 95)])
def test_every_class_is_shown_equally_often(counts: tuple[int, ...]) -> None:
    labels = labels_like(*counts)
    order = _balanced_order(labels)
    assert order.shape == (96,)
    assert 0 <= order.min() <= order.max() < 96
    assert labels[order].bincount().tolist() == [96 // len(counts)] * len(counts)


def test_of_a_class_everybody_is_shown_before_anybody_comes_again() -> None:
    labels = labels_like(90, 6)
    times = _balanced_order(labels).bincount(minlength=96)
    # 48 of each: of 90 nobody twice, and each of 6 eight times.
    assert sorted(times[labels == 0].tolist()) == [0] * 42 + [1] * 48
    assert times[labels == 1].tolist() == [8] * 6
    # 7 do not divide 48, and so some come once more than others.
    labels = labels_like(89, 7)
    assert set(_balanced_order(labels).bincount(minlength=96)[labels == 1].tolist()) == {6, 7}


def test_classes_that_do_not_divide_the_images_differ_by_a_few() -> None:
    labels = labels_like(70, 20, 10)
    times = labels[_balanced_order(labels)].bincount()
    assert times.sum() == 100
    assert times.min() >= 32
    assert times.max() <= 34


def test_a_class_that_nobody_has_is_no_class() -> None:
    labels = labels_like(30, 0, 10)
    assert labels[_balanced_order(labels)].bincount().tolist() == [20, 0, 20]


def test_a_balanced_order_is_shuffled_and_follows_torchs_seed() -> None:
    labels = labels_like(90, 6)
    orders = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        orders.append(_balanced_order(labels))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    # Not one class after the other: of the first half about a half is of each.
    assert labels[orders[0]][:48].bincount(minlength=2).min() > 12


@pytest.mark.parametrize("balanced", [False, True])
def test_a_balanced_training_shows_the_rare_class_as_often(
    spec: NetworkParams, balanced: bool, learned: list[int]
) -> None:
    train(spec.model_copy(update={"balanced": balanced, "epochs": 2}))
    left = int(toy_faces(COUNT).labels(spec).sum())
    assert len(learned) == 2 * COUNT
    assert left < COUNT / 3
    assert sum(learned) == (COUNT if balanced else 2 * left)


def test_one_step_of_weight_decay_by_hand(spec: NetworkParams) -> None:
    # All images in one batch and no dropout: the gradients of both trainings are the same.
    once = {"epochs": 1, "dropout": 0, "learning_rate": 0.1}
    before = build_network(spec, 32, seed=0).state_dict()
    free, decayed = (
        train(
            spec.model_copy(update=once | {"weight_decay": decay}), batch_size=COUNT
        )[0].state_dict()
        for decay in (0.0, 0.2)
    )  # fmt: skip
    for name, weight in before.items():
        torch.testing.assert_close(free[name] - decayed[name], 0.1 * 0.2 * weight)


def test_weight_decay_keeps_weights_small(spec: NetworkParams) -> None:
    sizes = []
    for decay in (0.0, 0.1):
        network, _ = train(spec.model_copy(update={"weight_decay": decay, "epochs": 4}))
        sizes.append(sum(weight.square().sum().item() for weight in network.parameters()))
    assert sizes[1] < 0.95 * sizes[0]


@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_training_of_changed_images_ends_with_the_same_bytes(
    tmp_path: Path, augmented: NetworkParams, stop_after: int
) -> None:
    checkpoint = tmp_path / "a.safetensors"
    whole, history = train(augmented, heads=HEADS)
    with pytest.raises(KeyboardInterrupt):
        train(augmented, heads=HEADS, checkpoint=checkpoint, stop_after=stop_after)
    assert checkpoint.is_file()
    resumed, replayed = train(augmented, heads=HEADS, checkpoint=checkpoint)
    assert same_weights(whole, resumed)
    assert replayed == history


def test_a_resumed_training_of_changed_images_does_not_begin_again(
    tmp_path: Path, augmented: NetworkParams
) -> None:
    checkpoint = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(augmented, heads=HEADS, checkpoint=checkpoint, stop_after=3)
    weight = load_file(checkpoint)["dense_1.weight"]
    untrained = build_network(augmented, 32, seed=0)
    assert not torch.equal(weight, untrained.state_dict()["dense_1.weight"])
    with pytest.raises(KeyboardInterrupt):
        # The log hears of the remembered epochs first: nothing has been trained yet.
        train(augmented, heads=HEADS, checkpoint=checkpoint, stop_after=1)
    assert torch.equal(load_file(checkpoint)["dense_1.weight"], weight)


def test_a_killed_training_of_changed_images_ends_with_the_same_bytes(
    tmp_path: Path, augmented: NetworkParams
) -> None:
    checkpoint = tmp_path / "a.safetensors"
    long = augmented.model_copy(update={"epochs": 60})
    code = (
        "import sys, test_training_schedules as t; from pathlib import Path\n"
        "spec = t.NetworkParams.model_validate_json(sys.argv[1])\n"
        "t.train(spec, heads=t.HEADS, checkpoint=Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", code, long.model_dump_json(), str(checkpoint)]
    process = subprocess.Popen(command, cwd=ROOT / "tests", stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9, "ended before it could be killed"
    with safe_open(checkpoint, framework="pt") as file:
        remembered = len(json.loads(file.metadata()["happymaps"])["history"])
    assert 0 < remembered < 60
    resumed, history = train(long, heads=HEADS, checkpoint=checkpoint)
    whole, whole_history = train(long, heads=HEADS)
    assert same_weights(resumed, whole)
    assert history == whole_history


@pytest.mark.parametrize("other", [OTHER_HEADS, [None] * COUNT, None])
def test_a_checkpoint_with_other_heads_is_not_taken_up(
    tmp_path: Path, augmented: NetworkParams, other: list[Box | None] | None
) -> None:
    checkpoint = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(augmented, heads=HEADS, checkpoint=checkpoint, stop_after=3)
    network, history = train(augmented, heads=other, checkpoint=checkpoint)
    fresh, fresh_history = train(augmented, heads=other)
    assert same_weights(network, fresh)
    assert history == fresh_history


@pytest.mark.parametrize(
    "changes",
    [{"schedule": "constant"}, {"weight_decay": 0.01}, {"balanced": False},
     {"augment": UNCHANGED}, {"normalize": "none"}],
)  # fmt: skip
def test_nor_is_that_of_another_training(
    tmp_path: Path, augmented: NetworkParams, changes: dict[str, object]
) -> None:
    checkpoint = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(augmented, heads=HEADS, checkpoint=checkpoint, stop_after=3)
    other = augmented.model_copy(update=changes)
    network, history = train(other, heads=HEADS, checkpoint=checkpoint)
    fresh, fresh_history = train(other, heads=HEADS)
    assert same_weights(network, fresh)
    assert history == fresh_history


@pytest.mark.parametrize(
    "module", [answering, augmentation, boxes, datasets, devices, networks, whitening]
)
def test_every_module_that_trains_is_known_to_a_checkpoint(
    spec: NetworkParams, module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, params = toy_faces(8), TrainParams(batch_size=4, precision="float32")
    network = build_network(spec, 32, seed=0)
    before = _fingerprint(network, faces, faces, None, params, 0)
    assert _fingerprint(network, faces, faces, None, params, 0) == before
    (tmp_path / "edited.py").write_text("# other code")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "edited.py"))
    assert _fingerprint(network, faces, faces, None, params, 0) != before


def test_nor_is_that_of_another_way_to_change_images(
    tmp_path: Path, augmented: NetworkParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(augmented, heads=HEADS, checkpoint=checkpoint, stop_after=3)
    (tmp_path / "edited.py").write_text("# other changes")
    monkeypatch.setattr(augmentation, "__file__", str(tmp_path / "edited.py"))
    # What the edit changed.
    monkeypatch.setattr(augmentation, "_TURNED", 0.7)
    network, history = train(augmented, heads=HEADS, checkpoint=checkpoint)
    fresh, fresh_history = train(augmented, heads=HEADS)
    assert same_weights(network, fresh)
    assert history == fresh_history


def test_changed_images_follow_the_seed(augmented: NetworkParams) -> None:
    (first, one), (again, same), (other, _) = (
        train(augmented, heads=HEADS, seed=seed) for seed in (0, 0, 1)
    )
    assert same_weights(first, again)
    assert one == same
    assert not same_weights(first, other)


class Drawn(NamedTuple):
    """The images of a step: their numbers, and how and with what poses they are shown."""

    rows: Tensor
    images: Tensor
    poses: Tensor


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Drawn]:
    """What is learned from in each step that is trained."""
    found: list[Drawn] = []
    real = Augmenter.__call__

    def watched(
        augmenter: Augmenter, rows: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        images, poses = real(augmenter, rows, rng)
        found.append(Drawn(rows, images, poses))
        return images, poses

    monkeypatch.setattr(Augmenter, "__call__", watched)
    return found


def test_no_epoch_and_no_seed_shows_the_changes_of_another(
    spec: NetworkParams, drawn: list[Drawn]
) -> None:
    # One image many times, so that its order among others plays no part.
    faces = toy_faces(1)
    same = faces.take(np.zeros(COUNT, np.intp))
    changes = AugmentParams.model_validate(UNCHANGED.model_dump() | {"rotation": 180})
    for seed in (0, 1):
        train(spec.model_copy(update={"augment": changes, "epochs": 2}), train_part=same, seed=seed)
    steps = COUNT // 16
    epochs = [
        {image.numpy().tobytes() for step in drawn[start : start + steps] for image in step.images}
        for start in range(0, len(drawn), steps)
    ]
    assert len(epochs) == 4
    assert all(len(shown) == COUNT for shown in epochs)
    assert len(set.union(*epochs)) == 4 * COUNT


def test_the_pose_that_is_learned_is_that_of_the_changed_image(
    spec: NetworkParams, drawn: list[Drawn], learned: list[int]
) -> None:
    changes = AugmentParams.model_validate(UNCHANGED.model_dump() | {"turn": 40})
    train(spec.model_copy(update={"augment": changes, "epochs": 4}), heads=HEADS)
    poses = torch.cat([step.poses for step in drawn])
    assert learned == labels_of(spec, poses).tolist()
    # Which is not that of the image itself, where a head is known.
    rows = torch.cat([step.rows for step in drawn])
    turned = rows[poses != toy_faces(COUNT).kinds()[rows]].tolist()
    assert len(turned) > 4
    assert all(HEADS[row] is not None for row in turned)


def test_another_seed_has_other_backgrounds(spec: NetworkParams, drawn: list[Drawn]) -> None:
    one_image = toy_faces(1).take(np.zeros(COUNT, np.intp))
    changes = AugmentParams.model_validate(UNCHANGED.model_dump() | {"background": 1})
    heads: list[Box | None] = [Box(4, 4, 28, 28)] * COUNT
    shown = []
    for seed in (0, 1):
        drawn.clear()
        network = spec.model_copy(update={"augment": changes, "epochs": 1})
        train(network, train_part=one_image, heads=heads, seed=seed)
        shown.append({image.numpy().tobytes() for step in drawn for image in step.images})
    # Of 256 backgrounds some come again, but hardly one of another seed.
    assert COUNT / 2 < len(shown[0]) < COUNT
    assert len(shown[0] & shown[1]) < COUNT / 12


def test_a_network_learns_left_from_mirrored_faces_that_look_right(spec: NetworkParams) -> None:
    # Nobody in the training looks left; toys that look right have their spot in a corner of its
    # own, and its mirror image is that of `up`.
    faces = toy_faces(2 * COUNT)
    right = faces.subset(faces.truth["pose"].isin(["right", "straight"]))
    changes = {"target": "pose", "epochs": 15, "learning_rate": 0.05, "dropout": 0.1}
    mirror = AugmentParams.model_validate(UNCHANGED.model_dump() | {"mirror": True})
    network, _ = train(spec.model_copy(update=changes | {"augment": mirror}), train_part=right)
    asked = right.subset(right.truth["pose"] == "right")
    with torch.inference_mode():
        answers = network(asked.images.flip(-1) / 255).argmax(dim=1)
    assert (answers == POSES.index("left")).double().mean() > 0.9


def test_no_epoch_has_the_order_of_another(spec: NetworkParams, learned: list[int]) -> None:
    train(spec.model_copy(update={"epochs": 2}))
    first, second = learned[:COUNT], learned[COUNT:]
    assert sorted(first) == sorted(second)
    assert first != second


@pytest.mark.parametrize(("images", "batch_size"), [(1, 16), (16, 1)])
def test_of_single_images_there_is_no_batch_norm(
    spec: NetworkParams, images: int, batch_size: int
) -> None:
    wanted = spec.model_copy(update={"batch_norm": True})
    with pytest.raises(InputError, match="at least two images"):
        train(wanted, train_part=toy_faces(images), batch_size=batch_size)


def test_who_of_a_frequent_class_is_left_out_is_up_to_chance() -> None:
    labels = labels_like(90, 6)
    shown = [set(_balanced_order(labels).tolist()) for _ in range(2)]
    assert shown[0] != shown[1]
