"""Which pixels speak for a decision: the explanation methods, by name."""

import copy
import math
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from happymaps.datasets import BATCH
from happymaps.errors import InputError
from happymaps.networks import Conv2D, Dense, Network
from happymaps.params import AttributionsParams, PatchParams
from happymaps.understanding.layers import cells_of, decision_scores
from happymaps.understanding.perturbation import is_local, mean_of_windows, patch_scores

# What an explanation must be better than: it knows nothing, or only the image.
CONTROLS = ("random", "edges")

_GREY = 0.5
_PLACES = 32  # of a patch along a side of the image, where more would take too long
_ROUNDING = 1e-6
# Standard deviations behind which the blur's weights are left out.
_REACH = 4
# LIME: as in its authors' package.
_KERNEL_WIDTH, _RIDGE = 0.25, 1.0
# Of superpixels: weighs places against brightness, both of which range over about 1.
_COMPACTNESS = 0.1


def with_controls(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods, and behind them the controls that stand beside them everywhere."""
    return (*methods, *CONTROLS)


def class_scores(network: Network, images: Tensor) -> Tensor:
    """What is explained: log-odds for a softmax head, the output for a linear one.

    A probability of 1.0 has no gradient left and does not fall when something is hidden.

    Args:
        network: in evaluation mode.
        images: (N, C, H, W) float32 in [0, 1].

    Returns:
        (N, classes), unbounded.
    """
    return decision_scores(network, network.logits(images), "head")


def blurred(images: Tensor, blur: float) -> Tensor:
    """Images (N, C, H, W) through a Gaussian blur, the border continued outwards.

    Args:
        images: of any range, which they keep.
        blur: standard deviation as a fraction of an image's side.
    """
    down = _blurred_along_rows(images.mT, blur).mT
    return _blurred_along_rows(down, blur)


def _blurred_along_rows(images: Tensor, blur: float) -> Tensor:
    sigma = blur * images.shape[-1]
    reach = math.ceil(_REACH * sigma)
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = torch.softmax(-offsets.square() / (2 * sigma**2), dim=0)
    rows = nn.functional.pad(images.flatten(0, 2).unsqueeze(1), (reach, reach), mode="replicate")
    return nn.functional.conv1d(rows, weights.view(1, 1, -1)).view(images.shape)


def attribute(
    method: str,
    network: Network,
    images: Tensor,
    classes: Tensor,
    params: AttributionsParams,
    *,
    seed: int,
) -> Tensor:
    """How much each pixel speaks for a class.

    An image's explanation does not depend on the others in the call. The network comes back as it
    was, for it is never touched: a twin with the same weights answers.

    Args:
        method: one of `params.Method` or of `CONTROLS`.
        network: any that `networks` builds; its device is used.
        images: (N, C, H, W) float32 in [0, 1].
        classes: (N,) int64, the class that is explained for each image.
        params: settings of the methods.
        seed: of noise and samples, the same for every image but for those of `random`.

    Returns:
        (N, H, W) float32 on the CPU. Larger speaks more for the class; below 0, which
        saliency, SmoothGrad, Grad-CAM and the controls never are, speaks against it.

    Raises:
        InputError: when there is no such method, or images or classes do not fit the network.
    """
    if method not in _METHODS:
        raise InputError(f"no explanation method {method!r}; there are {', '.join(_METHODS)}")
    _require_fit(network, images, classes)
    explain, at_once = _METHODS[method]
    twin = _twin(network)
    device = next(twin.parameters()).device
    maps = torch.zeros(len(images), *images.shape[2:])
    for start in range(0, len(images), at_once):
        part = slice(start, start + at_once)
        batch, wanted = images[part].detach().to(device), classes[part].to(device)
        with warnings.catch_warnings():
            # Captum announces that it sets hooks, which no one else sees here.
            warnings.filterwarnings("ignore", message="Setting (forward|backward)")
            maps[part] = explain(twin, batch, wanted, params, seed).detach().cpu()
    return maps


def _require_fit(network: Network, images: Tensor, classes: Tensor) -> None:
    shape = network.image_shape
    if images.ndim != 4 or tuple(images.shape[1:]) != shape:
        raise InputError(f"images are {tuple(images.shape)}, should be (N, {str(shape)[1:]}")
    if classes.shape != images.shape[:1]:
        raise InputError(f"{tuple(classes.shape)} classes for {len(images)} images: one for each")
    count = len(network.spec.classes)
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < count:
        raise InputError(f"classes must be from 0 to {count - 1}: {classes.tolist()}")


def _twin(network: Network) -> Network:
    """The same weights, in the same memory, but without gradients and in evaluation mode."""
    shared = {
        id(weights): nn.Parameter(weights.detach(), requires_grad=False)
        for weights in network.parameters()
    }
    twin: Network = copy.deepcopy(network, shared)
    return twin.eval()


class BeforeRelu(nn.Module):
    """A convolution or dense layer without its ReLU, which then can be a layer of its own."""

    def __init__(self, layer: Conv2D | Dense) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        """As the layer's `before_relu`."""
        return self.layer.before_relu(inputs)


class _Scores(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        # In a tuple, or the whole network would become a part of this module.
        self.network = (network,)

    def forward(self, logits: Tensor) -> Tensor:
        return decision_scores(self.network[0], logits, "head")


def _with_separate_relus(network: Network, *, whole: str | None = None) -> nn.Sequential:
    """`class_scores` as layers, the ReLUs among them: Captum hooks them one by one.

    The convolution `whole` keeps its ReLU before the pool that follows: its maps are asked for.
    """
    layers: list[tuple[str, nn.Module]] = []
    for name, layer in network.named_children():
        if isinstance(layer, Conv2D | Dense):
            layers += [(name, BeforeRelu(layer)), (_relu_of(name), nn.ReLU())]
        elif isinstance(layer, nn.MaxPool2d) and (not whole or layers[-1][0] != _relu_of(whole)):
            # Before the ReLU: the same numbers and gradients, from a quarter of the work.
            layers.insert(-1, (name, layer))
        else:
            layers.append((name, layer))
        if name == network.decision_layer:
            break
    layers.append(("scores", _Scores(network)))
    return nn.Sequential(OrderedDict(layers))


def _relu_of(name: str) -> str:
    return f"{name}_relu"


def _saliency(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """The score's gradient, its largest magnitude over the channels.

    Simonyan et al. 2013, "Deep inside convolutional networks: visualising image classification
    models and saliency maps".
    """
    from captum.attr import Saliency

    model = _with_separate_relus(network)
    gradients: Tensor = Saliency(model).attribute(_leaf(images), target=classes, abs=True)
    return gradients.amax(dim=1)


def _guided_backpropagation(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """The gradient, if on the way back each ReLU lets through only what is above 0.

    Springenberg et al. 2014, "Striving for simplicity: the all convolutional net".
    """
    from captum.attr import GuidedBackprop

    model = _with_separate_relus(network)
    gradients: Tensor = GuidedBackprop(model).attribute(_leaf(images), target=classes)
    return gradients.sum(dim=1)


def _smoothgrad(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """The mean gradient of noisy copies, its largest magnitude over the channels.

    Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise". Theirs is noise in parts of
    each image's own range, here of all that a pixel can be.
    """
    from captum.attr import NoiseTunnel, Saliency

    method = NoiseTunnel(Saliency(_with_separate_relus(network)))
    devices = [images.device] if images.is_cuda else []
    # Captum draws from the global generator, which is put back afterwards.
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        gradients: Tensor = method.attribute(
            _leaf(images),
            nt_type="smoothgrad",
            nt_samples=params.smoothgrad.samples,
            nt_samples_batch_size=min(BATCH, params.smoothgrad.samples),
            stdevs=params.smoothgrad.noise,
            target=classes,
            abs=False,
        )
    return gradients.abs().amax(dim=1)


def _integrated_gradients(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """The gradient along the way from the blurred image, times what changes on it.

    Sundararajan et al. 2017, "Axiomatic attribution for deep networks". A blurred image hides
    dark details like bright ones, as a black one does not (Sturmfels et al. 2020, "Visualizing
    the impact of feature attribution baselines"). All sums to the difference of both scores.
    """
    from captum.attr import IntegratedGradients

    baseline = blurred(images, params.blur)
    # What is left of an even picture after rounding is no difference.
    if torch.allclose(images, baseline, rtol=0, atol=_ROUNDING):
        return torch.zeros_like(images[:, 0])
    attributions: Tensor = IntegratedGradients(_with_separate_relus(network)).attribute(
        _leaf(images),
        baselines=baseline,
        target=classes,
        n_steps=params.integrated_gradients.steps,
        internal_batch_size=BATCH,
    )
    return attributions.sum(dim=1)


def _grad_cam(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """The last convolution's maps, weighed by their mean gradients; what is below 0 is left out.

    Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based
    localization".
    """
    from captum.attr import LayerGradCam

    model = _with_separate_relus(network, whole=network.last_convolution)
    last = model.get_submodule(_relu_of(network.last_convolution))
    coarse: Tensor = LayerGradCam(model, last).attribute(
        _leaf(images), target=classes, relu_attributions=True
    )
    return _where_they_look(network, coarse).squeeze(1)


def _where_they_look(network: Network, coarse: Tensor) -> Tensor:
    """Maps (N, 1, h, w) of the last convolution -> (N, 1, H, W), every cell where it looks.

    Between the cells' centres it is linear. Without padding the outermost look at places well
    inside the image: stretched over all of it, the maps would lie beside what they speak of.
    """
    centre, step = cells_of(network, network.last_convolution)
    pixels = torch.arange(network.image_size, device=coarse.device, dtype=coarse.dtype)
    # In -1..1 from the first cell's centre to the last one's, as `grid_sample` wants it.
    places = 2 * (pixels - centre) / step / max(coarse.shape[-1] - 1, 1) - 1
    grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=2)
    return nn.functional.grid_sample(
        coarse,
        grid.expand(len(coarse), -1, -1, -1),
        padding_mode="border",
        align_corners=True,
    )


def _leaf(images: Tensor) -> Tensor:
    return images.detach().clone().requires_grad_()


def _occlusion(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """How far the score falls when a grey patch hides the pixel; the mean over such patches.

    Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks".
    """
    side = params.occlusion.patch
    patch = images.new_full((images.shape[1], side, side), _GREY)
    return _mean_drop(network, images, classes, patch, params.occlusion)


def _pixel_importance(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """As `_occlusion`, but with a patch of noise, small and moved by little.

    The way of the deep-learning tutorials on whose networks this project is built.
    """
    side = params.pixel_importance.patch
    generator = torch.Generator().manual_seed(seed)
    patch = torch.rand(images.shape[1], side, side, generator=generator).to(images)
    return _mean_drop(network, images, classes, patch, params.pixel_importance)


def _mean_drop(
    network: Network, images: Tensor, classes: Tensor, patch: Tensor, params: PatchParams
) -> Tensor:
    (image,), (wanted,) = images, classes.tolist()
    with torch.no_grad():
        score = class_scores(network, images)[0, wanted]
    # Where every place costs a whole image, no more places are tried than show the map's shape.
    coarse = min(params.patch - 1, network.image_size // _PLACES)
    stride = params.stride if is_local(network) else max(params.stride, coarse)
    drops = score - patch_scores(network, image, patch, stride)[:, :, wanted]
    height, width = image.shape[1:]
    return mean_of_windows(drops, (height, width), params.patch, stride).unsqueeze(0)


@torch.no_grad()
def _lime(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """The weights of a linear model that answers like the network when superpixels are hidden.

    Ribeiro et al. 2016, "'Why should I trust you?': explaining the predictions of any classifier".
    A hidden superpixel has its mean colour. As in the authors' package, half of the superpixels
    are hidden in a sample, samples nearer to the whole image (which is the first) weigh more,
    and the model is a ridge regression. Which half is not left to chance: see `_subsets`.
    """
    (image,), (wanted,) = images, classes.tolist()
    segments = superpixels(image, params.lime.superpixels)
    count = int(segments.max()) + 1
    shown = _subsets(params.lime.samples, count, torch.Generator().manual_seed(seed))
    segments = segments.to(image.device)
    hidden = _mean_colours(image, segments, count)
    scores = []
    for part in shown.to(image.device).bool().split(BATCH):
        samples = torch.where(part[:, segments].unsqueeze(1), image, hidden)
        scores.append(class_scores(network, samples)[:, wanted].cpu())
    weights = _surrogate(shown.double().numpy(), torch.cat(scores).double().numpy())
    return torch.from_numpy(weights)[segments.cpu()].unsqueeze(0)


def _subsets(samples: int, count: int, generator: torch.Generator) -> Tensor:
    """(samples, count) int64: 1 where a sample shows a superpixel; the first shows all.

    A balanced design of experiments (Plackett and Burman 1946) instead of independent draws: the
    rows of a Hadamard matrix and their complements, with columns and signs drawn at random. In a
    whole block, twice the power of 2 above `count`, every superpixel is shown half of the time and
    every two of them together a quarter of it, so one's weight is not blurred by the luck of the
    others. Of a block that is cut off a random part is taken.
    """
    from scipy.linalg import hadamard

    order = 2 ** count.bit_length()
    matrix = torch.from_numpy(hadamard(order))
    blocks = []
    for _ in range(-(-samples // (2 * order))):
        # The first column is constant.
        columns = 1 + torch.randperm(order - 1, generator=generator)[:count]
        signs = 2 * torch.randint(0, 2, (count,), generator=generator) - 1
        half = matrix[:, columns] * signs
        rows = torch.randperm(2 * order, generator=generator)
        blocks.append(torch.cat([half, -half])[rows])
    shown = (torch.cat(blocks)[:samples] > 0).long()
    shown[0] = 1
    return shown


def superpixels(image: Tensor, count: int) -> Tensor:
    """About `count` parts of an image (C, H, W): (H, W) int64, numbered from 0 without a gap.

    Achanta et al. 2012, "SLIC superpixels compared to state-of-the-art superpixel methods".
    """
    from skimage.segmentation import slic

    pixels = image.permute(1, 2, 0).cpu().double().numpy()
    parts: NDArray[np.int64] = slic(
        pixels,
        n_segments=count,
        compactness=_COMPACTNESS,
        convert2lab=False,
        start_label=0,
        channel_axis=-1,
    )
    _, numbers = np.unique(parts, return_inverse=True)
    return torch.from_numpy(numbers.reshape(parts.shape))


def _mean_colours(image: Tensor, segments: Tensor, count: int) -> Tensor:
    """(C, H, W): every superpixel filled with its mean."""
    sums = image.new_zeros(len(image), count).double()
    sums.index_add_(1, segments.flatten(), image.flatten(1).double())
    means = sums / torch.bincount(segments.flatten(), minlength=count)
    return means.to(image.dtype)[:, segments]


def _surrogate(shown: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """A weighted ridge regression with intercept: (samples, K) 0 or 1, (samples,) -> (K,)."""
    if np.ptp(scores) <= _ROUNDING * np.abs(scores).max():
        return np.zeros(shown.shape[1])
    # The cosine between a row of ones and zeros and the first, which is all ones.
    distance = 1 - np.sqrt(shown.mean(axis=1))
    weights = np.sqrt(np.exp(-((distance / _KERNEL_WIDTH) ** 2)))
    features = shown - np.average(shown, axis=0, weights=weights)
    targets = scores - np.average(scores, weights=weights)
    weighted = features.T * weights
    ridge = _RIDGE * np.eye(shown.shape[1])
    return np.linalg.solve(weighted @ features + ridge, weighted @ targets)


def _random(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """Uniform noise from 0 to 1, of each image its own."""
    pixels = images.cpu().contiguous().numpy()
    seeds = [[seed, zlib.crc32(image.tobytes())] for image in pixels]
    noise = [np.random.default_rng(one).random(images.shape[2:], np.float32) for one in seeds]
    return torch.from_numpy(np.stack(noise))


def _edges(
    network: Network, images: Tensor, classes: Tensor, params: AttributionsParams, seed: int
) -> Tensor:
    """The magnitude of Sobel's gradient, the largest over the channels."""
    smooth, difference = images.new_tensor([1, 2, 1]) / 4, images.new_tensor([-1, 0, 1])
    kernels = torch.stack([torch.outer(smooth, difference), torch.outer(difference, smooth)])
    single = images.flatten(0, 1).unsqueeze(1)
    padded = nn.functional.pad(single, (1, 1, 1, 1), mode="replicate")
    slopes = nn.functional.conv2d(padded, kernels.unsqueeze(1))
    # What is left of an even picture after rounding is no edge.
    slopes[slopes.abs() < _ROUNDING] = 0
    return torch.hypot(slopes[:, 0], slopes[:, 1]).view_as(images).amax(dim=1)


_Explain = Callable[[Network, Tensor, Tensor, AttributionsParams, int], Tensor]

# Each with how many images it is given at once: a method that makes many copies gets one.
_METHODS: dict[str, tuple[_Explain, int]] = {
    "saliency": (_saliency, BATCH),
    "guided_backpropagation": (_guided_backpropagation, BATCH),
    "smoothgrad": (_smoothgrad, 1),
    "integrated_gradients": (_integrated_gradients, 1),
    "grad_cam": (_grad_cam, BATCH),
    "occlusion": (_occlusion, 1),
    "pixel_importance": (_pixel_importance, 1),
    "lime": (_lime, 1),
    "random": (_random, BATCH),
    "edges": (_edges, BATCH),
}
