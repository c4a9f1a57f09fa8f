"""The training loop."""

import ctypes
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from happymaps import datasets, networks
from happymaps.datasets import Faces, batches, to_input
from happymaps.errors import InputError
from happymaps.files import replacing
from happymaps.networks import Network, apply_head
from happymaps.params import NetworkParams, TrainParams

Logger = Callable[["Epoch"], None]

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave; accuracies are shares in [0, 1].

    The training figures are means over the epoch while the weights moved, with dropout; the test
    figures are taken at its end. The test part is only watched: it chooses nothing.
    """

    number: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


def configure_torch(threads: int) -> None:
    """Fix what would change the sums (threads, algorithms), and keep memory between the steps."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A guard against reading fresh memory, which writes all of it: a tenth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have glibc keep large blocks that are freed, for the next step will want the same.

    It gives them back to the system by default, whose zeroing of fresh pages took longer than the
    convolutions. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def loss_of(spec: NetworkParams, logits: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of (N, classes) outputs before the head against (N,) class numbers."""
    if spec.loss == "cross_entropy":
        return nn.functional.cross_entropy(logits, labels)
    outputs = apply_head(spec, logits)
    wanted = nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return nn.functional.mse_loss(outputs, wanted)


@torch.inference_mode()
def logits_of(network: Network, images: Tensor) -> Tensor:
    """(N, C, H, W) uint8, or float32 in [0, 1] -> (N, classes) on the CPU, before the head."""
    if len(images) == 0:
        return torch.zeros(0, len(network.spec.classes))
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network.logits(batch).cpu() for batch in batches(images, device)])


def fit(
    network: Network,
    train: Faces,
    test: Faces,
    params: TrainParams,
    *,
    seed: int,
    log: Logger,
    checkpoint: Path | None = None,
) -> None:
    """Train `network` in place by stochastic gradient descent, with a progress bar.

    Every epoch draws its order and its dropout from (seed, epoch) alone, so a training that is
    killed and started again with the same `checkpoint` ends with the bytes of one never killed.

    Args:
        network: the untrained network; ends on the device it was trained on.
        train: images that move the weights.
        test: images that are only watched.
        params: epochs and batch size; rate and momentum are the network's own.
        seed: of the order of the images and of dropout.
        log: called with each epoch's figures, also for the epochs that a checkpoint remembers.
        checkpoint: file that is replaced after every epoch; remove it when the result is safe.

    Raises:
        InputError: when the loss is no number any more.
    """
    device = best_device()
    network.to(device)
    spec = network.spec
    labels, test_labels = train.labels(spec), test.labels(spec)
    optimizer = torch.optim.SGD(network.parameters(), lr=spec.learning_rate, momentum=spec.momentum)
    state = _Checkpoint(checkpoint, _fingerprint(network, train, test, params, seed))
    history = state.restore(network, optimizer)
    for epoch in history:
        log(epoch)
    bar: tqdm[Any]
    with tqdm(total=params.epochs * len(train), unit="image", desc="training") as bar:
        bar.update(len(history) * len(train))
        for number in range(len(history) + 1, params.epochs + 1):
            torch.manual_seed(_epoch_seed(seed, number))
            loss, accuracy = _train_epoch(network, optimizer, train.images, labels, params, bar)
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} in epoch {number}: training diverged; lower learning_rate"
                    f" ({spec.learning_rate:g}) or momentum ({spec.momentum:g})"
                )
            test_logits = logits_of(network, test.images)
            epoch = Epoch(
                number,
                loss,
                accuracy,
                loss_of(spec, test_logits, test_labels).item(),
                _accuracy(test_logits, test_labels),
            )
            bar.set_postfix_str(
                f"epoch {number}/{params.epochs}, loss {loss:.4f}, accuracy {accuracy:.4f},"
                f" test accuracy {epoch.test_accuracy:.4f}"
            )
            history.append(epoch)
            state.save(network, optimizer, history)
            log(epoch)
    network.eval()


def _train_epoch(
    network: Network,
    optimizer: torch.optim.SGD,
    images: Tensor,
    labels: Tensor,
    params: TrainParams,
    bar: "tqdm[Any]",
) -> tuple[float, float]:
    device = next(network.parameters()).device
    network.train()
    loss_sum, correct = 0.0, 0.0
    for batch in torch.randperm(len(labels)).split(params.batch_size):
        wanted = labels[batch].to(device)
        logits = network.logits(to_input(images[batch].to(device)))
        loss = loss_of(network.spec, logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(batch)
        correct += _accuracy(logits, wanted) * len(batch)
        bar.update(len(batch))
    return loss_sum / len(labels), correct / len(labels)


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).double().mean().item()


def _epoch_seed(seed: int, number: int) -> int:
    # Hashed, so that seed 0's second epoch is not seed 1's first.
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:8], "big") >> 1


def _fingerprint(
    network: Network, train: Faces, test: Faces, params: TrainParams, seed: int
) -> str:
    """Whatever changes a training changes this, so that no checkpoint of another is taken up."""
    digest = hashlib.sha256()
    digest.update(network.spec.model_dump_json().encode())
    digest.update(params.model_dump_json().encode())
    machine = f"{torch.get_num_threads()} {torch.__version__} {best_device().type}"
    digest.update(f"{seed} {machine}".encode())
    for code in (__file__, networks.__file__, datasets.__file__):
        digest.update(Path(code).read_bytes())
    for tensor in (*network.state_dict().values(), train.images, test.images):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    for faces in (train, test):
        digest.update(faces.truth.to_csv().encode())
    return digest.hexdigest()


class _Checkpoint:
    """The last finished epoch on disk: weights, momentum and the figures so far."""

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint

    def restore(self, network: Network, optimizer: torch.optim.SGD) -> list[Epoch]:
        """Load weights and momentum; without a fitting file change nothing."""
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
            if f"momentum.{name}" in tensors:
                # In the parameter's own layout: another one would add up in another order.
                buffer = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
                optimizer.state[parameter]["momentum_buffer"] = buffer
        return [Epoch(**epoch) for epoch in state["history"]]

    def save(self, network: Network, optimizer: torch.optim.SGD, history: list[Epoch]) -> None:
        if self._path is None:
            return
        tensors = dict(_named_state(network, optimizer))
        state = {"fingerprint": self._fingerprint, "history": [asdict(epoch) for epoch in history]}
        with replacing(self._path) as draft:
            save_file(tensors, draft, {"happymaps": json.dumps(state)})


def _named_state(network: Network, optimizer: torch.optim.SGD) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in network.named_parameters():
        yield name, parameter.detach().cpu().contiguous()
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            yield f"momentum.{name}", momentum.cpu().contiguous()
