"""Is a network right as often as it says?"""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

_BINS = 15
_LARGEST = 20.0  # temperatures are looked for between this and its inverse


def reliability(logits: Tensor, labels: Tensor) -> pd.DataFrame:
    """A reliability diagram (Niculescu-Mizil and Caruana 2005).

    Args:
        logits: (N, classes) before a softmax.
        labels: (N,) numbers of the classes.

    Returns:
        A row for each of 15 bins of confidence with an image in it: `images`, mean `confidence`
        and `accuracy`.
    """
    best = logits.double().softmax(dim=1).max(dim=1)
    table = pd.DataFrame(
        {
            "bin": np.minimum((best.values.numpy() * _BINS).astype(int), _BINS - 1),
            "confidence": best.values.numpy(),
            "accuracy": (best.indices == labels).double().numpy(),
        }
    )
    bins = table.groupby("bin")
    return bins.mean().assign(images=bins.size())[["images", "confidence", "accuracy"]]


def expected_calibration_error(table: pd.DataFrame) -> float:
    """The mean distance of accuracy and confidence over the images (Naeini et al. 2015).

    Args:
        table: from `reliability`.
    """
    distance = (table["accuracy"] - table["confidence"]).abs()
    return float((distance * table["images"]).sum() / table["images"].sum())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The number by which to divide logits so that their loss is least (Guo et al. 2017).

    Answers stay the same, only confidences change.

    Args:
        logits: (N, classes) of images that the network has not learned from.
        labels: (N,) numbers of the classes.

    Returns:
        Between 1/20 and 20; above 1 where the network is too sure.
    """
    exact = logits.double()

    def loss(logarithm: float) -> float:
        scaled = exact / float(np.exp(logarithm))
        return torch.nn.functional.cross_entropy(scaled, labels).item()

    limit = float(np.log(_LARGEST))
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def rescaled_by_others(logits: Tensor, labels: Tensor, groups: NDArray[np.intp]) -> Tensor:
    """Logits divided by a temperature that was fitted on the other groups.

    Args:
        logits: (N, classes).
        labels: (N,) numbers of the classes.
        groups: (N,), such as the number of each image's fold; at least two.

    Returns:
        (N, classes).
    """
    rescaled = logits.clone()
    for group in np.unique(groups):
        here = torch.from_numpy(groups == group)
        rescaled[here] = logits[here] / fit_temperature(logits[~here], labels[~here])
    return rescaled
