"""Filters as pictures, and "partial outputs": what the layers make of one image."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from happymaps.datasets import to_input
from happymaps.networks import Network
from happymaps.understanding.layers import layer_outputs, neuron_layer


def kernels(network: Network) -> NDArray[np.float32]:
    """Kernels of the first convolution, (filters, C, kernel, kernel) in [0, 1]; 0.5 stands for 0.

    All have the same scale, so a faint filter looks faint.
    """
    weight = neuron_layer(network, "conv2d_1").weight.detach().cpu()
    largest = weight.abs().max().clamp_min(torch.finfo(weight.dtype).tiny)
    pictures: NDArray[np.float32] = (0.5 + weight / largest / 2).numpy()
    return pictures


@torch.inference_mode()
def feature_maps(network: Network, image: Tensor) -> dict[str, Tensor]:
    """Outputs of every layer that makes maps; dropouts only hand on what they are given.

    Args:
        network: in evaluation mode.
        image: (C, H, W) uint8.

    Returns:
        Per layer (filters, h, w) in [0, 1] on the CPU; 1 is the layer's largest output. Of a layer
        with outputs below 0, 0.5 stands for 0 and 1 for the largest magnitude.
    """
    device = next(network.parameters()).device
    maps = {}
    for name, outputs in layer_outputs(network, to_input(image.unsqueeze(0).to(device))):
        if outputs.ndim == 4 and not isinstance(network.get_submodule(name), nn.Dropout):
            largest = outputs.abs().max().clamp_min(torch.finfo(outputs.dtype).tiny)
            shares = (outputs[0] / largest).cpu()
            maps[name] = 0.5 + shares / 2 if (shares < 0).any() else shares
    return maps
