"""How complex maps are: as numbers, to see what grows from the first layer to the last."""

import math

import torch
from torch import Tensor

_DIRECTIONS = 8


def colour_variance(maps: Tensor) -> Tensor:
    """How much the colour of a map, not its brightness, varies over its pixels.

    A pixel's colour is what is left of its channels after their mean. The figure is the variance
    of that over the pixels, summed over the channels.

    Args:
        maps: (K, C, H, W) in [0, 1].

    Returns:
        (K,) float64, with three channels from 0 to 2/3: 0 for grey maps and for maps of one
        colour, however strong it is; 1/2 for a map half red and half green.
    """
    colour = maps.double() - maps.double().mean(dim=1, keepdim=True)
    return colour.flatten(2).var(dim=2, correction=0).sum(dim=1)


def spatial_frequency(maps: Tensor) -> Tensor:
    """Mean spatial frequency of a map, in cycles per image side.

    The centroid of the spectrum: the mean distance from 0 of all frequencies, each weighted with
    its power, over all channels. Frequencies count along each side of its own, so a sine of 4
    cycles down a wide map has 4 too. As in every discrete spectrum, the left edge follows on the
    right one: what differs between the two counts as a step.

    Args:
        maps: (K, C, H, W) in [0, 1].

    Returns:
        (K,) float64; 0 for constant maps.
    """
    power = torch.fft.fft2(_centred(maps)).abs().square().sum(dim=1)
    height, width = maps.shape[-2:]
    down = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64)
    across = torch.fft.fftfreq(width, 1 / width, dtype=torch.float64)
    frequency = torch.hypot(down.unsqueeze(1), across.unsqueeze(0))
    total = power.sum(dim=(1, 2)).clamp_min(torch.finfo(torch.float64).tiny)
    centroid: Tensor = (power * frequency).sum(dim=(1, 2)) / total
    return centroid


def orientation_entropy(maps: Tensor) -> Tensor:
    """How many directions the edges of a map have.

    The first-order entropy of edge orientations (Redies et al. 2017, "High entropy of edge
    orientations characterizes visual artworks") in 8 bins of 22.5 degrees, each edge weighted
    with its energy, in all channels. A direction has no sign: dark to bright is the same as bright
    to dark. White noise has all directions, so what is high here may be an object or nothing at
    all.

    Args:
        maps: (K, C, H, W) in [0, 1], of at least 2x2 pixels.

    Returns:
        (K,) float64 in [0, 1]: 0 for edges of one direction and for constant maps, 1 for edges
        of all directions in equal shares.
    """
    # Over cells of 2x2 pixels: differences of next but one miss stripes that are a pixel wide.
    centred = _centred(maps)
    right, down = centred.diff(dim=3), centred.diff(dim=2)
    across = (right[..., 1:, :] + right[..., :-1, :]).flatten(1)
    upright = (down[..., :, 1:] + down[..., :, :-1]).flatten(1)
    # Around the axes, not from axis to axis: what is level is in one bin despite rounding.
    steps = torch.atan2(upright, across) / math.pi * _DIRECTIONS
    direction = steps.round().long() % _DIRECTIONS
    energy = steps.new_zeros(len(maps), _DIRECTIONS)
    energy.scatter_add_(1, direction, across.square() + upright.square())
    total = energy.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    entropy: Tensor = torch.special.entr(energy / total).sum(dim=1)
    return entropy / math.log(_DIRECTIONS)


def complexity(maps: Tensor) -> dict[str, float]:
    """Mean over (K, C, H, W) maps, at least one, of each figure of this module, by its name."""
    return {
        "colour_variance": colour_variance(maps).mean().item(),
        "spatial_frequency": spatial_frequency(maps).mean().item(),
        "orientation_entropy": orientation_entropy(maps).mean().item(),
    }


def _centred(maps: Tensor) -> Tensor:
    """Each map without the mean of each of its channels, float64."""
    exact = maps.double()
    centred = exact - exact.mean(dim=(2, 3), keepdim=True)
    # What is left of a constant after rounding is no pattern.
    constant = centred.flatten(1).norm(dim=1) <= 1e-6 * exact.flatten(1).norm(dim=1)
    return torch.where(constant.view(-1, 1, 1, 1), 0.0, centred)
