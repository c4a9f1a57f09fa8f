"""A network's spec -> a torch module with named layers, and its file."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from happymaps.errors import InputError
from happymaps.files import replacing
from happymaps.params import ColourCropParams, NetworkParams, TrainingCropParams

# safetensors writes several metadata keys in no fixed order: one key keeps the bytes the same.
_METADATA_KEY = "happymaps"

# A standard deviation that is no more than the rounding of the images.
_FLATTEST = 1 / 255

# What is fainter than this standard deviation is not made as strong as the rest.
_FAINT = 0.05
# Along a side of an image, in each of which a mean is taken.
_CELLS = 16

_CROP: TypeAdapter[TrainingCropParams | ColourCropParams] = TypeAdapter(
    TrainingCropParams | ColourCropParams
)

# Side of the squares that the max-pools take together; what does not fill one is dropped.
POOL = 2

# Channels, up to which `_FewChannels` is the faster way.
_FEW = 4


class _FewChannels(torch.autograd.Function):
    """An unpadded convolution that gives images a gradient by one matrix product.

    For the first layer, whose images have few channels, four times as fast as the library's own.
    Its weights get no gradient.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, filters, H - kernel + 1, W - kernel + 1)."""
        ctx.save_for_backward(weight)
        ctx.shape = images.shape
        return nn.functional.conv2d(images, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Spread every output's gradient over the pixels that it came from."""
        (weight,) = ctx.saved_tensors
        (gradient,) = gradients
        count, channels, height, width = ctx.shape
        rows, columns = gradient.shape[2:]
        pixels = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))
        flat = weight.flatten(1).T.to(gradient.dtype)
        shares = (flat @ pixels.T).view(*weight.shape[1:], count, rows, columns)
        spread = weight.new_zeros(channels, count, height, width)
        for row in range(weight.shape[2]):
            for column in range(weight.shape[3]):
                part = spread[:, :, row : row + rows, column : column + columns]
                part += shares[:, row, column]
        return spread.transpose(0, 1), None, None


class Standardization(nn.Module):
    """Brings every image to mean 0 and variance 1, so that light and contrast tell nothing."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> the same; an image of one shade becomes 0."""
        return nn.functional.layer_norm(images, images.shape[1:], eps=_FLATTEST**2)


class LocalStandardization(nn.Module):
    """Brings every place of an image to mean 0 and variance 1 with what is around it.

    So a face looks alike before a dark wall and a bright one, and lit from one side. After the
    local contrast normalization of Jarrett et al. 2009 ("What is the best multi-stage architecture
    for object recognition?").
    """

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> the same; flat places become about 0."""
        mean = _around(images)
        variance = (_around(images**2) - mean**2).clamp(min=0)
        return (images - mean) / (variance + _FAINT**2).sqrt()


def _around(images: Tensor) -> Tensor:
    """(N, C, H, W) -> the mean over about a third of the image around each place."""
    height, width = images.shape[2:]
    cell = max(1, round(width / _CELLS))
    down, across = -height % cell, -width % cell
    if down or across:  # up to whole cells, or they would be stretched over the rest
        images = nn.functional.pad(images, (0, across, 0, down), mode="replicate")
    coarse = nn.functional.avg_pool2d(images, cell)
    smooth = nn.functional.avg_pool2d(coarse, 5, stride=1, padding=2, count_include_pad=False)
    size = images.shape[2:]
    fine = nn.functional.interpolate(smooth, size, mode="bilinear", align_corners=False)
    return fine[..., :height, :width]


class Conv2D(nn.Conv2d):
    """A convolution with its ReLU, one layer as in the tutorials."""

    bias: Tensor
    batch_norm: nn.BatchNorm2d | None

    def __init__(
        self, channels: int, filters: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(channels, filters, kernel, stride, padding)
        self.batch_norm = None

    def before_relu(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, filters, h, w); without padding and stride H - kernel + 1 high."""
        if self.batch_norm is not None:
            return self.batch_norm(super().forward(images))  # type: ignore[no-any-return]
        plain = self.padding == (0, 0) and self.stride == (1, 1) and self.in_channels <= _FEW
        if plain and images.requires_grad and not self.weight.requires_grad:
            return _FewChannels.apply(images, self.weight, self.bias)  # type: ignore[no-any-return]
        return super().forward(images)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parent's name
        """As `before_relu`, but at least 0."""
        return nn.functional.relu_(self.before_relu(input))


class Dense(nn.Linear):
    """A fully connected layer with its ReLU."""

    batch_norm: nn.BatchNorm1d | None

    def __init__(self, inputs: int, neurons: int) -> None:
        super().__init__(inputs, neurons)
        self.batch_norm = None

    def before_relu(self, inputs: Tensor) -> Tensor:
        """(N, inputs) -> (N, neurons)."""
        outputs = super().forward(inputs)
        return outputs if self.batch_norm is None else self.batch_norm(outputs)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parent's name
        """As `before_relu`, but at least 0."""
        return nn.functional.relu_(self.before_relu(input))


class MaxPooling2D(nn.MaxPool2d):
    """A 2x2 max-pool; with `batch_norm` `pooled`, what it gives is normalized while it learns."""

    batch_norm: nn.BatchNorm2d | None

    def __init__(self) -> None:
        super().__init__(POOL)
        self.batch_norm = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parent's name
        """(N, C, H, W) -> (N, C, H // 2, W // 2)."""
        outputs: Tensor = super().forward(input)
        return outputs if self.batch_norm is None else self.batch_norm(outputs)


class Network(nn.Sequential):
    """A small CNN whose layers are named as the field's tutorials name them.

    `conv2d_1, max_pooling2d_1, conv2d_2, ..., flatten, dense_1, ..., dropout, dense_N` and, with a
    softmax head, `softmax`; where images are normalized, `standardization` before all others, and
    `pool_dropout_1, ...` behind the pools. The last dense layer is the decision layer.
    """

    def __init__(self, spec: NetworkParams, image_size: int, channels: int = 1) -> None:
        super().__init__(_layers(spec, image_size, channels))
        self.spec = spec
        self.image_size = image_size
        self.image_shape = (channels, image_size, image_size)

    @property
    def decision_layer(self) -> str:
        """Name of the last dense layer."""
        return f"dense_{len(self.spec.dense) + 1}"

    @property
    def last_convolution(self) -> str:
        """Name of the layer whose maps are the coarsest."""
        return f"conv2d_{sum(map(len, self.spec.blocks))}"

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parent's name
        """(N, C, H, W) in [0, 1] -> (N, classes), after the head."""
        return apply_head(self.spec, self.logits(input))

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> (N, classes), before the head."""
        return self.before_relu(self.decision_layer, images)

    def before_relu(self, name: str, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> outputs of a convolution or dense layer before its ReLU.

        Nothing behind that layer is computed.
        """
        layer = self.get_submodule(name)
        inputs = self.inputs_of(name, images)
        return layer.before_relu(inputs) if isinstance(layer, Conv2D | Dense) else layer(inputs)

    def inputs_of(self, name: str, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> what the layer `name` is given."""
        self.get_submodule(name)  # raises AttributeError for one that is not there
        layers = list(self.named_children())
        for (here, layer), (following, next_layer) in pairwise(layers):
            if here == name:
                break
            # The largest of four, then its ReLU: the same numbers as the other way round, from a
            # quarter of the work.
            pooled = isinstance(next_layer, MaxPooling2D) and following != name
            if isinstance(layer, Conv2D) and pooled:
                images = layer.before_relu(images)
            elif isinstance(layer, MaxPooling2D):
                images = nn.functional.relu_(layer(images))
            else:
                images = layer(images)
        return images


def _layers(spec: NetworkParams, image_size: int, channels: int) -> "OrderedDict[str, nn.Module]":
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if spec.normalize != "none":
        local = spec.normalize == "local"
        layers["standardization"] = LocalStandardization() if local else Standardization()
    side, padding = image_size, spec.kernel // 2 if spec.padding else 0
    number = 0
    for block_number, block in enumerate(spec.blocks, start=1):
        for filters in block:
            number += 1
            stride = spec.stride if number == 1 else 1
            layers[f"conv2d_{number}"] = Conv2D(channels, filters, spec.kernel, stride, padding)
            channels, side = filters, (side + 2 * padding - spec.kernel) // stride + 1
            _require_rest(side, f"conv2d_{number}", image_size)
        if block_number < len(spec.blocks) or spec.last_pool:
            layers[f"max_pooling2d_{block_number}"] = MaxPooling2D()
            side //= POOL
            _require_rest(side, f"max_pooling2d_{block_number}", image_size)
            if spec.pool_dropout:
                layers[f"pool_dropout_{block_number}"] = nn.Dropout(spec.pool_dropout)
    layers["flatten"] = nn.Flatten()
    inputs = channels * side * side
    for number, neurons in enumerate(spec.dense, start=1):
        layers[f"dense_{number}"] = Dense(inputs, neurons)
        inputs = neurons
    layers["dropout"] = nn.Dropout(spec.dropout)
    layers[f"dense_{len(spec.dense) + 1}"] = nn.Linear(inputs, len(spec.classes))
    if spec.head == "softmax":
        layers["softmax"] = nn.Softmax(dim=1)
    return layers


def _require_rest(side: int, layer: str, image_size: int) -> None:
    if side < 1:
        raise InputError(
            f"images of {image_size} pixels are too small for the network: nothing is left after"
            f" {layer}"
        )


def build_network(spec: NetworkParams, image_size: int, channels: int = 1, *, seed: int) -> Network:
    """An untrained network: Glorot-uniform weights (Glorot and Bengio 2010) and zero biases.

    With `initialization` `whitening`, as many filters of a convolution as it is given maps pass
    each of them on.

    Args:
        spec: what it is built of.
        image_size: side of the square images it takes, in pixels.
        channels: of the images; grey has one.
        seed: of the weights.

    Raises:
        InputError: when the images are too small for the convolutions.
    """
    network = Network(spec, image_size, channels)
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if spec.initialization == "whitening" and isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight.data[: layer.in_channels])
    return network.to(memory_format=torch.channels_last)


def add_batch_norm(network: Network) -> None:
    """Normalize every inner layer's outputs over each batch, before its ReLU, from now on.

    Only of layers whose weights learn. With `batch_norm` `pooled`, what a max-pool follows is
    normalized behind it, and no norm has a scale of its own: a negative one would not commute with
    the max-pool.
    """
    pooled = network.spec.batch_norm == "pooled"
    for layer, following in pairwise(network.children()):
        if isinstance(layer, Dense):
            layer.batch_norm = nn.BatchNorm1d(layer.out_features, device=layer.weight.device)
        elif isinstance(layer, Conv2D) and layer.weight.requires_grad:
            norm = nn.BatchNorm2d(layer.out_channels, device=layer.weight.device)
            if pooled and isinstance(following, MaxPooling2D):
                following.batch_norm = norm
            else:
                layer.batch_norm = norm
    for one in batch_norms(network):
        one.weight.requires_grad_(not pooled)


def batch_norms(network: Network) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    """Those that `add_batch_norm` has put in, in their order."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return [module for module in network.modules() if isinstance(module, kinds)]


@torch.no_grad()
def fold_batch_norm(network: Network) -> None:
    """Leave in weights and biases what `add_batch_norm` has come to, and take it out again.

    The network answers as before in evaluation mode, and is one that was never normalized.
    """
    for layer in network.children():
        if isinstance(layer, Conv2D | Dense):
            weighted = layer
        if not isinstance(layer, Conv2D | Dense | MaxPooling2D) or layer.batch_norm is None:
            continue
        norm = layer.batch_norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        fuse = fuse_conv_bn_weights if isinstance(weighted, Conv2D) else fuse_linear_bn_weights
        weight, bias = fuse(
            weighted.weight, weighted.bias, norm.running_mean, norm.running_var, norm.eps,
            norm.weight, norm.bias,
        )  # fmt: skip
        weighted.weight.copy_(weight)
        weighted.bias.copy_(bias)
        layer.batch_norm = None


def apply_head(spec: NetworkParams, logits: Tensor) -> Tensor:
    """(N, classes) after the head: probabilities for softmax, unbounded numbers for linear."""
    return logits.softmax(dim=1) if spec.head == "softmax" else logits


def loss_of(
    spec: NetworkParams, logits: Tensor, labels: Tensor, *, learning: bool = False
) -> Tensor:
    """The mean loss of (N, classes) outputs before the head against (N,) class numbers.

    Labels are smoothed only while a network is learning from them.
    """
    if spec.loss == "cross_entropy":
        smoothing = spec.label_smoothing if learning else 0.0
        return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    outputs = apply_head(spec, logits)
    wanted = nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return nn.functional.mse_loss(outputs, wanted)


def parameter_count(network: nn.Module) -> int:
    """Number of weights and biases."""
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True)
class SavedNetwork:
    """A trained network and how its images were made."""

    name: str
    network: Network
    crop: TrainingCropParams | ColourCropParams


def save_network(saved: SavedNetwork, path: Path) -> None:
    """Write weights as safetensors; the spec and the preprocessing travel in the metadata."""
    description = {
        "name": saved.name,
        "spec": saved.network.spec.model_dump(exclude_defaults=True),
        "crop": saved.crop.model_dump(),
    }
    weights = {key: value.contiguous() for key, value in saved.network.state_dict().items()}
    with replacing(path) as draft:
        save_file(weights, draft, {_METADATA_KEY: json.dumps(description)})


def load_network(path: Path) -> SavedNetwork:
    """Read what `save_network` wrote; the network comes back in evaluation mode.

    Raises:
        InputError: when the file is missing, damaged, or not a network of this project.
    """
    if not path.is_file():
        raise InputError(f"{path}: no network file; `dvc repro` makes those of data/models")
    try:
        with safe_open(path, framework="pt") as file:
            description: dict[str, Any] = json.loads((file.metadata() or {})[_METADATA_KEY])
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        spec = NetworkParams.model_validate(description["spec"])
        crop = _CROP.validate_python(description["crop"])
        network = Network(spec, crop.size, crop.channels)
        network.load_state_dict(weights)
        name = str(description["name"])
    except OSError as error:
        # Whatever it is, the library says that the file is not there.
        raise InputError(f"{path}: cannot be read") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not a HappyMaps network ({error})") from error
    network = network.to(memory_format=torch.channels_last)
    return SavedNetwork(name, network.eval(), crop)
