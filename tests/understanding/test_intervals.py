import numpy as np
import pytest
import torch

from happymaps.understanding.intervals import mean_interval


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).beta(2, 5, (150, 30))
    intervals = [mean_interval(torch.from_numpy(sample), seed=1) for sample in draws]
    held = np.mean([low <= 2 / 7 <= high for _, low, high in intervals])
    assert 0.88 <= held <= 0.99
    means = [mean for mean, _, _ in intervals]
    np.testing.assert_allclose(means, draws.mean(axis=1))
    # As wide as the textbook's, 1.96 standard errors on either side.
    widths = np.array([high - low for _, low, high in intervals])
    expected = 2 * 1.96 * draws.std(axis=1) / 30**0.5
    np.testing.assert_allclose(widths, expected, rtol=0.12)


def test_an_interval_is_the_seeds() -> None:
    values = torch.rand(12, generator=torch.Generator().manual_seed(0))
    assert mean_interval(values, seed=0) == mean_interval(values, seed=0)
    assert mean_interval(values, seed=0) != mean_interval(values, seed=1)


@pytest.mark.filterwarnings("error")
def test_intervals_of_equal_few_and_no_values() -> None:
    assert mean_interval(torch.full((12,), 0.25), seed=0) == (0.25, 0.25, 0.25)
    assert mean_interval(torch.tensor([0.25] * 4 + [0.75]), seed=0) == (0.35, 0, 1)
    assert mean_interval(torch.tensor([0.3]), seed=0) == pytest.approx((0.3, 0, 1))
    with pytest.raises(ValueError, match="no value"):
        mean_interval(torch.zeros(0), seed=0)


def test_an_interval_of_shares_lies_between_0_and_1_however_skewed_they_are() -> None:
    _, low, high = mean_interval(torch.tensor([0.0] * 11 + [1.0]), seed=0)
    assert (low, high) == (0, 0.25)
