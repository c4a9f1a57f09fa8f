"""A network without some of its neurons: the proof that it does not miss them."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from happymaps.answering import logits_of
from happymaps.datasets import LabelledImages, batches
from happymaps.networks import Conv2D, Network
from happymaps.understanding.layers import layer_outputs, neuron_layer, neuron_layers
from happymaps.understanding.neurons import FLAGS, Neuron

# Per layer, the neurons to take out, each with the neuron that it repeats or None.
Removed = Mapping[str, Mapping[int, int | None]]

_RANDOM_ROUNDS = 10

# Of the square of a mean: a variance that is no more than this is none.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Moments:
    """Mean (K,) and covariance (K, K) of what a layer's neurons hand on, float64."""

    mean: Tensor
    covariance: Tensor

    def varies(self, neuron: int) -> bool:
        """Whether more than rounding lets it."""
        return bool(self.covariance[neuron, neuron] > _ROUNDING * self.mean[neuron] ** 2)

    def likest(self, neuron: int, others: Sequence[int]) -> int | None:
        """Of others that vary, the one that tells most of a neuron by a line; None without any."""
        able = [other for other in others if self.varies(other)]
        told = [self.covariance[neuron, one] ** 2 / self.covariance[one, one] for one in able]
        return able[int(torch.stack(told).argmax())] if able else None


@torch.inference_mode()
def moments(network: Network, images: Tensor) -> dict[str, Moments]:
    """What every layer but the decision layer hands on to the next, over images and places.

    Args:
        network: in evaluation mode.
        images: (N, C, H, W) uint8.
    """
    names = [name for name in neuron_layers(network) if name != network.decision_layer]
    sizes = neuron_layers(network)
    sums = {name: torch.zeros(sizes[name], dtype=torch.float64) for name in names}
    products = {name: torch.zeros(sizes[name], sizes[name], dtype=torch.float64) for name in names}
    counts = dict.fromkeys(names, 0)
    device = next(network.parameters()).device
    for batch in batches(images, device):
        for name, given in _handed_on(network, batch):
            # In float64, or little would be left of the variance of what hardly varies.
            values = given.double().view(len(batch), sizes[name], -1).transpose(0, 1).flatten(1)
            sums[name] += values.sum(dim=1).cpu()
            products[name] += (values @ values.T).cpu()
            counts[name] += values.shape[1]
    means = {name: sums[name] / counts[name] for name in names}
    return {
        name: Moments(means[name], products[name] / counts[name] - means[name].outer(means[name]))
        for name in names
    }


def _handed_on(network: Network, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Each layer's name with what the next layer of neurons is given of it."""
    sender, given = None, images
    for name, outputs in layer_outputs(network, images):
        if name in neuron_layers(network):
            if sender is not None:
                yield sender, given.contiguous()
            sender = name
        given = outputs


def without(network: Network, removed: Removed, moments_of: dict[str, Moments]) -> Network:
    """A copy of the network that some neurons have been taken out of, without training.

    What the next layer was given of a neuron is replaced: for a twin, by the line through the
    neuron that it repeats (least squares), if that varies; for every other by its mean. The neuron
    itself says 1 whatever it sees; what that is worth stands in the next layer's weights, so that a
    convolution still is given 0 where its padding is.

    Args:
        network: stays as it is.
        removed: per layer, the neurons to take out, each with the neuron it repeats or None.
        moments_of: of the same network, on the images that stand for what it will see.
    """
    pruned = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    layers = list(neuron_layers(network))
    for name, following in pairwise(layers):
        layer, next_layer = neuron_layer(pruned, name), neuron_layer(pruned, following)
        _take_out(layer, next_layer, removed.get(name, {}), moments_of[name])
    return pruned.to(memory_format=torch.channels_last)


@torch.no_grad()
def _take_out(
    layer: Conv2D | nn.Linear,
    next_layer: Conv2D | nn.Linear,
    removed: Mapping[int, int | None],
    known: Moments,
) -> None:
    # (outputs, neurons, places of the kernel or of the flattened map)
    weight = next_layer.weight.view(len(next_layer.weight), len(layer.weight), -1)
    # Twins first: the neuron that they repeat may be one to be taken out itself.
    for neuron, model in sorted(removed.items(), key=lambda item: item[1] is None):
        constant = known.mean[neuron].item()
        if model is not None and known.varies(model):
            slope = (known.covariance[neuron, model] / known.covariance[model, model]).item()
            constant -= slope * known.mean[model].item()
            weight[:, model] += slope * weight[:, neuron]
        weight[:, neuron] *= constant
        layer.weight[neuron] = 0
        layer.bias[neuron] = 1


def random_neurons(removed: Removed, moments_of: Mapping[str, Moments], seed: int) -> Removed:
    """As many neurons of each layer as in `removed`, by chance, and at least as well replaced.

    As many of them as `removed` has twins are replaced by the best line through a neuron that
    stays; a twin only by the line through the one that it repeats, which may be removed itself.

    Args:
        removed: as for `without`, as is `moments_of`.
        moments_of: see there.
        seed: of the choice.
    """
    generator = np.random.default_rng(seed)
    found: dict[str, dict[int, int | None]] = {}
    for name, advised in removed.items():
        known = moments_of[name]
        order = generator.permutation(len(known.mean)).tolist()
        chosen, staying = order[: len(advised)], order[len(advised) :]
        twins = sum(model is not None for model in advised.values())
        found[name] = {
            neuron: known.likest(neuron, staying) if number < twins else None
            for number, neuron in enumerate(chosen)
        }
    return found


def prove(
    network: Network,
    verdicts: dict[str, list[Neuron]],
    train: LabelledImages,
    tests: dict[str, LabelledImages],
    seed: int,
) -> dict[str, Any]:
    """What the network can do without the neurons that it is said not to need.

    The flags are taken out one after the other, each on top of those before it; beside each, as
    many neurons of the same layers chosen at random and at least as well replaced.

    Args:
        network: in evaluation mode.
        verdicts: per layer before the decision, what is known of each neuron, in their order.
        train: images from which what replaces a neuron is fitted.
        tests: sets to answer, by name; empty ones are left out.
        seed: of the random choices.

    Returns:
        `inner_neurons`, how many there are; `balanced_accuracy` of the whole network per test set,
        the mean of the recalls of the classes that occur (always the same answer must not look
        good); and under `without`, for each step, how many are `removed`, how many of each layer,
        and the balanced accuracy then, beside that of `without_random`: its mean, lowest and
        highest.
    """
    tests = {name: faces for name, faces in tests.items() if len(faces)}
    known = moments(network, train.images)
    sizes = neuron_layers(network)
    inner = sum(sizes[layer] for layer in verdicts)
    steps = {}
    for number in range(1, len(FLAGS) + 1):
        flags = FLAGS[:number]
        removed = {
            layer: {index: one.twin for index, one in enumerate(neurons) if one.flag in flags}
            for layer, neurons in verdicts.items()
        }
        rounds = [
            _accuracies(without(network, random_neurons(removed, known, seed + turn), known), tests)
            for turn in range(_RANDOM_ROUNDS)
        ]
        by_layer = {layer: len(chosen) for layer, chosen in removed.items()}
        steps["_and_".join(flags)] = {
            "removed": sum(by_layer.values()),
            "removed_by_layer": by_layer,
            "balanced_accuracy": _accuracies(without(network, removed, known), tests),
            "without_random": {
                name: _spread([accuracies[name] for accuracies in rounds]) for name in tests
            },
        }
    whole = _accuracies(network, tests)
    return {"inner_neurons": inner, "balanced_accuracy": whole, "without": steps}


def _accuracies(network: Network, tests: dict[str, LabelledImages]) -> dict[str, float]:
    return {name: _balanced_accuracy(network, faces) for name, faces in tests.items()}


def _balanced_accuracy(network: Network, images: LabelledImages) -> float:
    labels = images.labels(network.spec)
    right = (logits_of(network, images.images).argmax(dim=1) == labels).double()
    return torch.stack([right[labels == kind].mean() for kind in labels.unique()]).mean().item()


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "lowest": min(values), "highest": max(values)}
