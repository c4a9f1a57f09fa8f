"""Trainings side by side: on this machine, and on clusters that are started here."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from torch import Tensor, nn

from happymaps.answering import answer
from happymaps.cross_validation import (
    OutOfFold,
    Training,
    answer_all,
    answer_out_of_fold,
)
from happymaps.datasets import LabelledImages, WithHeads, joined
from happymaps.devices import configure_torch
from happymaps.errors import InputError
from happymaps.images.boxes import Box
from happymaps.networks import build_network
from happymaps.params import POSES, CrossValidateParams, NetworkParams, Params, TrainParams
from happymaps.splitting import folds_by_person
from happymaps.training import fit
from toys import toy_faces

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 48
TRAIN = TrainParams(batch_size=16, precision="float32")


@pytest.fixture(scope="module", autouse=True)
def no_workers_left() -> Iterator[None]:
    """Loky keeps its processes for the next call, and nobody will call."""
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture
def settings(params: Params) -> CrossValidateParams:
    changes = {"backend": "loky", "jobs": 2, "address": None}
    return params.cross_validate.model_copy(update=changes)


@pytest.fixture
def here(settings: CrossValidateParams) -> CrossValidateParams:
    """One after the other, in this process."""
    return settings.model_copy(update={"jobs": 1})


@pytest.fixture
def trainings(spec: NetworkParams, params: Params) -> list[Training]:
    """Networks that differ in all that a training may; two of them change their images."""
    plain = spec.model_copy(update={"epochs": 2})
    augment = params.networks["generalist"].augment
    ways = {"augment": augment, "normalize": "image", "balanced": True, "target": "pose"}
    changed = plain.model_copy(update={**ways, "test_time_augmentation": True})
    return [
        Training(changed, np.arange(0, 12), seed=0),
        Training(plain, np.array([40, 3, 22]), seed=0),
        Training(changed, np.arange(12, 48, 2), seed=1),
    ]


@pytest.fixture
def views() -> list[WithHeads]:
    """The same toys twice: as they are, and a little smaller."""
    faces = toy_faces(COUNT)
    # Without every eighth row and column, and with a black border.
    kept = torch.arange(32) % 8 != 0
    smaller = nn.functional.pad(faces.images[:, :, kept][..., kept], (2, 2, 2, 2))
    # The boxes say whose they are: a head that came to another image would change the figures.
    heads: list[list[Box | None]] = [
        [Box(3 + n % 5, top, 29, 28 - n % 3) if n % 4 else None for n in range(COUNT)]
        for top in (4, 6)
    ]
    return [(faces, heads[0]), (LabelledImages(smaller, faces.truth), heads[1])]


def by_hand(training: Training, views: list[WithHeads], also: Tensor) -> tuple[Tensor, Tensor]:
    """What a network answers that has learned from all but the test images; and for others."""
    configure_torch(1)
    faces = views[0][0]
    seen = [row for row in range(len(faces)) if row not in training.test]
    test = faces.take(training.test)
    images = torch.cat([view.images[seen] for view, _ in views])
    truth = pd.concat([view.truth.iloc[seen] for view, _ in views], ignore_index=True)
    network = build_network(training.spec, 32, seed=training.seed)
    fit(
        network,
        LabelledImages(images, truth),
        test,
        TRAIN,
        seed=training.seed,
        log=lambda epoch: None,
        heads=[heads[row] for _, heads in views for row in seen],
        progress=False,
    )
    return answer(network, test.images), answer(network, also)


def assert_by_hand(
    answers: list[tuple[Tensor, Tensor]],
    trainings: list[Training],
    views: list[WithHeads],
    also: Tensor,
) -> None:
    assert len(answers) == len(trainings)
    for given, training in zip(answers, trainings, strict=True):
        assert all(map(torch.equal, given, by_hand(training, views, also)))


def answers_of(training: Training, views: list[WithHeads], settings: CrossValidateParams) -> Tensor:
    """What one network answers for its test images."""
    ((answers, nothing),) = answer_all([training], views, TRAIN, settings)
    assert nothing.shape == (0, len(training.spec.classes))
    return answers


def inverted(faces: LabelledImages, row: int) -> LabelledImages:
    """One image is its negative."""
    images = faces.images.clone()
    images[row] = 255 - images[row]
    return LabelledImages(images, faces.truth)


# --- what the networks answer


def test_answers_are_in_the_order_of_the_test_rows(
    here: CrossValidateParams, trainings: list[Training], views: list[WithHeads]
) -> None:
    training = trainings[0]
    order = np.random.default_rng(0).permutation(len(training.test))
    other = Training(training.spec, training.test[order], training.seed)
    straight, shuffled = (answers_of(each, views, here) for each in (training, other))
    assert straight.shape == (12, 4)
    torch.testing.assert_close(shuffled, straight[torch.from_numpy(order)])
    # The order matters: no two images have the same answer.
    assert (torch.cdist(straight, straight) + torch.eye(12)).min() > 1e-4


def test_nothing_is_learned_from_the_images_that_are_tested(
    here: CrossValidateParams, trainings: list[Training], views: list[WithHeads]
) -> None:
    training = trainings[0]
    (faces, heads), (smaller, other_heads) = views
    expected = answers_of(training, views, here)
    is_test = faces.truth.index.isin(training.test)
    truth = faces.truth.assign(pose=faces.truth["pose"].mask(is_test, "up"))
    mislabelled = [(LabelledImages(view.images, truth), boxes) for view, boxes in views]
    assert torch.equal(answers_of(training, mislabelled, here), expected)
    # Of an image itself only its own answer hears, and of other views of it no answer.
    row = int(training.test[5])
    other = answers_of(training, [(inverted(faces, row), heads), views[1]], here)
    assert (other != expected).any(dim=1).nonzero().flatten().tolist() == [5]
    other = answers_of(training, [views[0], (inverted(smaller, row), other_heads)], here)
    assert torch.equal(other, expected)


@pytest.mark.parametrize("changed", [0, 1])
def test_everything_else_is_learned_from_in_every_view(
    here: CrossValidateParams, trainings: list[Training], views: list[WithHeads], changed: int
) -> None:
    training = trainings[1]
    expected = answers_of(training, views, here)
    for row in (0, 21, 47):
        other = list(views)
        faces, heads = views[changed]
        other[changed] = (inverted(faces, row), heads)
        assert not torch.equal(answers_of(training, other, here), expected)


@pytest.mark.parametrize("count", [1, 2])
def test_other_images_are_answered_too_and_not_learned_from(
    here: CrossValidateParams, trainings: list[Training], views: list[WithHeads], count: int
) -> None:
    also = toy_faces(7, seed=1).images
    answers = answer_all(trainings, views[:count], TRAIN, here, also)
    assert_by_hand(answers, trainings, views[:count], also)
    assert [others.shape for _, others in answers] == [(7, 4), (7, 2), (7, 4)]


def test_other_people_are_learned_from_in_every_training(
    here: CrossValidateParams, trainings: list[Training], views: list[WithHeads]
) -> None:
    own, (faces, heads) = views[:1], views[1]
    everybody = len(faces)
    # They are as good as the view itself, where nobody of it is tested.
    training = replace(trainings[0], test=np.arange(everybody, everybody + 6))
    test = toy_faces(6, seed=1)
    shown: list[WithHeads] = [(joined([own[0][0], test]), [*own[0][1], *[None] * 6])]
    with_more = answer_all([training], shown, TRAIN, here, more=[(faces, heads)])
    filled = (joined([faces, test]), [*heads, *[None] * 6])
    (as_views,) = answer_all([training], [*shown, filled], TRAIN, here)
    assert torch.equal(with_more[0][0], as_views[0])
    assert not torch.equal(answers_of(training, shown, here), as_views[0])


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_everybody_is_answered_by_the_network_that_has_not_seen_them(
    here: CrossValidateParams,
    trainings: list[Training],
    views: list[WithHeads],
    leave_one_out: bool,
) -> None:
    settings = here.model_copy(update={"folds": 2, "leave_one_out": leave_one_out})
    spec, also = trainings[1].spec, toy_faces(7, seed=1).images
    found = answer_out_of_fold(spec, views, TRAIN, settings, 3, also)
    folds = folds_by_person(views[0][0].truth, None if leave_one_out else 2, 3)
    assert len(folds) == (4 if leave_one_out else 2)
    answers = answer_all([Training(spec, rows, 3) for rows in folds], views, TRAIN, here, also)
    for number, (rows, (logits, others)) in enumerate(zip(folds, answers, strict=True)):
        assert np.flatnonzero(found.fold == number).tolist() == sorted(rows)
        assert torch.equal(found.logits[torch.from_numpy(rows)], logits)
        assert torch.equal(found.also[number], others)


def test_figures_over_folds_and_people_by_hand(spec: NetworkParams) -> None:
    # Fold 0: two people, of three and one images; fold 1: one person of two.
    table = pd.DataFrame(
        {
            "subject": ["ann", "ann", "ann", "bob", "cai", "cai"],
            "pose": ["left", "left", "up", "right", "left", "straight"],
            "actual": ["left", "left", "up", "right", "left", "straight"],
            "predicted": ["left", "up", "straight", "right", "left", "left"],
        }
    )
    logits = torch.zeros(6, 4)
    logits[[0, 4], POSES.index("left")] = 4.0
    # The likeliest of four, and less likely than the others together: no left turn.
    logits[5, POSES.index("left")] = 0.5
    found = OutOfFold(logits, np.array([0, 0, 0, 0, 1, 1]), [])
    figures = found.figures(spec.model_copy(update={"target": "pose"}), table)
    assert figures["accuracy"] == pytest.approx({"mean": 0.5, "std": 0, "worst_person": 1 / 3})
    # What is taken for another pose but left is no error here: fold 0 has one, fold 1 none.
    assert figures["left_accuracy"] == pytest.approx(
        {"mean": 0.875, "std": 0.125 * 2**0.5, "worst_person": 2 / 3}
    )


def test_nothing_to_train_is_no_answer(here: CrossValidateParams, views: list[WithHeads]) -> None:
    assert answer_all([], views, TRAIN, here) == []


# --- where they are trained


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
@pytest.mark.parametrize(
    ("backend", "package"), [("loky", "joblib"), ("dask", "distributed"), ("ray", "ray")]
)
def test_every_backend_gives_the_figures_of_a_training_by_hand(
    settings: CrossValidateParams,
    trainings: list[Training],
    views: list[WithHeads],
    backend: str,
    package: str,
    tmp_path: Path,
) -> None:
    pytest.importorskip(package)
    chosen = settings.model_copy(update={"backend": backend})
    also = toy_faces(5, seed=1).images
    answers = answer_all(trainings, views, TRAIN, chosen, also, checkpoints=tmp_path)
    assert_by_hand(answers, trainings, views, also)
    # A cluster's machines have folders of their own, and this one is not among them.
    assert len(list(tmp_path.iterdir())) == (len(trainings) if backend == "loky" else 0)
    # The cluster that was started is gone again.
    if backend == "dask":
        with pytest.raises(ValueError, match="client found"):
            sys.modules["distributed"].get_client()
    if backend == "ray":
        assert not sys.modules["ray"].is_initialized()


def test_a_dask_cluster_that_is_there_is_used_and_left_running(
    settings: CrossValidateParams, trainings: list[Training], views: list[WithHeads]
) -> None:
    distributed: Any = pytest.importorskip("distributed")
    many = [replace(training, seed=seed) for training in trainings for seed in range(3)]
    # As `dask worker` starts one where it is not told otherwise: with several threads, which have
    # torch's generator of random numbers in common.
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=4, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        chosen = settings.model_copy(update={"backend": "dask", "address": address})
        answers = answer_all(many, views, TRAIN, chosen)
        with distributed.Client(address) as client:
            assert client.run_on_scheduler(_steps_of) > 0, "nothing was trained on the cluster"
            assert client.submit(sum, [1, 2]).result(timeout=20) == 3
    assert_by_hand(answers, many, views, views[0][0].images[:0])


def _steps_of(dask_scheduler: Any) -> int:
    """How often a task of a cluster began, ended or waited."""
    return len(dask_scheduler.transition_log)


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_backend_that_is_not_installed_is_named_with_its_extra(
    settings: CrossValidateParams,
    trainings: list[Training],
    views: list[WithHeads],
    backend: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if it were not there.
    monkeypatch.setitem(sys.modules, package, None)
    chosen = settings.model_copy(update={"backend": backend})
    with pytest.raises(InputError, match=rf"pip install -e '\.\[{backend}\]'"):
        answer_all(trainings, views, TRAIN, chosen)


def test_a_training_that_diverges_says_so(
    settings: CrossValidateParams, trainings: list[Training], views: list[WithHeads]
) -> None:
    wild = {"head": "linear", "loss": "mean_squared_error", "learning_rate": 1e9}
    bad = Training(trainings[1].spec.model_copy(update=wild), np.arange(4), seed=0)
    with pytest.raises(InputError, match="training diverged; lower learning_rate"):
        answer_all([trainings[1], bad], views, TRAIN, settings)


def test_trainings_that_have_ended_are_not_repeated_when_all_are_asked_for_again(
    here: CrossValidateParams, trainings: list[Training], views: list[WithHeads], tmp_path: Path
) -> None:
    also = toy_faces(5, seed=1).images
    wild = {"head": "linear", "loss": "mean_squared_error", "learning_rate": 1e9}
    bad = Training(trainings[1].spec.model_copy(update=wild), np.arange(4), seed=0)
    with pytest.raises(InputError, match="diverged"):
        answer_all([*trainings[:2], bad], views, TRAIN, here, also, checkpoints=tmp_path)
    ended = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert sorted(ended) == ["0.safetensors", "1.safetensors"]
    answers = answer_all(trainings, views, TRAIN, here, also, checkpoints=tmp_path)
    assert_by_hand(answers, trainings, views, also)
    written = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert {name for name in written if written[name] != ended.get(name)} == {"2.safetensors"}
