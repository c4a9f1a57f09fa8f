"""HappyMaps: for a neuron, the image that makes it happiest.

Gradient ascent on the input (Erhan et al. 2009, "Visualizing higher-layer features of a deep
network"), with a norm penalty as Simonyan et al. 2013 ("Deep inside convolutional networks") have
it, a higher norm and total variation as in Mahendran and Vedaldi 2015 ("Understanding deep image
representations by inverting them"), the normalised gradients and the jitter of Mordvintsev et al.
2015 ("Inceptionism"), and the Fourier parametrisation and random transformations of Olah et al.
2017 ("Feature visualization").
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from happymaps.devices import computes_in_bfloat16
from happymaps.networks import Conv2D, Network
from happymaps.params import HappymapsParams
from happymaps.understanding.layers import (
    decision_scores,
    layer_outputs,
    neuron_layer,
    pool_filters,
)

# Below 0 a neuron is silent: so much of its slope is left that it can be woken.
_LEAK = 0.01
# The start is noise before the sigmoid, of every frequency: from plain grey, a filter that answers
# to edges never finds one, and the ascent ends where nothing is active.
_START = 0.6
# Each output is kept for the way back, and has a gradient, and scratch space beside it.
_COPIES = 3
_MIB = 2**20


@dataclass(frozen=True)
class HappyMaps:
    """Maps of some neurons of a layer.

    Attributes:
        images: (K, C, H, W) float32 in [0, 1].
        reachable: (K,) bool: whether the neuron ever had a gradient.
    """

    images: Tensor
    reachable: Tensor


def happy_maps(
    network: Network,
    layer: str,
    params: HappymapsParams,
    *,
    seed: int,
    neurons: Sequence[int] | None = None,
    bar: "tqdm[Any] | None" = None,
) -> HappyMaps:
    """The maps of a layer's neurons, as many at once as the memory in params allows.

    All neurons start from the same seeded noise and see the same transformations, so that two
    neurons that want the same get the same map. The network comes back as it was.

    Args:
        network: any that `networks` builds; its device is used.
        layer: a convolution or dense layer.
        params: how the maps are made.
        seed: of the start and the transformations.
        neurons: which, at least one; all of the layer by default.
        bar: moved on by one for every neuron done.

    Raises:
        KeyError: when the layer is none of the network's.
    """
    count = len(neuron_layer(network, layer).weight)
    wanted = list(range(count)) if neurons is None else list(neurons)
    parts = []
    with _frozen(network):
        size = _chunk_size(network, params.memory)
        for start in range(0, len(wanted), size):
            chosen = torch.tensor(wanted[start : start + size])
            parts.append(_ascend(network, layer, chosen, params, seed))
            if bar is not None:
                bar.update(len(chosen))
    return HappyMaps(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


@contextmanager
def _frozen(network: Network) -> Iterator[None]:
    """In evaluation mode and without gradients of the weights; afterwards as before."""
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(weights, weights.requires_grad) for weights in network.parameters()]
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for weights, requires_grad in wanted:
            weights.requires_grad_(requires_grad)


def _ascend(
    network: Network,
    layer: str,
    neurons: Tensor,
    params: HappymapsParams,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Maps (K, C, H, W) and reachability (K,) of one chunk, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    shape = network.image_shape
    device = next(network.parameters()).device
    start, render = _PARAMETRIZATIONS[params.parametrization](shape, generator)
    point = start.expand(len(neurons), *start.shape).to(device).clone().requires_grad_()
    optimizer = torch.optim.Adam([point], lr=params.learning_rate)
    reachable = torch.zeros(len(neurons), dtype=torch.bool, device=device)
    mixed = computes_in_bfloat16(params.precision, device)
    for _ in range(params.steps):
        images = render(point)
        seen = images.detach().requires_grad_()
        moved = _moved(seen, params, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            happiness = _happiness(network, layer, neurons, moved, params)
        (gradient,) = torch.autograd.grad(happiness.sum(), seen)
        strength = gradient.square().mean(dim=(1, 2, 3)).sqrt()
        reachable |= strength > 0
        # Layers differ in their slopes by orders of magnitude; penalties need one measure for all.
        pull = gradient / strength.clamp_min(torch.finfo().tiny).view(-1, 1, 1, 1)
        optimizer.zero_grad()
        (_penalty(images, params) - (pull * images).sum()).backward()
        optimizer.step()
    with torch.inference_mode():
        return render(point).cpu(), reachable.cpu()


def _happiness(
    network: Network, layer: str, neurons: Tensor, images: Tensor, params: HappymapsParams
) -> Tensor:
    """(K,): what neuron k answers to image k; the other neurons of the layer are not computed."""
    module = neuron_layer(network, layer)
    if layer == network.decision_layer:
        scores = decision_scores(network, network.logits(images), params.decision)
        return scores[torch.arange(len(neurons)), neurons]
    inputs = network.inputs_of(layer, images)
    if isinstance(module, Conv2D):
        outputs = nn.functional.leaky_relu(_own_filters(module, neurons, inputs), _LEAK)
        return pool_filters(outputs, params.filters).squeeze(1)
    outputs = (inputs * module.weight[neurons]).sum(dim=1) + module.bias[neurons]
    return nn.functional.leaky_relu(outputs, _LEAK)


def _own_filters(layer: Conv2D, neurons: Tensor, inputs: Tensor) -> Tensor:
    """(K, C, H, W) -> (K, 1, h, w): image k through filter `neurons[k]` alone."""
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    edge = int(layer.padding[0])
    inputs = nn.functional.pad(inputs, (edge, edge, edge, edge)) if edge else inputs
    height, width = inputs.shape[2:]
    weights = layer.weight[neurons].flatten(2).transpose(1, 2)
    # One matrix product an image, and its rows moved over each other: 3 times faster than groups.
    products = torch.bmm(weights, inputs.flatten(2)).view(-1, kernel, kernel, height, width)
    rows, columns = height - kernel + 1, width - kernel + 1
    outputs = layer.bias[neurons].view(-1, 1, 1)
    for row in range(kernel):
        for column in range(kernel):
            outputs = (
                outputs + products[:, row, column, row : row + rows, column : column + columns]
            )
    return outputs[:, ::stride, ::stride].unsqueeze(1)


def _penalty(images: Tensor, params: HappymapsParams) -> Tensor:
    """Total variation (of absolute differences, down and across), and the Lp norm of the contrast
    (0 for grey, 1 for black and white) to the power of p, over p; summed over everything.
    """
    penalty = images.new_zeros(())
    if params.total_variation:
        across = (images[..., 1:] - images[..., :-1]).abs().sum()
        down = (images[..., 1:, :] - images[..., :-1, :]).abs().sum()
        penalty = penalty + params.total_variation * (across + down)
    if params.norm:
        contrast = (2 * images - 1).abs()
        penalty = penalty + params.norm * contrast.pow(params.norm_p).sum() / params.norm_p
    return penalty


def _moved(images: Tensor, params: HappymapsParams, generator: torch.Generator) -> Tensor:
    """Images (K, C, H, W) shifted, scaled and turned at random, all of them alike."""
    if not (params.jitter or params.scale or params.rotation):
        return images
    x, y, scale, turn = (2 * torch.rand(4, generator=generator) - 1).tolist()
    angle, factor = turn * params.rotation, 1 + scale * params.scale
    # The grid spans -1 to 1: twice the fraction of the image.
    rows = [
        [math.cos(angle) / factor, -math.sin(angle) / factor, 2 * x * params.jitter],
        [math.sin(angle) / factor, math.cos(angle) / factor, 2 * y * params.jitter],
    ]
    count, channels, *size = images.shape
    # Side by side as channels of an image a thread: the grid is worked out once for all of them.
    groups = math.gcd(count * channels, torch.get_num_threads())
    side_by_side = images.reshape(groups, -1, *size)
    affine = torch.tensor([rows], dtype=images.dtype, device=images.device)
    grid = nn.functional.affine_grid(affine, [1, 1, *size], align_corners=False)
    moved = nn.functional.grid_sample(
        side_by_side, grid.expand(groups, -1, -1, -1), padding_mode="border", align_corners=False
    )
    return moved.view_as(images)


Render = Callable[[Tensor], Tensor]


def _pixel(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[Tensor, Render]:
    """A number a pixel; through a sigmoid, so that images stay in [0, 1]."""
    return _noise(shape, generator), torch.sigmoid


def _fourier(shape: tuple[int, int, int], generator: torch.Generator) -> tuple[Tensor, Render]:
    """Amplitudes of waves, the long ones the more: neighbours move together, as in photographs.

    Scaled so that one step moves a pixel about as much as in `_pixel`, whatever the image's size.
    """
    size = shape[1:]
    down, across = torch.fft.fftfreq(size[0]), torch.fft.rfftfreq(size[1])
    frequencies = torch.hypot(down.unsqueeze(1), across.unsqueeze(0))
    scale = 1 / frequencies.clamp_min(1 / max(size))
    scale = (scale / scale.square().mean().sqrt()).unsqueeze(-1)

    def render(spectrum: Tensor) -> Tensor:
        waves = torch.view_as_complex(spectrum * scale.to(spectrum.device))
        image: Tensor = torch.fft.irfft2(waves, s=size, norm="ortho")
        return image.sigmoid()

    waves = torch.fft.rfft2(_noise(shape, generator), norm="ortho")
    return torch.view_as_real(waves) / scale, render


def _noise(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    return _START * torch.randn(shape, generator=generator)


_PARAMETRIZATIONS = {"pixel": _pixel, "fourier": _fourier}


def _chunk_size(network: Network, memory: int) -> int:
    """How many neurons' maps fit into `memory` MiB at once, at least one."""
    with torch.inference_mode():
        device = next(network.parameters()).device
        image = torch.zeros(1, *network.image_shape, device=device)
        numbers = image.numel() + sum(out.numel() for _, out in layer_outputs(network, image))
    return max(1, memory * _MIB // (numbers * image.element_size() * _COPIES))
