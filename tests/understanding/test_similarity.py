import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from happymaps.errors import InputError
from happymaps.understanding.similarity import (
    correlations,
    gram,
    linear_cka,
    matched_similarity,
    mean_pairwise_correlation,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cka(one: Tensor, other: Tensor) -> float:
    return linear_cka(gram(one), gram(other))


def test_correlations_are_those_of_numpy() -> None:
    one, other = 3 * noise(4, 1, 5, 6) + 7, noise(3, 1, 5, 6, seed=1) - 2
    other[1] -= one[2]
    table = correlations(one, other)
    assert table.dtype == torch.float64
    expected = np.corrcoef(one.flatten(1).double(), other.flatten(1).double())[:4, 4:]
    np.testing.assert_allclose(table.numpy(), expected, atol=1e-12)
    assert table[2, 1] < -0.5


def test_correlations_do_not_mind_brightness_and_contrast() -> None:
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    table = correlations(images, 0.5 - 0.25 * images)
    np.testing.assert_allclose(table.diag().numpy(), -1, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, 0.5, 1.0])
def test_a_constant_image_is_like_no_other_and_not_like_itself(level: float) -> None:
    constant = torch.full((1, 1, 7, 7), level)
    images = torch.cat([noise(2, 1, 7, 7), constant])
    table = correlations(images, images)
    assert not table[2].any()
    assert not table[:, 2].any()
    assert table[0, 0] == pytest.approx(1)


def test_what_rounding_leaves_of_a_constant_is_no_pattern() -> None:
    image = torch.full((1, 1, 7, 7), 0.5)
    image[0, 0, 3, 3] = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    assert image.unique().numel() == 2
    assert correlations(image, image).item() == 0
    assert mean_pairwise_correlation(torch.cat([image, image])) == 0


def test_faint_patterns_count_as_much_as_strong_ones() -> None:
    images = noise(1, 1, 8, 8)
    assert correlations(images, 0.5 + 1e-4 * images).item() == pytest.approx(1, abs=1e-3)


def test_a_known_permutation_is_found() -> None:
    images = noise(8, 1, 6, 6)
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    shuffled = images[order] + 0.1 * noise(8, 1, 6, 6, seed=1)
    expected = correlations(images[order], shuffled).diag().mean().item()
    assert expected > 0.9
    assert matched_similarity(images, shuffled) == pytest.approx(expected)
    assert matched_similarity(shuffled, images) == pytest.approx(expected)
    unmatched = correlations(images, shuffled).diag().mean().item()
    assert matched_similarity(images, shuffled) > unmatched + 0.5


def test_the_matching_is_the_best_of_all_and_not_each_neurons_first_choice() -> None:
    # Unit vectors orthogonal to each other and to a constant: correlations are inner products.
    basis, _ = torch.linalg.qr(torch.cat([torch.ones(1, 9), noise(4, 9)]).T)
    u, v, rest, other_rest = basis.T[1:]
    wants_u_most = 0.75 * u + 0.6 * v + (1 - 0.75**2 - 0.6**2) ** 0.5 * rest
    wants_u_only = 0.6 * u + 0.8 * other_rest
    one = torch.stack([wants_u_most, wants_u_only]).view(2, 1, 3, 3)
    other = torch.stack([u, v]).view(2, 1, 3, 3)
    np.testing.assert_allclose(correlations(one, other), [[0.75, 0.6], [0.6, 0]], atol=1e-6)
    # First come, first served: (0.75 + 0) / 2; all their favourites: (0.75 + 0.6) / 2.
    assert matched_similarity(one, other) == pytest.approx(0.6)


def test_of_unequal_numbers_the_rest_stays_unmatched() -> None:
    images = noise(6, 1, 5, 5)
    few = images[[4, 1]]
    assert matched_similarity(few, images) == pytest.approx(1)
    assert matched_similarity(images, few) == pytest.approx(1)


def test_a_layer_of_constants_is_similar_to_none() -> None:
    assert matched_similarity(torch.full((3, 1, 5, 5), 0.5), noise(3, 1, 5, 5)) == 0


def test_mean_pairwise_correlation_by_hand() -> None:
    one = torch.tensor([1.0, -1.0, 1.0, -1.0])
    other = torch.tensor([1.0, 1.0, -1.0, -1.0])
    images = torch.stack([one, 2 * one + 3, -one, other]).view(4, 1, 2, 2)
    # The six pairs: 1, -1, 0, -1, 0, 0.
    assert mean_pairwise_correlation(images) == pytest.approx(-1 / 6)
    assert mean_pairwise_correlation(images[:2]) == pytest.approx(1)
    assert mean_pairwise_correlation(images[:1]) == 1
    # A constant is like none, so that its two pairs count as 0.
    constant = torch.full((1, 1, 2, 2), 0.3)
    assert mean_pairwise_correlation(torch.cat([images[:2], constant])) == pytest.approx(1 / 3)


def test_mean_pairwise_correlation_is_the_mean_over_pairs() -> None:
    images = noise(5, 3, 4, 4) + 0.5 * noise(1, 3, 4, 4, seed=1)
    pairs = [
        np.corrcoef(images[first].flatten(), images[second].flatten())[0, 1]
        for first in range(5)
        for second in range(first)
    ]
    assert mean_pairwise_correlation(images) == pytest.approx(np.mean(pairs), abs=1e-6)


def hsic(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Equation 3 of Nguyen et al. 2021."""
    count, ones = len(one), np.ones(len(one))
    first, second = one @ one.T, other @ other.T
    np.fill_diagonal(first, 0)
    np.fill_diagonal(second, 0)
    sums = (ones @ first @ ones) * (ones @ second @ ones) / ((count - 1) * (count - 2))
    crossed = 2 / (count - 2) * (ones @ first @ second @ ones)
    return float((np.trace(first @ second) + sums - crossed) / (count * (count - 3)))


def test_cka_is_the_textbook_formula() -> None:
    one, other = noise(30, 6) + 4, noise(30, 9, seed=1)
    other[:, :3] += one[:, :3]
    first, second = (features.double().numpy() for features in (one, other))
    expected = hsic(first, second) / (hsic(first, first) * hsic(second, second)) ** 0.5
    assert cka(one, other) == pytest.approx(expected, abs=1e-5)
    assert cka(other, one) == pytest.approx(expected, abs=1e-5)
    assert 0.1 < expected < 0.9


def test_a_gram_matrix_is_of_centred_features_of_any_shape() -> None:
    features = noise(5, 2, 3) + 10
    flat = features.view(5, 6).double().numpy()
    centred = flat - flat.mean(axis=0)
    np.testing.assert_allclose(gram(features), centred @ centred.T, atol=1e-4)


def test_a_layer_is_like_itself_turned_scaled_and_shifted() -> None:
    features = noise(40, 7)
    turned, _ = torch.linalg.qr(noise(7, 7, seed=1))
    assert cka(features, features) == pytest.approx(1, abs=1e-6)
    assert cka(features, -3.5 * features @ turned + 11) == pytest.approx(1, abs=1e-5)
    # Only turns and scales leave it alone: stretched along one axis it is another.
    stretched = features.clone()
    stretched[:, 0] *= 20
    assert cka(features, stretched) < 0.7


def test_unrelated_layers_are_much_less_alike_than_related_ones() -> None:
    one = noise(800, 8)
    unrelated = noise(800, 8, seed=1)
    related = one @ torch.linalg.qr(noise(8, 8, seed=2))[0] + unrelated
    assert cka(one, unrelated) < 0.05
    assert cka(one, related) > 0.2
    # The plain estimator says more than 0.9 of these.
    assert abs(cka(noise(60, 2000), noise(60, 2000, seed=1))) < 0.05
    # The same images in another order are no longer the same images.
    assert cka(one, one.flip(0)) < 0.05


@pytest.mark.parametrize("level", [0.0, 0.5, -2.0, 0.1, 12.3, -0.1])
def test_a_layer_that_answers_the_same_to_every_image_is_like_no_other(level: float) -> None:
    constant = torch.full((7, 4), level)
    assert cka(constant, noise(7, 4)) == pytest.approx(0, abs=1e-6)
    assert cka(noise(7, 4), constant) == pytest.approx(0, abs=1e-6)


# 0.1 has no exact binary fraction: the mean of 7 of them need not be itself.
@pytest.mark.parametrize("level", [0.0, 0.5, -2.0, 0.1, 12.3, -0.1, -12.3, -1 / 3])
def test_two_layers_that_answer_the_same_to_every_image_are_not_alike(level: float) -> None:
    constant = torch.full((7, 4), level)
    assert cka(constant, constant) == 0


def test_cka_of_different_images_is_refused() -> None:
    with pytest.raises(ValueError):
        cka(noise(6, 3), noise(7, 3))


def test_cka_of_three_images_is_refused() -> None:
    with pytest.raises(InputError, match="at least 4 test images, and there are 3"):
        cka(noise(3, 3), noise(3, 3))


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(RuntimeError):
        matched_similarity(noise(2, 1, 4, 4), noise(2, 1, 5, 5))


def test_layers_that_answer_faintly_are_like_themselves_too() -> None:
    features = 1e-3 * noise(40, 7)
    assert cka(features, features) == pytest.approx(1, abs=1e-5)
