"""How alike two sets of maps, or two networks' activations, are: as a number."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from happymaps.errors import InputError

# Images, of fewer of which the unbiased estimator of HSIC is not defined.
_FEWEST = 4


def correlations(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of each image of one set with each of the other.

    Args:
        one: (K, ...) images or activations of any kind.
        other: (L, ...) of the same size.

    Returns:
        (K, L) float64 in [-1, 1] but for rounding; 0 where one of the two is constant.
    """
    return _standardized(one) @ _standardized(other).T


def _standardized(images: Tensor) -> Tensor:
    flat = images.flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    length = flat.norm(dim=1, keepdim=True)
    # What is left of a constant after rounding is no pattern.
    constant = length <= 1e-6 * images.flatten(1).double().norm(dim=1, keepdim=True)
    return torch.where(constant, 0.0, flat / length.clamp_min(torch.finfo(torch.float64).tiny))


def matched_similarity(one: Tensor, other: Tensor) -> float:
    """Mean correlation of two layers' maps after the best one-to-one matching of neurons.

    The matching is the Hungarian method's (Kuhn 1955), as Li et al. 2016 ("Convergent learning")
    match neurons. Where one layer has more neurons than the other, its rest stays unmatched.

    Args:
        one: (K, C, H, W) maps on the CPU.
        other: (L, C, H, W) maps on the CPU.
    """
    from scipy.optimize import linear_sum_assignment

    table = correlations(one, other).numpy()
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].mean())


def mean_pairwise_correlation(images: Tensor) -> float:
    """Mean correlation over all pairs of (K, ...) images; 1.0 for a single one."""
    count = len(images)
    if count < 2:
        return 1.0
    table = correlations(images, images)
    return float((table.sum() - table.trace()) / (count * (count - 1)))


def gram(features: Tensor) -> NDArray[np.float64]:
    """(N, ...) activations of N images -> their centred (N, N) matrix of inner products."""
    total = torch.zeros(len(features), len(features), dtype=torch.float64, device=features.device)
    # A first layer's activations are large, and centring copies them: part after part.
    for part in features.split(1, dim=1):
        flat = part.flatten(1)
        centred = flat - flat.mean(dim=0)
        # What is left of a constant after rounding is no answer.
        centred[:, centred.abs().amax(dim=0) <= 1e-6 * flat.abs().amax(dim=0)] = 0
        total += centred @ centred.T
    product: NDArray[np.float64] = total.cpu().numpy()
    return product


def linear_cka(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019) of two layers, at most 1.

    With the unbiased estimator of HSIC (Nguyen et al. 2021, "Do wide and deep networks learn the
    same things?"): the plain one comes to 1 for any two layers, however unrelated, that have many
    more neurons than there are images.

    Args:
        one: the first layer's `gram` matrix, (N, N), of at least four images.
        other: the second's, of the same N images in the same order.

    Returns:
        About 0, and at times a little less, for unrelated layers; 0 where a layer answers the same
        to every image.

    Raises:
        InputError: when there are fewer than four images.
    """
    if len(one) < _FEWEST:
        raise InputError(
            f"linear CKA needs at least {_FEWEST} test images, and there are {len(one)}"
        )
    first, second = _without_bias(one), _without_bias(other)
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float((first * second).sum() / lengths) if lengths > 0 else 0.0


def _without_bias(product: NDArray[np.float64]) -> NDArray[np.float64]:
    """U-centred: products of two of these are unbiased (Szekely and Rizzo 2014)."""
    count = len(product)
    centred = product - np.diag(np.diag(product))
    sums = centred.sum(axis=0) / (count - 2)
    centred += sums.sum() / (count - 1) - sums - sums[:, None]
    np.fill_diagonal(centred, 0)
    return centred
