from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from tqdm import tqdm

from happymaps import devices, training
from happymaps.answering import logits_of
from happymaps.datasets import to_input
from happymaps.errors import InputError
from happymaps.networks import add_batch_norm, batch_norms, build_network, loss_of
from happymaps.params import NetworkParams
from happymaps.training import Epoch, _optimizer, _train_epoch, named_figures
from toys import same_weights, toy_faces, toy_objects, train


@pytest.fixture
def spec(spec: NetworkParams) -> NetworkParams:
    return spec.model_copy(update={"epochs": 4})


@pytest.mark.parametrize("target", ["left", "pose"])
@pytest.mark.parametrize(
    ("head", "loss"),
    [("softmax", "cross_entropy"), ("softmax", "mean_squared_error"),
     ("linear", "mean_squared_error")],
)  # fmt: skip
def test_every_head_and_loss_learns_the_toy(
    spec: NetworkParams, target: str, head: str, loss: str
) -> None:
    chosen = {"target": target, "head": head, "loss": loss, "dropout": 0.1, "learning_rate": 0.05}
    _, history = train(spec.model_copy(update=chosen | {"epochs": 15}))
    assert history[-1].watched_accuracy > 0.95
    assert history[-1].train_loss < history[0].train_loss


def test_one_step_of_adam_by_hand(spec: NetworkParams) -> None:
    """The first step is as long as the rate, whatever the gradient, in its direction."""
    changes = {"optimizer": "adam", "learning_rate": 0.01, "epochs": 1, "dropout": 0.0}
    spec = spec.model_copy(update=changes)
    before = build_network(spec, 32, seed=0)
    faces = toy_faces(16)
    loss = loss_of(spec, before.logits(to_input(faces.images)), faces.labels(spec))
    loss.backward()
    after, _ = train(spec, train_part=faces, batch_size=16)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        clear = old.grad.abs() > 1e-5  # type: ignore[union-attr]
        step = (new - old)[clear]
        expected = -0.01 * old.grad[clear].sign()  # type: ignore[index]
        torch.testing.assert_close(step, expected, atol=2e-5, rtol=2e-3, msg=name)


def test_adam_remembers_and_decays_as_the_spec_says(spec: NetworkParams) -> None:
    """Two steps by hand: the first is the same for every momentum (Kingma and Ba 2015)."""
    momentum, decay, squares = 0.7, 0.02, 0.999
    changes = {"optimizer": "adam", "momentum": momentum, "weight_decay": decay}
    network = build_network(spec.model_copy(update=changes), 32, seed=0)
    optimizer = _optimizer(network)
    weight = network.get_parameter("dense_1.weight")
    expected = weight.detach().clone()
    mean, square = torch.zeros_like(expected), torch.zeros_like(expected)
    for step, slope in enumerate((1.0, -0.5), start=1):
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, slope)
        optimizer.step()
        gradient = slope + decay * expected
        mean = momentum * mean + (1 - momentum) * gradient
        square = squares * square + (1 - squares) * gradient**2
        scale = (square / (1 - squares**step)).sqrt() + 1e-8
        expected = expected - spec.learning_rate * mean / (1 - momentum**step) / scale
        torch.testing.assert_close(weight.detach(), expected)


def test_one_step_of_nesterov_by_hand(spec: NetworkParams) -> None:
    """The first step already goes as far as its own momentum will carry it."""
    changes = {"optimizer": "nesterov", "momentum": 0.5, "epochs": 1, "dropout": 0.0}
    spec = spec.model_copy(update=changes)
    before = build_network(spec, 32, seed=0)
    faces = toy_faces(16)
    loss_of(spec, before.logits(to_input(faces.images)), faces.labels(spec)).backward()
    after, _ = train(spec, train_part=faces, batch_size=16)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        expected = old - 1.5 * spec.learning_rate * old.grad  # type: ignore[operator]
        torch.testing.assert_close(new, expected, atol=1e-6, rtol=1e-4, msg=name)


def test_biases_of_norms_without_scale_learn_faster(spec: NetworkParams) -> None:
    changes = {"batch_norm": "pooled", "momentum": 0.0, "weight_decay": 0.01}
    spec = spec.model_copy(update=changes)
    network = build_network(spec, 32, seed=0)
    add_batch_norm(network)
    for norm in batch_norms(network):
        nn.init.constant_(norm.bias, 0.5)  # of 0 nothing could decay
    optimizer = _optimizer(network)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    faces = toy_faces(16)
    batch = [(faces.images, faces.labels(spec))]
    bar = tqdm(disable=True)
    _train_epoch(network, optimizer, batch, bar, progress=0.5, step=0, mixed=False)
    for name, now in network.named_parameters():
        if now.requires_grad:
            rate = spec.learning_rate * (8 if "batch_norm" in name else 1)
            decay = 0.01 / 8 if "batch_norm" in name else 0.01
            assert now.grad is not None
            expected = before[name] - rate * (now.grad + decay * before[name])
            torch.testing.assert_close(now, expected, atol=1e-6, rtol=1e-4, msg=name)
    assert sum("batch_norm" in name for name in before) == 2 * len(batch_norms(network)) == 8


def test_a_network_may_have_a_batch_size_of_its_own(spec: NetworkParams) -> None:
    own, _ = train(spec.model_copy(update={"batch_size": 24}), batch_size=16)
    common, _ = train(spec, batch_size=24)
    other, _ = train(spec, batch_size=16)
    assert same_weights(own, common)
    assert not same_weights(own, other)


@pytest.mark.parametrize("supported", [True, False])
def test_mixed_precision_rounds_where_the_device_multiplies_bfloat16(
    spec: NetworkParams, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_multiplies_bfloat16", lambda device: supported)
    exact, history = train(spec)
    mixed, rounded = train(spec, precision="mixed")
    assert same_weights(exact, mixed) is not supported
    assert rounded[-1].train_loss == pytest.approx(history[-1].train_loss, abs=0.05)
    assert all(weights.dtype == torch.float32 for weights in mixed.parameters())


def test_the_loss_of_a_mixed_training_is_exact(
    spec: NetworkParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: set[torch.dtype] = set()

    def watched(spec: NetworkParams, logits: Tensor, labels: Tensor, **options: bool) -> Tensor:
        kinds.add(logits.dtype)
        return loss_of(spec, logits, labels, **options)

    monkeypatch.setattr(devices, "_multiplies_bfloat16", lambda device: True)
    monkeypatch.setattr(training, "loss_of", watched)
    train(spec, precision="mixed")
    assert kinds == {torch.float32}


def test_smooth_labels_are_learned_from_and_not_tested_on(spec: NetworkParams) -> None:
    smooth = spec.model_copy(update={"label_smoothing": 0.2})
    logits, labels = torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([0, 1])
    # Of two classes a tenth of the label goes to the other.
    logs = logits.log_softmax(dim=1)
    expected = -(0.9 * (logs[0, 0] + logs[1, 1]) + 0.1 * (logs[0, 1] + logs[1, 0])) / 2
    torch.testing.assert_close(loss_of(smooth, logits, labels, learning=True), expected)
    torch.testing.assert_close(loss_of(smooth, logits, labels), loss_of(spec, logits, labels))
    (one, history), (other, smoothed) = train(spec), train(smooth)
    assert not same_weights(one, other)
    assert smoothed[-1].train_loss > history[-1].train_loss


def test_objects_in_colour_are_learned(spec: NetworkParams) -> None:
    changes = {"target": "object", "optimizer": "adam", "learning_rate": 0.005, "epochs": 12}
    network, history = train(
        spec.model_copy(update=changes),
        train_part=toy_objects(200),
        watched=toy_objects(40, seed=1),
    )
    assert network.image_shape == (3, 32, 32)
    assert history[-1].watched_accuracy > 0.9


def test_figures_are_named_by_the_part_that_is_watched() -> None:
    epoch = Epoch(3, 0.5, 0.8, 0.6, 0.7)
    assert named_figures(epoch, "validation") == {
        "train_loss": 0.5, "train_accuracy": 0.8, "validation_loss": 0.6,
        "validation_accuracy": 0.7,
    }  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(spec: NetworkParams) -> None:
    (first, one), (again, same), (other, _) = (train(spec, seed=seed) for seed in (0, 0, 1))
    assert same_weights(first, again)
    assert one == same
    assert not same_weights(first, other)


def test_figures_are_those_of_the_network_at_the_epochs_end(spec: NetworkParams) -> None:
    network, history = train(spec)
    test = toy_faces(16, seed=1)
    logits, labels = logits_of(network, test.images), test.labels(spec)
    assert history[-1].watched_loss == pytest.approx(loss_of(spec, logits, labels).item())
    assert history[-1].watched_accuracy == (logits.argmax(1) == labels).float().mean().item()


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"momentum": 0.9},
        {"optimizer": "adam", "learning_rate": 0.003},
        {"optimizer": "nesterov", "initialization": "whitening", "batch_norm": "pooled"},
    ],
    ids=["plain", "momentum", "adam", "whitening"],
)
@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_training_ends_with_the_same_bytes(
    tmp_path: Path, spec: NetworkParams, changes: dict[str, object], stop_after: int
) -> None:
    spec = spec.model_copy(update=changes)
    checkpoint = tmp_path / "state" / "a.safetensors"
    whole, history = train(spec)
    with pytest.raises(KeyboardInterrupt):
        train(spec, checkpoint=checkpoint, stop_after=stop_after)
    assert checkpoint.is_file()
    resumed, replayed = train(spec, checkpoint=checkpoint)
    assert same_weights(whole, resumed)
    assert replayed == history


@pytest.mark.parametrize("changed", ["learning_rate", "seed", "epochs", "damaged", "code"])
def test_a_checkpoint_of_another_training_is_not_taken_up(
    tmp_path: Path, spec: NetworkParams, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "a.safetensors"
    # With a cycle the number of epochs changes the first of them too.
    spec = spec.model_copy(update={"schedule": "one_cycle"})
    with pytest.raises(KeyboardInterrupt):
        train(spec, checkpoint=checkpoint, stop_after=3)
    seed = 0
    if changed == "learning_rate":
        spec = spec.model_copy(update={"learning_rate": 0.02})
    elif changed == "seed":
        seed = 1
    elif changed == "epochs":
        spec = spec.model_copy(update={"epochs": 5})
    elif changed == "code":
        (tmp_path / "edited.py").write_text("# another training loop")
        monkeypatch.setattr(training, "__file__", str(tmp_path / "edited.py"))
        # What the edit changed.
        monkeypatch.setattr(training, "_epoch_seed", lambda seed, number: number)
    else:
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    network, history = train(spec, seed=seed, checkpoint=checkpoint)
    fresh, fresh_history = train(spec, seed=seed)
    assert same_weights(network, fresh)
    assert history == fresh_history


def test_a_finished_training_is_not_trained_again(tmp_path: Path, spec: NetworkParams) -> None:
    checkpoint = tmp_path / "a.safetensors"
    train(spec, checkpoint=checkpoint)
    before = checkpoint.stat().st_mtime_ns
    train(spec, checkpoint=checkpoint)
    assert checkpoint.stat().st_mtime_ns == before


def test_a_training_that_diverges_says_so(spec: NetworkParams) -> None:
    wild = {"head": "linear", "loss": "mean_squared_error", "learning_rate": 1e9}
    with pytest.raises(InputError, match="training diverged; lower learning_rate"):
        train(spec.model_copy(update=wild))


def test_a_last_step_that_diverges_is_noticed_and_not_remembered(
    tmp_path: Path, spec: NetworkParams
) -> None:
    """All images in one batch, once: its loss is from before the step."""
    wild = {
        "head": "linear", "loss": "mean_squared_error", "learning_rate": 1e25, "epochs": 1,
        "batch_size": 1000,
    }  # fmt: skip
    checkpoint = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="training diverged"):
        train(spec.model_copy(update=wild), checkpoint=checkpoint)
    assert not checkpoint.exists()


def test_loss_by_hand(spec: NetworkParams) -> None:
    logits, labels = torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])
    expected = (torch.log(torch.tensor(2.0)) + torch.log(1 + torch.exp(torch.tensor(-2.0)))) / 2
    assert loss_of(spec, logits, labels) == pytest.approx(expected.item())
    linear = spec.model_copy(update={"head": "linear", "loss": "mean_squared_error"})
    assert loss_of(linear, logits, labels).item() == pytest.approx((1 + 0 + 0 + 1) / 4)
    squared = spec.model_copy(update={"loss": "mean_squared_error"})
    confident = torch.tensor([[0.5, -0.5], [0.0, 2.0]]).softmax(1)
    wanted = ((confident - torch.eye(2)) ** 2).mean().item()
    assert loss_of(squared, torch.tensor([[0.5, -0.5], [0.0, 2.0]]), labels).item() == (
        pytest.approx(wanted)
    )


def test_training_figures_are_means_over_the_images_and_not_over_the_steps(
    spec: NetworkParams,
) -> None:
    faces = toy_faces(20)  # the last step has 4
    still = {"learning_rate": 1e-12, "dropout": 0.0, "epochs": 1}
    network, (epoch,) = train(spec.model_copy(update=still), train_part=faces, batch_size=16)
    logits, labels = logits_of(network, faces.images), faces.labels(spec)
    assert epoch.train_loss == pytest.approx(loss_of(spec, logits, labels).item(), rel=1e-5)
    right = (logits.argmax(1) == labels).double().mean().item()
    assert epoch.train_accuracy == pytest.approx(right)


@pytest.mark.parametrize("changed", ["truth", "watched", "watched truth", "batch size"])
def test_a_checkpoint_of_other_images_or_steps_is_not_taken_up(
    tmp_path: Path, spec: NetworkParams, changed: str
) -> None:
    checkpoint = tmp_path / "a.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(spec, checkpoint=checkpoint, stop_after=3)
    watched = toy_faces(16, seed=1)
    if changed == "watched":  # the same truth, other images
        watched = type(watched)(255 - watched.images, watched.truth)
    if changed == "watched truth":
        watched = watched.shuffled(0)
    part = toy_faces(96).shuffled(0) if changed == "truth" else toy_faces(96)
    size = 24 if changed == "batch size" else 16
    network, history = train(
        spec, train_part=part, watched=watched, batch_size=size, checkpoint=checkpoint
    )
    fresh, fresh_history = train(spec, train_part=part, watched=watched, batch_size=size)
    assert same_weights(network, fresh)
    assert history == fresh_history
