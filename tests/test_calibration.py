"""Networks whose confidences are known: by hand, or drawn from the very classes they promise."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from happymaps.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability,
    rescaled_by_others,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def sure_of(*chances: float) -> Tensor:
    """Logits of two classes, the first with these probabilities."""
    first = torch.tensor(chances, dtype=torch.float64)
    return torch.stack([first, 1 - first], dim=1).log()


def honest(count: int = 20_000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of four classes, and labels drawn with just their probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    return logits, labels


def error_of(logits: Tensor, labels: Tensor) -> float:
    return expected_calibration_error(reliability(logits, labels))


def test_a_diagram_by_hand() -> None:
    # Right, wrong, right, and a right answer that is the second class.
    logits, labels = sure_of(0.91, 0.89, 0.62, 0.3), torch.tensor([0, 1, 0, 1])
    table = reliability(logits, labels)
    assert table.columns.tolist() == ["images", "confidence", "accuracy"]
    # Of 15 bins these are the tenth, the eleventh and the fourteenth.
    assert table.index.tolist() == [9, 10, 13]
    assert table["images"].tolist() == [1, 1, 2]
    assert table["confidence"].tolist() == pytest.approx([0.62, 0.7, 0.9])
    assert table["accuracy"].tolist() == [1, 1, 0.5]
    # (0.38 + 0.3 + 2 * 0.4) / 4
    assert expected_calibration_error(table) == pytest.approx(0.37)


def test_the_surest_answers_have_a_bin_too() -> None:
    table = reliability(torch.tensor([[1000.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]))
    assert table.index.tolist() == [7, 14]
    assert table["confidence"].tolist() == [0.5, 1]


@pytest.mark.parametrize(
    ("images", "confidence", "accuracy", "expected"),
    [
        ([10], [0.8], [0.8], 0.0),
        ([10], [1.0], [0.0], 1.0),
        ([10], [0.6], [0.9], 0.3),
        # Too sure and not sure enough do not make up for each other, and many count more than few.
        ([30, 10], [0.9, 0.5], [0.7, 0.9], (30 * 0.2 + 10 * 0.4) / 40),
    ],
)
def test_errors_by_hand(
    images: list[int], confidence: list[float], accuracy: list[float], expected: float
) -> None:
    table = pd.DataFrame({"images": images, "confidence": confidence, "accuracy": accuracy})
    assert expected_calibration_error(table) == pytest.approx(expected)


def test_a_network_that_is_right_as_often_as_it_says_is_left_as_it_is() -> None:
    logits, labels = honest()
    assert error_of(logits, labels) < 0.015
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("factor", [3.0, 0.4])
def test_a_network_that_is_too_sure_or_too_shy_is_put_right(factor: float) -> None:
    logits, labels = honest()
    temperature = fit_temperature(factor * logits, labels)
    assert temperature == pytest.approx(factor, rel=0.05)
    assert error_of(factor * logits, labels) > 0.08
    assert error_of(factor * logits / temperature, labels) < 0.015


def test_a_temperature_by_hand() -> None:
    # With a gap of 2 and 3 of 4 right, the confidence has to become 3/4: 2 / T = log 3.
    logits, labels = torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    assert fit_temperature(logits, labels) == pytest.approx(2 / np.log(3), rel=1e-3)


def test_temperatures_have_limits() -> None:
    logits = torch.tensor([[2.0, 0.0]] * 4)
    always_right, by_chance = torch.tensor([0, 0, 0, 0]), torch.tensor([0, 1, 0, 1])
    assert 1 / 20 <= fit_temperature(logits, always_right) < 1
    assert 10 < fit_temperature(logits, by_chance) <= 20


def test_rescaling_makes_confidences_honest_and_changes_no_answer() -> None:
    logits, labels = honest()
    groups = np.arange(len(labels)) % 5
    rescaled = rescaled_by_others(3 * logits, labels, groups)
    assert torch.equal(rescaled.argmax(dim=1), logits.argmax(dim=1))
    assert error_of(3 * logits, labels) > 0.1
    assert error_of(rescaled, labels) < 0.015


def test_each_group_is_divided_by_the_temperature_of_the_others() -> None:
    logits, labels = honest(600)
    # In no order, and with a gap in their numbers.
    groups = np.random.default_rng(0).choice([0, 1, 4], 600)
    given = logits.clone()
    rescaled = rescaled_by_others(logits, labels, groups)
    assert torch.equal(logits, given)
    for group in (0, 1, 4):
        here = torch.from_numpy(groups == group)
        temperature = fit_temperature(logits[~here], labels[~here])
        assert torch.equal(rescaled[here], logits[here] / temperature)


@pytest.mark.parametrize("corrupted", [0, 1, 2])
def test_a_group_is_never_rescaled_by_its_own_labels(corrupted: int) -> None:
    logits, labels = honest(600)
    groups = np.arange(600) % 3
    here = torch.from_numpy(groups == corrupted)
    wrong = torch.where(here, (labels + 1) % 4, labels)
    before, after = (rescaled_by_others(logits, known, groups) for known in (labels, wrong))
    assert torch.equal(before[here], after[here])
    # All others learn from it.
    assert (before[~here] != after[~here]).all()


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_nor_by_its_own_logits(changed: int) -> None:
    logits, labels = honest(600)
    groups = np.arange(600) % 3
    here = torch.from_numpy(groups == changed)
    doubled = torch.where(here.unsqueeze(1), 2 * logits, logits)
    before, after = (rescaled_by_others(given, labels, groups) for given in (logits, doubled))
    torch.testing.assert_close(2 * before[here], after[here])
    assert (before[~here] != after[~here]).all()
