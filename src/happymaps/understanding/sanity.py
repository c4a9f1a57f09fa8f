"""Whether a map depends on what the network learned: the model randomisation test.

The layers' weights are replaced by random ones, from the decision layer down to the first, and the
images are explained again (Adebayo et al. 2018, "Sanity checks for saliency maps"). A method whose
maps stay as they were shows the image and not the network: an edge detector does.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from happymaps.networks import Network
from happymaps.understanding.intervals import mean_interval
from happymaps.understanding.layers import neuron_layer, neuron_layers
from happymaps.understanding.similarity import correlations

# Below it, less than a quarter of the ranks' variance is left. It was set when first figures were
# known: plain and smoothed gradients of the face networks had come down to 0.1-0.3, guided
# backpropagation's to 0.4-0.5; what is multiplied by the image (gradient times input, integrated
# gradients) stayed at 0.55-0.8, for the image's own contrast stays in it.
LIMIT = 0.5

# Side of the window that structural similarity compares, as its library has it.
_WINDOW = 7


def randomised(network: Network, seed: int) -> Iterator[tuple[str, Network]]:
    """Networks with more and more random layers, from the decision layer down to the first.

    The random weights are Glorot-uniform and the biases zero, whatever the network began with.

    Args:
        network: stays as it is.
        seed: of the weights.

    Yields:
        The layer that was replaced last, and a copy of the network in which it and all convolution
        and dense layers behind it are random.
    """
    generator = torch.Generator().manual_seed(seed)
    for name in reversed(neuron_layers(network)):
        network = copy.deepcopy(network)
        layer = neuron_layer(network, name)
        # Drawn on the CPU, so that every device gets the same.
        weight = nn.init.xavier_uniform_(torch.empty(layer.weight.shape), generator=generator)
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.zero_()
        yield name, network


def rank_correlations(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's correlation of each map with the other of the same image, in strength alone.

    Absolute values are ranked: a map that only turned its sign names the same pixels.

    Args:
        one: (N, H, W) on the CPU, none of one value.
        other: (N, H, W) on the CPU, none of one value.

    Returns:
        (N,) float64 in [-1, 1] but for rounding.
    """
    ranks = [
        torch.from_numpy(rankdata(maps.abs().flatten(1).numpy(), axis=1)) for maps in (one, other)
    ]
    return correlations(*ranks).diagonal()


def structural_similarities(one: Tensor, other: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004) of each map with the other of the same image, in strength alone.

    Absolute values are compared, each map's stretched to [0, 1].

    Args:
        one: (N, H, W) on the CPU, sides of at least 3, none of one value.
        other: (N, H, W) on the CPU, none of one value.

    Returns:
        (N,) float64 in [-1, 1].
    """
    window = min(_WINDOW, *one.shape[1:])
    window -= 1 - window % 2
    pairs = zip(_stretched(one), _stretched(other), strict=True)
    found: list[float] = [
        structural_similarity(left, right, win_size=window, data_range=1)  # type: ignore[no-untyped-call]
        for left, right in pairs
    ]
    return torch.tensor(found, dtype=torch.float64)


def _constant(maps: Tensor) -> Tensor:
    """(N, H, W) -> (N,) bool, by their absolute values."""
    strength = maps.abs()
    most, least = strength.amax(dim=(1, 2)), strength.amin(dim=(1, 2))
    # What is left of a constant after rounding is no map.
    return most - least <= 1e-6 * most


def _stretched(maps: Tensor) -> NDArray[np.float64]:
    strength = maps.abs().double()
    low = strength.amin(dim=(1, 2), keepdim=True)
    height = strength.amax(dim=(1, 2), keepdim=True) - low
    stretched: NDArray[np.float64] = ((strength - low) / height).numpy()
    return stretched


def sanity(
    trained: Tensor,
    explain: Callable[[Network], Tensor],
    network: Network,
    *,
    seed: int,
    networks: int,
) -> dict[str, Any]:
    """How much of a method's maps is left when the network has forgotten what it learned.

    A method passes when the mean correlation is surely below `LIMIT` once all layers are random:
    the upper end of its 95 % interval (`mean_interval`) over the random networks, each of which
    counts with its mean over the images. From network to network it varies far more than from image
    to image. An edge detector keeps 1.0, and so does noise that no network had a part in: both
    fail. A map that is the same everywhere, the trained network's or the random one's, says
    nothing, which is no proof: such pairs are left out, and networks that have no other.

    Args:
        trained: (N, H, W), the trained network's maps of some images, on the CPU.
        explain: maps of the same images and the same classes for any network.
        network: the trained one; stays as it is.
        seed: of the first one's random weights; the others' are counted up from it.
        networks: how many random ones; with fewer than twelve left, no method passes.

    Returns:
        With all layers random `silent`, the share of pairs of maps that are left out, `networks`,
        how many count, and over these `correlation`, the mean of the rank correlation's absolute
        value, `correlation_interval` and `ssim`, the mean structural similarity, 0 where none is
        left; `cascade`, `silent`, `correlation` and `ssim` for every layer, when it and all behind
        it are random in the first network; and `passes`.
    """
    cascade = {
        name: _likeness(trained, explain(other)) for name, other in randomised(network, seed)
    }
    *_, first = cascade.values()
    others = [
        _likeness(trained, explain(_all_random(network, seed + number)))
        for number in range(1, networks)
    ]
    found = [first, *others]
    loud = [one for one in found if one["silent"] < 1]
    values = torch.tensor([one["correlation"] for one in loud], dtype=torch.float64)
    mean, low, high = mean_interval(values, seed=seed) if loud else (0.0, 0.0, 1.0)
    return {
        "silent": float(np.mean([one["silent"] for one in found])),
        "networks": len(loud),
        "correlation": mean,
        "correlation_interval": [low, high],
        "ssim": float(np.mean([one["ssim"] for one in loud])) if loud else 0.0,
        "cascade": cascade,
        "passes": high < LIMIT,
    }


def _all_random(network: Network, seed: int) -> Network:
    *_, (_, last) = randomised(network, seed)
    return last


def _likeness(one: Tensor, other: Tensor) -> dict[str, float]:
    loud = ~(_constant(one) | _constant(other))
    if not loud.any():
        return {"silent": 1.0, "correlation": 0.0, "ssim": 0.0}
    one, other = one[loud], other[loud]
    return {
        "silent": 1 - loud.double().mean().item(),
        "correlation": rank_correlations(one, other).abs().mean().item(),
        "ssim": structural_similarities(one, other).mean().item(),
    }
