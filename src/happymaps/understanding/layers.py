"""A network's layers, and what their neurons answer to images."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from happymaps.datasets import batches
from happymaps.networks import POOL, Conv2D, MaxPooling2D, Network

FilterObjective = Literal["mean", "centre"]
DecisionObjective = Literal["head", "logit"]


def neuron_layers(network: Network) -> dict[str, int]:
    """Names of the convolution and dense layers with their numbers of neurons, in their order."""
    return {
        name: len(layer.weight)
        for name, layer in network.named_children()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def neuron_layer(network: Network, name: str) -> Conv2D | nn.Linear:
    """One of `neuron_layers`.

    Raises:
        KeyError: when the network has no such layer, or it has no neurons.
    """
    layer = dict(network.named_children())[name]
    if not isinstance(layer, Conv2D | nn.Linear):
        raise KeyError(name)
    return layer


def layer_outputs(
    network: Network, images: Tensor, last: str | None = None
) -> Iterator[tuple[str, Tensor]]:
    """(N, C, H, W) in [0, 1] -> each layer's name and output, up to `last`, or the decision's."""
    for name, layer in network.named_children():
        images = layer(images)
        yield name, images
        if name in (last, network.decision_layer):
            return


def cells_of(network: Network, name: str) -> tuple[float, int]:
    """Where the cells of a convolution's or max-pool's maps look.

    Returns:
        The centre of what the first cell sees, in pixels from the first one's centre, and how many
        pixels further each next one looks; both are the same for rows and columns.

    Raises:
        KeyError: when the network has no such layer, or it has no maps.
    """
    centre, step = 0.0, 1
    for here, layer in network.named_children():
        if not isinstance(layer, Conv2D | MaxPooling2D):
            continue
        if isinstance(layer, Conv2D):
            centre += step * ((layer.kernel_size[0] - 1) / 2 - int(layer.padding[0]))
            step *= layer.stride[0]
        else:
            centre += step * (POOL - 1) / 2
            step *= POOL
        if here == name:
            return centre, step
    raise KeyError(name)


def pool_filters(outputs: Tensor, objective: FilterObjective) -> Tensor:
    """(N, filters, h, w) -> (N, filters): the mean over the map, or its centre neuron."""
    if objective == "mean":
        return outputs.mean(dim=(2, 3))
    return outputs[:, :, outputs.shape[2] // 2, outputs.shape[3] // 2]


def decision_scores(network: Network, logits: Tensor, objective: DecisionObjective) -> Tensor:
    """What the decision layer's neurons are asked to make large: (N, classes) -> the same.

    After a softmax head it is the log-odds of a class's probability: the image that makes one
    largest makes the other largest too, but a probability of 1.0 has no gradient left. Without
    a head, and as `logit`, it is the neuron's output.
    """
    if objective == "logit" or network.spec.head == "linear":
        return logits
    count = logits.shape[1]
    others = logits.unsqueeze(1).expand(-1, count, -1)
    itself = torch.eye(count, dtype=torch.bool, device=logits.device)
    return logits - others.masked_fill(itself, -torch.inf).logsumexp(dim=2)


@torch.inference_mode()
def activations(
    network: Network,
    images: Tensor,
    filters: FilterObjective,
    decision: DecisionObjective,
    layers: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """What every neuron answers to every image.

    Args:
        network: in evaluation mode.
        images: (N, C, H, W) uint8, or float32 in [0, 1].
        filters: how a filter's map becomes one number.
        decision: as in `decision_scores`.
        layers: whose neurons, at least one's; by default all of `neuron_layers`. Nothing behind
            them is computed.

    Returns:
        Per layer (N, neurons) float32 on the CPU; layers before the decision after their ReLU.

    Raises:
        KeyError: when the network has no such layer, or it has no neurons.
    """
    device = next(network.parameters()).device
    order = {name: number for number, name in enumerate(neuron_layers(network))}
    wanted = sorted(order if layers is None else {*layers}, key=order.__getitem__)
    found: dict[str, list[Tensor]] = {name: [] for name in wanted}
    for batch in batches(images, device):
        for name, outputs in layer_outputs(network, batch, last=wanted[-1]):
            if name not in found:
                continue
            if name == network.decision_layer:
                outputs = decision_scores(network, outputs, decision)
            elif outputs.ndim == 4:
                outputs = pool_filters(outputs, filters)
            found[name].append(outputs.cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}
