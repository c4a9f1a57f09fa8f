"""Networks trained again and again, each time tested on images that training has not seen."""

import importlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from happymaps.answering import answer
from happymaps.datasets import WithHeads, joined_with_heads
from happymaps.devices import configure_torch
from happymaps.errors import InputError
from happymaps.evaluation import says_left
from happymaps.networks import build_network
from happymaps.params import CrossValidateParams, NetworkParams, TrainParams
from happymaps.splitting import folds_by_person
from happymaps.training import fit

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Training:
    """One network to train and what it is tested on.

    Attributes:
        spec: the network's.
        test: numbers of the images that it is tested on; it learns from all others.
        seed: of its weights, the order of its images and their changes.
    """

    spec: NetworkParams
    test: NDArray[np.intp]
    seed: int


@dataclass(frozen=True)
class OutOfFold:
    """What networks say of images that they have not learned from.

    Attributes:
        logits: (N, classes), each image's by the network that was trained without its fold.
        fold: (N,) which that is.
        also: of each fold's network, (M, classes) for the other images.
    """

    logits: Tensor
    fold: NDArray[np.intp]
    also: list[Tensor]

    def figures(self, spec: NetworkParams, table: pd.DataFrame) -> dict[str, dict[str, float]]:
        """Over the folds `mean` and `std` of the accuracy, and that on the `worst_person`.

        Args:
            spec: the networks'.
            table: `evaluation.predictions` of `logits`.

        Returns:
            Of the network's own classes (`accuracy`) and of left or not (`left_accuracy`).
        """
        return {
            "accuracy": self._spread(table["actual"] == table["predicted"], table["subject"]),
            "left_accuracy": self._spread(
                (table["pose"] == "left") == says_left(spec, self.logits), table["subject"]
            ),
        }

    def _spread(self, right: "pd.Series[bool]", subjects: "pd.Series[str]") -> dict[str, float]:
        by_fold = right.groupby(self.fold).mean()
        return {
            "mean": float(by_fold.mean()),
            "std": float(by_fold.std()),
            "worst_person": float(right.groupby(subjects).mean().min()),
        }


def answer_out_of_fold(
    spec: NetworkParams,
    views: Sequence[WithHeads],
    train: TrainParams,
    params: CrossValidateParams,
    seed: int,
    also: Tensor | None = None,
    more: Sequence[WithHeads] = (),
    checkpoints: Path | None = None,
) -> OutOfFold:
    """Have every image answered by a network that has not seen its person.

    Args:
        spec: the networks'.
        views: everybody's images and their heads, in each view that is learned from.
        train: what is the same for all networks.
        params: how many folds there are, and where the trainings run.
        seed: of the folds and of the trainings.
        also: (M, C, H, W) uint8, more images to ask every fold's network for.
        more: other people's images and heads, that every network learns from.
        checkpoints: folder in which the trainings remember their last epochs; see `answer_all`.

    Raises:
        InputError: as `answer_all` and `folds_by_person`.
    """
    faces, _ = views[0]
    folds = folds_by_person(faces.truth, None if params.leave_one_out else params.folds, seed)
    trainings = [Training(spec, rows, seed) for rows in folds]
    answers = answer_all(trainings, views, train, params, also, more, checkpoints)
    logits = torch.zeros(len(faces), len(spec.classes))
    fold = np.zeros(len(faces), np.intp)
    for number, (rows, (answered, _)) in enumerate(zip(folds, answers, strict=True)):
        logits[torch.from_numpy(rows)] = answered
        fold[rows] = number
    return OutOfFold(logits, fold, [other for _, other in answers])


def answer_all(
    trainings: Sequence[Training],
    views: Sequence[WithHeads],
    train: TrainParams,
    params: CrossValidateParams,
    also: Tensor | None = None,
    more: Sequence[WithHeads] = (),
    checkpoints: Path | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Train networks side by side, each with one thread so that every backend sums alike.

    Args:
        trainings: what to train.
        views: everybody's N images and their heads, in each view that is learned from; tests are
            in the first.
        train: what is the same for all networks.
        params: where the trainings run.
        also: (M, C, H, W) uint8, more images to ask every network for.
        more: other people's images and heads, that every network learns from.
        checkpoints: folder in which every training remembers its last epoch: when all are asked for
            again, those that have ended need not learn, and the others go on. Remove it when the
            result is safe. Not used on a cluster, whose machines have folders of their own.

    Returns:
        Per training what its network gives before its head for its test images, in the order of
        their numbers given, and for `also`: (test images, classes) and (M, classes).

    Raises:
        InputError: when the backend's package is not installed, or a training fails.
    """
    asked = views[0][0].images[:0] if also is None else also
    folder = checkpoints if params.backend == "loky" else None
    files = [folder and folder / f"{number}.safetensors" for number in range(len(trainings))]
    tasks = (
        delayed(_answer)(training, views, train, asked, more, file)
        for training, file in zip(trainings, files, strict=True)
    )
    with _backend(params):
        # Ray's backend gives everything at the end only.
        return_as = "list" if params.backend == "ray" else "generator"
        results = Parallel(n_jobs=params.jobs, return_as=return_as)(tasks)
        bar = tqdm(results, total=len(trainings), unit="training", desc="training")
        # Copies, for Ray hands out memory that must not be written to.
        return [(torch.tensor(test), torch.tensor(other)) for test, other in bar]


def _answer(
    training: Training,
    views: Sequence[WithHeads],
    train: TrainParams,
    also: Tensor,
    more: Sequence[WithHeads],
    checkpoint: Path | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # Trainings draw from torch's one generator: two in the same process would disturb each other.
    with _one_at_a_time:
        return _train_and_answer(training, views, train, also, more, checkpoint)


def _train_and_answer(
    training: Training,
    views: Sequence[WithHeads],
    train: TrainParams,
    also: Tensor,
    more: Sequence[WithHeads],
    checkpoint: Path | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    configure_torch(1)
    faces, _ = views[0]
    seen = np.setdiff1d(np.arange(len(faces)), training.test)
    own = [(view.take(seen), [heads[row] for row in seen.tolist()]) for view, heads in views]
    learned, heads = joined_with_heads([*own, *more])
    test = faces.take(training.test.copy())
    network = build_network(training.spec, faces.images.shape[-1], seed=training.seed)
    fit(
        network,
        learned,
        test.take(np.arange(1)),  # nobody is told how they are answered on the way
        train,
        seed=training.seed,
        log=lambda epoch: None,
        heads=heads,
        checkpoint=checkpoint,
        progress=False,
    )
    return answer(network, test.images).numpy(), answer(network, also).numpy()


@contextmanager
def _backend(params: CrossValidateParams) -> Iterator[None]:
    """Have joblib's calls run where `params` say."""
    with ExitStack() as stack:
        if params.backend == "dask":
            distributed = _import("distributed", "dask")
            if params.address is None:
                # Processes of one thread each, like loky's.
                cluster = distributed.LocalCluster(
                    n_workers=params.jobs, threads_per_worker=1, dashboard_address=None
                )
                stack.enter_context(cluster)
                stack.enter_context(distributed.Client(cluster))
            else:
                stack.enter_context(distributed.Client(params.address))
        if params.backend == "ray":
            ray = _import("ray", "ray")
            _import("ray.util.joblib", "ray").register_ray()
            here = {"num_cpus": params.jobs, "include_dashboard": False}
            there = {"address": params.address}
            ray.init(**(here if params.address is None else there))
            stack.callback(ray.shutdown)
        stack.enter_context(parallel_config(params.backend))
        yield


def _import(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"cross_validate.backend {extra}: not installed; pip install -e '.[{extra}]'"
        ) from error
