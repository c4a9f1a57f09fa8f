"""The training loop."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from happymaps import answering, augmentation, datasets, devices, networks, whitening
from happymaps.answering import logits_of
from happymaps.augmentation import UNCHANGED, Augmenter
from happymaps.datasets import LabelledImages, labels_of, to_input
from happymaps.devices import best_device, computes_in_bfloat16
from happymaps.errors import InputError
from happymaps.files import replacing
from happymaps.images import boxes
from happymaps.images.boxes import Box
from happymaps.networks import (
    Network,
    add_batch_norm,
    batch_norms,
    fold_batch_norm,
    loss_of,
)
from happymaps.params import NetworkParams, TrainParams
from happymaps.whitening import whiten

Logger = Callable[["Epoch"], None]

# Of a one_cycle schedule: how long the rate rises, and from what part of the largest.
_WARM_UP, _FIRST = 0.15, 0.04

# Adam's second beta, as its authors have it.
_SQUARES = 0.999

# How much faster the biases of norms that have no scale learn than the weights, after Jordan 2024,
# who has 64.
_BIAS_RATE = 8.0


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave; accuracies are shares in [0, 1].

    The training figures are means over the epoch while the weights moved, of images as they are
    learned from: with dropout, changed, balanced, with smoothed labels, where the spec says so. The
    others are taken at its end, on images that are only watched: they choose nothing.
    """

    number: int
    train_loss: float
    train_accuracy: float
    watched_loss: float
    watched_accuracy: float

    def figures(self, watched: str) -> dict[str, dict[str, float]]:
        """Loss and accuracy by part: `train`, and the watched one by its name."""
        return {
            "train": {"loss": self.train_loss, "accuracy": self.train_accuracy},
            watched: {"loss": self.watched_loss, "accuracy": self.watched_accuracy},
        }


def named_figures(epoch: Epoch, watched: str) -> dict[str, float]:
    """An epoch's figures as `train_loss, train_accuracy, <watched>_loss, <watched>_accuracy`."""
    return {
        f"{part}_{figure}": value
        for part, figures in epoch.figures(watched).items()
        for figure, value in figures.items()
    }


def fit(
    network: Network,
    train: LabelledImages,
    watched: LabelledImages,
    params: TrainParams,
    *,
    seed: int,
    log: Logger,
    heads: Sequence[Box | None] | None = None,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> None:
    """Train `network` in place.

    Every epoch draws its order, its changes of the images and its dropout from (seed, epoch)
    alone, so a training that is killed and started again with the same `checkpoint` ends with the
    bytes of one never killed.

    Args:
        network: the untrained network; ends on the device it was trained on.
        train: images that move the weights.
        watched: images that choose nothing; how they are answered is told after every epoch.
        params: what is the same for all networks; the rest is in the network's spec.
        seed: of the order of the images, of their changes and of dropout.
        log: called with each epoch's figures, also for the epochs that a checkpoint remembers.
        heads: of the training images, for the changes that need them.
        checkpoint: file that is replaced after every epoch; remove it when the result is safe.
        progress: show a progress bar.

    Raises:
        InputError: when the loss is no number any more, a batch is too small for `batch_norm`, or
            images are too small for patches of the kernel's size, which `whitening` needs.
    """
    network.to(best_device())
    spec = network.spec
    fingerprint = _fingerprint(network, train, watched, heads, params, seed)
    whiten(network, train.images)
    if spec.batch_norm:
        add_batch_norm(network)
    labels, watched_labels = train.labels(spec), watched.labels(spec)
    optimizer = _optimizer(network)
    state = _Checkpoint(checkpoint, fingerprint)
    history = state.restore(network, optimizer)
    for epoch in history:
        log(epoch)
    draw = _drawing(train, heads, spec, seed)
    batch_size = spec.batch_size or params.batch_size
    if spec.batch_norm and min(batch_size, len(train)) < 2:
        raise InputError("batch_norm needs at least two images in a batch: one has no variance")
    mixed = computes_in_bfloat16(params.precision, best_device())
    bar: tqdm[Any]
    total = spec.epochs * len(train)
    with tqdm(total=total, unit="image", desc="training", disable=not progress) as bar:
        bar.update(len(history) * len(train))
        for number in range(len(history) + 1, spec.epochs + 1):
            bar.set_description(_heading(history, spec.epochs))
            epoch_seed = _epoch_seed(seed, number)
            torch.manual_seed(epoch_seed)
            rng = np.random.default_rng(epoch_seed)
            order = _balanced_order(labels) if spec.balanced else torch.randperm(len(labels))
            loss, accuracy = _train_epoch(
                network,
                optimizer,
                (draw(rows, rng) for rows in _split(order, batch_size, spec)),
                bar,
                progress=(number - 1) / spec.epochs,
                step=batch_size / len(train) / spec.epochs,
                mixed=mixed,
            )
            watched_logits = logits_of(network, watched.images)
            watched_loss = loss_of(spec, watched_logits, watched_labels).item()
            # The last step shows in the second one only.
            if not math.isfinite(loss + watched_loss):
                raise InputError(
                    f"the loss is {loss + watched_loss} in epoch {number}: training diverged; lower"
                    f" learning_rate ({spec.learning_rate:g}) or momentum ({spec.momentum:g})"
                )
            watched_accuracy = _accuracy(watched_logits, watched_labels)
            epoch = Epoch(number, loss, accuracy, watched_loss, watched_accuracy)
            history.append(epoch)
            state.save(network, optimizer, history)
            log(epoch)
    fold_batch_norm(network)
    network.eval()


def _heading(history: Sequence[Epoch], epochs: int) -> str:
    """Of a progress bar: the epoch that begins, and how good the last one was."""
    epoch = f"epoch {len(history) + 1}/{epochs}"
    return f"{epoch}, watched accuracy {history[-1].watched_accuracy:.4f}" if history else epoch


def _optimizer(network: Network) -> torch.optim.Optimizer:
    spec = network.spec
    if spec.optimizer == "adam":
        return torch.optim.Adam(
            _groups(network),
            lr=spec.learning_rate,
            betas=(spec.momentum, _SQUARES),
            weight_decay=spec.weight_decay,
        )
    return torch.optim.SGD(
        _groups(network),
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.optimizer == "nesterov",
    )


def _groups(network: Network) -> list[dict[str, Any]]:
    """All parameters; apart, with a rate of `times` the others', biases of norms without scale."""
    quick = [norm.bias for norm in batch_norms(network) if not norm.weight.requires_grad]
    others = [one for one in network.parameters() if not any(one is bias for bias in quick)]
    # What decays a step is the product of the two.
    decay = network.spec.weight_decay / _BIAS_RATE
    return [
        {"params": others, "times": 1.0},
        {"params": quick, "times": _BIAS_RATE, "weight_decay": decay},
    ]


def _drawing(
    train: LabelledImages, heads: Sequence[Box | None] | None, spec: NetworkParams, seed: int
) -> Callable[[Tensor, np.random.Generator], tuple[Tensor, Tensor]]:
    """From numbers of images to the images, changed where the spec says so, and their labels."""
    if spec.augment == UNCHANGED:
        labels = train.labels(spec)
        return lambda rows, rng: (train.images[rows], labels[rows])
    augment = Augmenter(train, heads, spec.augment, seed)

    def changed(rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        images, kinds = augment(rows, rng)
        return images, labels_of(spec, kinds)

    return changed


def _balanced_order(labels: Tensor) -> Tensor:
    """About as many numbers of images as there are, every class as often as any other.

    Of a frequent class some are left out, and those of a rare one come several times.
    """
    kinds = labels.unique()
    each = -(-len(labels) // len(kinds))
    chosen = []
    for kind in kinds:
        rows = (labels == kind).nonzero().flatten()
        rounds = [rows[torch.randperm(len(rows))] for _ in range(-(-each // len(rows)))]
        chosen.append(torch.cat(rounds)[:each])
    order = torch.cat(chosen)
    return order[torch.randperm(len(order))][: len(labels)]


def _split(order: Tensor, batch_size: int, spec: NetworkParams) -> tuple[Tensor, ...]:
    """Batches; an image left over has no variance, so batch norms have to do without it."""
    parts: tuple[Tensor, ...] = order.split(batch_size)
    return parts[:-1] if spec.batch_norm and len(parts[-1]) == 1 else parts


def _rate(spec: NetworkParams, progress: float) -> float:
    """The learning rate after a share of the training."""
    if spec.schedule == "constant":
        return spec.learning_rate
    if progress < _WARM_UP:
        return spec.learning_rate * (_FIRST + (1 - _FIRST) * progress / _WARM_UP)
    return spec.learning_rate * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP))) / 2


def _train_epoch(
    network: Network,
    optimizer: torch.optim.Optimizer,
    drawn: Iterable[tuple[Tensor, Tensor]],
    bar: "tqdm[Any]",
    *,
    progress: float,
    step: float,
    mixed: bool,
) -> tuple[float, float]:
    """One pass over batches of images and labels: mean loss and accuracy."""
    device = next(network.parameters()).device
    network.train()
    loss_sum, correct, seen = 0.0, 0.0, 0
    for number, (images, labels) in enumerate(drawn):
        for group in optimizer.param_groups:
            group["lr"] = group["times"] * _rate(network.spec, progress + number * step)
        wanted = labels.to(device)
        inputs = to_input(images.to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            logits = network.logits(inputs).float()
        loss = loss_of(network.spec, logits, wanted, learning=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
        correct += _accuracy(logits, wanted) * len(labels)
        seen += len(labels)
        bar.set_postfix_str(
            f"loss {loss_sum / seen:.4f}, accuracy {correct / seen:.4f}", refresh=False
        )
        bar.update(len(labels))
    return loss_sum / seen, correct / seen


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).double().mean().item()


def _epoch_seed(seed: int, number: int) -> int:
    # Hashed, so that seed 0's second epoch is not seed 1's first.
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:8], "big") >> 1


def _fingerprint(
    network: Network,
    train: LabelledImages,
    watched: LabelledImages,
    heads: Sequence[Box | None] | None,
    params: TrainParams,
    seed: int,
) -> str:
    """Whatever changes a training changes this, so that no checkpoint of another is taken up."""
    digest = hashlib.sha256()
    digest.update(network.spec.model_dump_json().encode())
    digest.update(params.model_dump_json().encode())
    device = best_device()
    machine = (
        f"{torch.get_num_threads()} {torch.__version__} {device.type}"
        f" {torch.backends.cpu.get_cpu_capability()}"
        f" {computes_in_bfloat16(params.precision, device)} {np.__version__} {cv2.__version__}"
    )
    digest.update(f"{seed} {machine} {heads}".encode())
    modules = (answering, augmentation, boxes, datasets, devices, networks, whitening)
    for file in (__file__, *(str(module.__file__) for module in modules)):
        digest.update(Path(file).read_bytes())
    for tensor in (*network.state_dict().values(), train.images, watched.images):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    for part in (train, watched):
        digest.update(part.truth.to_csv().encode())
    return digest.hexdigest()


# Of the names of what an optimizer remembers of a parameter.
_OPTIMIZER = "optimizer/"


class _Checkpoint:
    """The last finished epoch on disk: weights, batch norms, the optimizer's state, the figures."""

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint

    def restore(self, network: Network, optimizer: torch.optim.Optimizer) -> list[Epoch]:
        """Load all of it; without a fitting file change nothing."""
        if self._path is None or not self._path.is_file():
            return []
        try:
            with safe_open(self._path, framework="pt") as file:
                state = json.loads(file.metadata()["happymaps"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError):
            return []
        if state["fingerprint"] != self._fingerprint:
            return []
        for name, parameter in network.named_parameters():
            parameter.data.copy_(tensors[name])
            prefix = f"{_OPTIMIZER}{name}/"
            for key, value in tensors.items():
                if key.startswith(prefix):
                    optimizer.state[parameter][key.removeprefix(prefix)] = _like(parameter, value)
        for name, buffer in network.named_buffers():
            buffer.copy_(tensors[name])
        return [Epoch(**epoch) for epoch in state["history"]]

    def save(
        self, network: Network, optimizer: torch.optim.Optimizer, history: list[Epoch]
    ) -> None:
        if self._path is None:
            return
        tensors = dict(_named_state(network, optimizer))
        state = {"fingerprint": self._fingerprint, "history": [asdict(epoch) for epoch in history]}
        with replacing(self._path) as draft:
            save_file(tensors, draft, {"happymaps": json.dumps(state)})


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """In the parameter's own layout, for another one would add up in another order.

    What is one number for the whole parameter, Adam's count of steps, stays as it is.
    """
    return value if value.ndim == 0 else torch.empty_like(parameter).copy_(value)


def _named_state(
    network: Network, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in network.named_parameters():
        yield name, parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            if value is not None:
                yield f"{_OPTIMIZER}{name}/{key}", value.cpu().contiguous()
    for name, buffer in network.named_buffers():
        yield name, buffer.cpu()
