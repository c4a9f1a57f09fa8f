"""Explanations of networks whose reasons are known."""

import copy
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from numpy.typing import NDArray
from torch import Tensor, nn

from happymaps.errors import InputError
from happymaps.networks import Conv2D, Dense, Network
from happymaps.params import AttributionsParams, Method, NetworkParams, Params
from happymaps.understanding import attributions
from happymaps.understanding.attributions import (
    CONTROLS,
    attribute,
    blurred,
    class_scores,
    superpixels,
)
from toys import by_hand, random_network

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # Nothing that a library has to say may reach the user.
    pytest.mark.filterwarnings("error"),
]

SIZE = 24
METHODS = (*get_args(Method), *CONTROLS)
SEEDED = ("smoothgrad", "pixel_importance", "lime", "random")
BOX = slice(4, 10), slice(12, 19)


@pytest.fixture
def explain(params: Params) -> AttributionsParams:
    """The committed settings, for images of 24 pixels."""
    change = {
        "blur": 0.1,
        "smoothgrad": {"samples": 6, "noise": 0.1},
        "integrated_gradients": {"steps": 24},
        "occlusion": {"patch": 4, "stride": 2},
        "pixel_importance": {"patch": 2, "stride": 1},
        "lime": {"superpixels": 36, "samples": 200},
    }
    return AttributionsParams.model_validate(params.attributions.model_dump() | change)


def with_random_weights(spec: NetworkParams, channels: int = 1, **changes: object) -> Network:
    network = Network(spec.model_copy(update=changes), SIZE, channels).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            noise = torch.randn(weights.shape, generator=generator)
            weights.copy_(noise * 1.5 / weights[0].numel() ** 0.5)
    return network


def looking_at(spec: NetworkParams, pattern: Tensor) -> Network:
    """Class 1's output is the sum of `pattern` (H, W) times the image; class 0's is 0."""
    return by_hand(spec, {"left": pattern}, size=SIZE, head="linear")


def pictures(count: int, channels: int = 1) -> Tensor:
    """Noise on coarse blocks of light and dark, so that there are edges, blobs and superpixels."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 6, 6, generator=generator)
    blocks = nn.functional.interpolate(coarse, (SIZE, SIZE))
    return 0.7 * blocks + 0.3 * torch.rand(blocks.shape, generator=generator)


def classes(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


# Their values below 0 speak against the class; the others have none.
SIGNED = {
    "guided_backpropagation",
    "integrated_gradients",
    "occlusion",
    "pixel_importance",
    "lime",
}


def test_every_method_of_the_params_is_there() -> None:
    assert tuple(attributions._METHODS) == METHODS
    assert set(METHODS) > SIGNED


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", ["softmax", "linear"])
def test_four_classes_in_colour(
    explain: AttributionsParams, spec: NetworkParams, method: str, head: str
) -> None:
    network = with_random_weights(spec, channels=3, target="pose", head=head)
    images = pictures(3, channels=3)
    maps = attribute(method, network, images, classes(0, 3, 1), explain, seed=0)
    assert maps.shape == (3, SIZE, SIZE)
    assert maps.dtype == torch.float32
    assert maps.device.type == "cpu"
    assert maps.isfinite().all()
    assert maps.std(dim=(1, 2)).max() > 0
    assert bool((maps < 0).any()) == (method in SIGNED)
    if method not in CONTROLS:
        others = attribute(method, network, images, classes(1, 2, 3), explain, seed=0)
        assert not torch.allclose(maps, others)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("padding", [False, True])
def test_blocks_of_convolutions_with_pools_and_dropouts(
    explain: AttributionsParams, spec: NetworkParams, method: str, padding: bool
) -> None:
    change = {"filters": [[4, 5], [6]], "last_pool": True, "pool_dropout": 0.5, "padding": padding}
    network = with_random_weights(spec, channels=3, target="object", **change)
    images = pictures(3, channels=3)
    maps = attribute(method, network, images, classes(3, 5, 7), explain, seed=0)
    assert maps.isfinite().all()
    # Grad-CAM leaves out what speaks against a class: of random weights that may be all.
    assert maps.std(dim=(1, 2)).max() > 0 or method == "grad_cam"
    # Nothing is dropped by chance.
    assert torch.equal(maps, attribute(method, network, images, classes(3, 5, 7), explain, seed=0))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "grad_cam"])
def test_the_pixels_that_decide_are_found_by_all_but_the_controls(
    explain: AttributionsParams, spec: NetworkParams, method: str
) -> None:
    pattern = torch.zeros(SIZE, SIZE)
    # Not all alike: a part that is hidden behind its own mean would take nothing away.
    pattern[BOX] = 0.5 + torch.rand(pattern[BOX].shape, generator=torch.Generator().manual_seed(0))
    decides = pattern > 0
    network = looking_at(spec, pattern)
    # What is hidden must have been another grey than what hides it.
    images = pictures(2) * 0.5
    images[:, :, *BOX] = 0.6 + 0.4 * images[:, :, *BOX]
    maps = attribute(method, network, images, classes(1, 1), explain, seed=0).abs()
    found = [
        decides.flatten()[flat.topk(int(decides.sum())).indices].double().mean().item()
        for flat in maps.flatten(1)
    ]
    if method in CONTROLS:
        # The pattern has edges, too, but not only.
        assert max(found) < 0.6
    else:
        assert min(found) > 0.8


@pytest.mark.parametrize("method", ["occlusion", "pixel_importance"])
def test_what_speaks_against_a_class_counts_below_0(
    explain: AttributionsParams, spec: NetworkParams, method: str
) -> None:
    pattern = torch.zeros(SIZE, SIZE)
    pattern[:, : SIZE // 2], pattern[:, SIZE // 2 :] = 1, -1
    image = torch.zeros(1, 1, SIZE, SIZE)
    image[..., 6:18, 2:8] = image[..., 6:18, 16:22] = 1
    (found,) = attribute(method, looking_at(spec, pattern), image, classes(1), explain, seed=0)
    left, right = found[8:16, 3:7].mean(), found[8:16, 17:21].mean()
    assert left > 0.1
    torch.testing.assert_close(right, -left, rtol=0.05, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_an_explanation_does_not_depend_on_the_others_in_the_call(
    explain: AttributionsParams, spec: NetworkParams, method: str
) -> None:
    network = with_random_weights(spec)
    images, wanted = pictures(3), classes(0, 1, 1)
    together = attribute(method, network, images, wanted, explain, seed=5)
    alone = [
        attribute(method, network, image.unsqueeze(0), number.unsqueeze(0), explain, seed=5)
        for image, number in zip(images, wanted, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-6)
    empty = attribute(method, network, images[:0], wanted[:0], explain, seed=5)
    assert empty.shape == (0, SIZE, SIZE)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_the_same_bytes_and_leaves_the_global_generator_alone(
    explain: AttributionsParams, spec: NetworkParams, method: str
) -> None:
    network = with_random_weights(spec)
    images, wanted = pictures(2), classes(0, 1)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first, again, other = (
        attribute(method, network, images, wanted, explain, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (method not in SEEDED)


def hooks_of(module: nn.Module) -> list[dict[int, Any]]:
    forward = [module._forward_hooks, module._forward_pre_hooks]
    return [*forward, module._backward_hooks, module._backward_pre_hooks]


def state_of(network: Network) -> list[object]:
    modules = [(module.training, *map(len, hooks_of(module))) for module in network.modules()]
    weights = [
        (id(values), values.requires_grad, values.grad, values.detach().numpy().tobytes())
        for values in network.parameters()
    ]
    return [modules, weights]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_comes_back_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
    explain: AttributionsParams,
    spec: NetworkParams,
    method: str,
    fails: bool,
) -> None:
    network = with_random_weights(spec, dropout=0.9)
    images, wanted = pictures(1), classes(1)
    expected = attribute(method, network, images, wanted, explain, seed=0)
    network.train()
    network.get_submodule("conv2d_2").eval()
    network.get_parameter("dense_1.weight").requires_grad_(False)
    before = copy.deepcopy(state_of(network))
    if fails and method not in CONTROLS:

        def broken(*_: object) -> Tensor:
            raise ZeroDivisionError

        monkeypatch.setattr(attributions, "decision_scores", broken)
        with pytest.raises(ZeroDivisionError):
            attribute(method, network, images, wanted, explain, seed=0)
    else:
        # Without dropout, though the network is being trained.
        with torch.no_grad():
            maps = attribute(method, network, images, wanted, explain, seed=0)
        assert torch.equal(maps, expected)
    assert state_of(network) == before


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_an_image_without_anything_in_it(
    explain: AttributionsParams, spec: NetworkParams, method: str, level: float
) -> None:
    network = with_random_weights(spec)
    image = torch.full((1, 1, SIZE, SIZE), level)
    maps = attribute(method, network, image, classes(1), explain, seed=0)
    assert maps.isfinite().all()
    nothing_to_hide = {"edges", "lime", "integrated_gradients"}
    if method in nothing_to_hide or (method == "occlusion" and level == 0.5):
        torch.testing.assert_close(maps, torch.zeros_like(maps), rtol=0, atol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
def test_edges_of_any_colour_both_ways(
    explain: AttributionsParams, spec: NetworkParams, turned: bool
) -> None:
    image = torch.zeros(1, 3, SIZE, SIZE)
    image[:, 0, :, SIZE // 2 :], image[:, 2, :, SIZE // 2 :] = 0.5, 0.8
    expected = torch.zeros(SIZE, SIZE)
    expected[:, SIZE // 2 - 1 : SIZE // 2 + 1] = 0.8
    if turned:
        image, expected = image.mT, expected.mT
    network = with_random_weights(spec, channels=3)
    (found,) = attribute("edges", network, image, classes(0), explain, seed=0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("changes", "size", "stride"),
    [
        ({"padding": True}, SIZE, 1),
        ({"normalize": "image"}, SIZE, 1),
        # Where a place costs a whole image, large images are not asked at every one.
        ({"normalize": "local", "stride": 2, "padding": True}, 64, 2),
    ],
)
def test_a_patch_is_at_the_same_places_as_captums_in_networks_that_look_at_the_whole(
    params: Params, spec: NetworkParams, changes: dict[str, Any], size: int, stride: int
) -> None:
    network = random_network(spec, size, 1, **changes)
    image = torch.rand(1, 1, size, size)
    small = params.attributions.occlusion.model_copy(update={"patch": 5, "stride": 1})
    settings = params.attributions.model_copy(update={"occlusion": small})
    found = attribute("occlusion", network, image, classes(1), settings, seed=0)
    captum = Occlusion(lambda given: class_scores(network, given))
    expected = captum.attribute(
        image,
        sliding_window_shapes=(1, 5, 5),
        strides=(1, stride, stride),
        baselines=0.5,
        target=1,
        perturbations_per_eval=64,
    )
    torch.testing.assert_close(found, expected[:, 0].detach().float(), rtol=1e-3, atol=1e-4)


def test_in_large_images_a_small_patch_still_hides_every_pixel(
    params: Params, spec: NetworkParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributions, "_PLACES", 4)  # every sixth pixel, if patches were larger
    network = random_network(spec, SIZE, 1, normalize="image")
    small = params.attributions.occlusion.model_copy(update={"patch": 3, "stride": 1})
    settings = params.attributions.model_copy(update={"occlusion": small})
    (found,) = attribute("occlusion", network, pictures(1), classes(1), settings, seed=0)
    assert found.count_nonzero() == SIZE**2


def test_what_does_not_fit_is_named(explain: AttributionsParams, spec: NetworkParams) -> None:
    network = with_random_weights(spec)
    images = pictures(2)
    with pytest.raises(InputError, match=r"'shap'.*saliency.*lime.*random, edges"):
        attribute("shap", network, images, classes(0, 1), explain, seed=0)
    with pytest.raises(InputError, match=r"\(2, 1, 20, 24\).*\(N, 1, 24, 24\)"):
        attribute("lime", network, images[:, :, :20], classes(0, 1), explain, seed=0)
    with pytest.raises(InputError, match=r"\(3,\) classes for 2 images"):
        attribute("lime", network, images, classes(0, 1, 1), explain, seed=0)
    for wrong in (2, -1):
        with pytest.raises(InputError, match=rf"from 0 to 1: \[0, {wrong}\]"):
            attribute("lime", network, images, classes(0, wrong), explain, seed=0)


@pytest.mark.parametrize("head", ["softmax", "linear"])
def test_scores_are_log_odds_or_outputs(spec: NetworkParams, head: str) -> None:
    network = with_random_weights(spec, target="pose", head=head)
    images = pictures(3)
    scores = class_scores(network, images)
    if head == "softmax":
        torch.testing.assert_close(scores, network(images).logit(), rtol=1e-4, atol=1e-4)
    else:
        assert torch.equal(scores, network(images))


def test_a_blur_takes_detail_and_leaves_the_light() -> None:
    dot = torch.zeros(1, 2, 31, 31)
    dot[0, :, 15, 15] = 1
    soft = blurred(dot, 0.1)
    offset = torch.arange(31) - 15.0
    bell = (-offset.square() / (2 * 3.1**2)).exp()
    expected = torch.outer(bell, bell) / bell.sum() ** 2
    torch.testing.assert_close(soft, expected.expand_as(soft), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        blurred(torch.full((2, 1, 5, 3), 0.3), 1.0), torch.tensor(0.3).expand(2, 1, 5, 3)
    )
    # Wider than the image: the border goes on outside.
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 1
    rows = blurred(step, 0.5)[0, 0]
    assert (rows[:, 1:] > rows[:, :-1]).all()
    torch.testing.assert_close(rows[0], rows[3])
    assert rows[0, 0] + rows[0, 3] == pytest.approx(1, abs=1e-5)


def by_autograd(network: Network, images: Tensor, wanted: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    scores = class_scores(network, images)[torch.arange(len(images)), wanted]
    (gradients,) = torch.autograd.grad(scores.sum(), images)
    return gradients


def test_saliency_is_the_largest_gradient_of_the_channels(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    network = with_random_weights(spec, channels=3)
    images, wanted = pictures(2, channels=3), classes(0, 1)
    gradients = by_autograd(network, images, wanted)
    maps = attribute("saliency", network, images, wanted, explain, seed=0)
    torch.testing.assert_close(maps, gradients.abs().amax(dim=1), rtol=1e-4, atol=1e-6)


def test_smoothgrad_is_the_mean_gradient_of_noisy_copies(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    network = with_random_weights(spec)
    images, wanted = pictures(1), classes(1)
    change = {"smoothgrad": {"samples": 300, "noise": 0.2}}
    many = AttributionsParams.model_validate(explain.model_dump() | change)
    maps = attribute("smoothgrad", network, images, wanted, many, seed=0)
    copies = images + 0.2 * torch.randn(
        300, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(3)
    )
    expected = by_autograd(network, copies, wanted.expand(300)).mean(dim=(0, 1)).abs()
    # Of other noise: alike, and much more so than without any.
    plain = by_autograd(network, images, wanted).abs()[0, 0]
    assert (maps[0] - expected).abs().mean() < 0.25 * expected.mean()
    assert (maps[0] - plain).abs().mean() > 0.3 * expected.mean()


def test_smoothgrad_of_a_linear_network_is_its_weights_whatever_the_noise(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    """In colour the strongest channel's, with its sign forgotten at the end."""
    change = {"filters": [1], "kernel": 1, "dense": [], "head": "linear"}
    network = Network(spec.model_copy(update=change), SIZE, 3).eval()
    colours = torch.tensor([0.2, -0.7, 0.5])
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        network.get_parameter("conv2d_1.weight").copy_(colours.view(1, 3, 1, 1))
        network.get_parameter("conv2d_1.bias").fill_(9)  # its ReLU lets all through
        network.get_parameter("dense_1.weight")[1] = 2
    maps = attribute("smoothgrad", network, pictures(1, 3), classes(1), explain, seed=0)
    torch.testing.assert_close(maps, torch.full((1, SIZE, SIZE), 1.4))


def test_smoothgrad_of_slopes_that_cancel_out_is_nothing(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    """Every pixel counts with its distance from 0.5: it is 0.5, and noise takes it to either side.

    The mean of the slopes' magnitudes would be 1.
    """
    change = {"filters": [2], "kernel": 1, "dense": [], "head": "linear"}
    network = Network(spec.model_copy(update=change), SIZE).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        network.get_parameter("conv2d_1.weight").copy_(torch.tensor([1.0, -1]).view(2, 1, 1, 1))
        network.get_parameter("conv2d_1.bias").copy_(torch.tensor([-0.5, 0.5]))
        network.get_parameter("dense_1.weight")[1] = 1
    many = explain.model_copy(
        update={"smoothgrad": explain.smoothgrad.model_copy(update={"samples": 400})}
    )
    grey = torch.full((1, 1, SIZE, SIZE), 0.5)
    (found,) = attribute("smoothgrad", network, grey, classes(1), many, seed=0)
    assert found.mean() < 0.1
    (beside,) = attribute("smoothgrad", network, grey + 0.4, classes(1), many, seed=0)
    assert beside.min() > 0.9


def test_integrated_gradients_sum_to_what_the_image_adds_to_its_blur(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    network = with_random_weights(spec, channels=3, target="pose")
    images, wanted = pictures(4, channels=3), classes(0, 1, 2, 3)
    change = {"integrated_gradients": {"steps": 200}}
    fine = AttributionsParams.model_validate(explain.model_dump() | change)
    maps = attribute("integrated_gradients", network, images, wanted, fine, seed=0)
    with torch.no_grad():
        added = class_scores(network, images) - class_scores(network, blurred(images, fine.blur))
    expected = added[torch.arange(4), wanted]
    assert expected.abs().min() > 0.02
    torch.testing.assert_close(maps.sum(dim=(1, 2)), expected, rtol=0.02, atol=2e-3)


def test_integrated_gradients_of_one_step_are_the_gradient_half_way(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    network = with_random_weights(spec)
    images, wanted = pictures(2), classes(0, 1)
    one = explain.integrated_gradients.model_copy(update={"steps": 1})
    settings = explain.model_copy(update={"integrated_gradients": one})
    maps = attribute("integrated_gradients", network, images, wanted, settings, seed=0)
    soft = blurred(images, settings.blur)
    expected = by_autograd(network, (images + soft) / 2, wanted) * (images - soft)
    torch.testing.assert_close(maps, expected.sum(dim=1), rtol=1e-3, atol=1e-5)


class _GuidedRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(inputs)
        return inputs.clamp_min(0)

    @staticmethod
    def backward(ctx, *gradients):  # type: ignore[no-untyped-def]
        (inputs,) = ctx.saved_tensors
        return gradients[0].clamp_min(0) * (inputs > 0)


def through(network: Network, images: Tensor, relu: Callable[[Tensor], Tensor]) -> Tensor:
    """The logits, layer by layer as the network's names say, with another ReLU."""
    for layer in network.children():
        if isinstance(layer, Conv2D | Dense):
            images = relu(layer.before_relu(images))
        elif not isinstance(layer, nn.Dropout | nn.Softmax):
            images = layer(images)
    return images


def test_guided_backpropagation_lets_nothing_below_0_through_a_relu(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    network = with_random_weights(spec, channels=2, dense=[8, 5], head="linear")
    images = pictures(2, channels=2).requires_grad_()
    wanted = classes(0, 1)
    logits = through(network, images, _GuidedRelu.apply)
    (guided,) = torch.autograd.grad(logits[torch.arange(2), wanted].sum(), images)
    maps = attribute("guided_backpropagation", network, images, wanted, explain, seed=0)
    torch.testing.assert_close(maps, guided.sum(dim=1), rtol=1e-4, atol=1e-6)
    plain = by_autograd(network, images.detach(), wanted).sum(dim=1)
    assert (maps - plain).abs().max() > 0.1 * plain.abs().max()


@pytest.mark.parametrize("last_pool", [False, True])
def test_grad_cam_weighs_the_last_maps_by_their_gradients(
    explain: AttributionsParams, spec: NetworkParams, last_pool: bool
) -> None:
    network = with_random_weights(spec, filters=[4, 6], head="linear", last_pool=last_pool)
    images, wanted = pictures(3), classes(0, 1, 1)
    behind = "max_pooling2d_2" if last_pool else "flatten"
    maps = network.inputs_of(behind, images).detach().requires_grad_()
    pooled = nn.functional.max_pool2d(maps, 2) if last_pool else maps
    hidden = network.get_submodule("dense_1")(pooled.flatten(1))
    logits = network.get_submodule("dense_2")(hidden)
    (gradients,) = torch.autograd.grad(logits[torch.arange(3), wanted].sum(), maps)
    coarse = (gradients.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True).relu()
    found = attribute("grad_cam", network, images, wanted, explain, seed=0)
    assert coarse.amax(dim=(1, 2, 3)).count_nonzero() >= 1
    # Unpadded 3x3, 2x2 and 3x3: the first cell looks at 3.5, and every next one 2 pixels further.
    cells = (np.arange(SIZE) - 3.5) / 2
    for one, map_ in zip(coarse[:, 0].detach().numpy(), found, strict=True):
        known = np.arange(len(one))
        rows = np.stack([np.interp(cells, known, column) for column in one.T], axis=1)
        fine = np.stack([np.interp(cells, known, row) for row in rows])
        np.testing.assert_allclose(map_, fine, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("place", [(5, 5), (12, 15), (18, 5)])
def test_grad_cam_points_at_the_only_spot_there_is(
    explain: AttributionsParams, spec: NetworkParams, padding: bool, place: tuple[int, int]
) -> None:
    change = {"filters": [1, 1], "dense": [], "head": "linear", "padding": padding}
    network = Network(spec.model_copy(update=change), SIZE).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        for name in ("conv2d_1", "conv2d_2"):
            network.get_parameter(f"{name}.weight")[0, 0, 1, 1] = 1
        network.get_parameter("dense_1.weight")[1] = 1
    image = torch.zeros(1, 1, SIZE, SIZE)
    image[0, 0][place] = 1
    (found,) = attribute("grad_cam", network, image, classes(1), explain, seed=0)
    row, column = divmod(int(found.argmax()), SIZE)
    # A cell is two pixels wide.
    assert max(abs(row - place[0]), abs(column - place[1])) <= 1


def test_occlusion_of_one_pixel_by_hand(explain: AttributionsParams, spec: NetworkParams) -> None:
    pattern = torch.zeros(SIZE, SIZE)
    pattern[10, 12] = 3
    image = torch.full((1, 1, SIZE, SIZE), 0.2)
    image[..., 10, 12] = 0.9
    change = {"occlusion": {"patch": 3, "stride": 1}}
    single = AttributionsParams.model_validate(explain.model_dump() | change)
    (found,) = attribute("occlusion", looking_at(spec, pattern), image, classes(1), single, seed=0)
    expected = torch.zeros(SIZE, SIZE)
    # Of the 9 patches over a pixel, those that cover the one that counts as well.
    shared = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0])
    expected[8:13, 10:15] = 3 * (0.9 - 0.5) * torch.outer(shared, shared) / 9
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("side", "stride"), [(4, 2), (5, 1), (7, 4), (24, 3)])
@pytest.mark.parametrize("method", ["occlusion", "pixel_importance"])
def test_hiding_gives_the_same_as_one_image_after_the_other(
    explain: AttributionsParams, spec: NetworkParams, method: str, side: int, stride: int
) -> None:
    network = with_random_weights(spec, channels=3, target="pose")
    images, wanted = pictures(2, channels=3), classes(3, 1)
    change = {method: {"patch": side, "stride": stride}}
    settings = AttributionsParams.model_validate(explain.model_dump() | change)
    maps = attribute(method, network, images, wanted, settings, seed=4)
    if method == "pixel_importance":
        # A patch of its own at every place, which Captum does not know: by hand.
        expected = noise_by_hand(network, images, wanted, side, stride, seed=4)
    else:
        expected = Occlusion(lambda given: class_scores(network, given)).attribute(
            images,
            sliding_window_shapes=(3, side, side),
            strides=(3, stride, stride),
            baselines=0.5,
            target=wanted,
        )[:, 0]
    torch.testing.assert_close(maps, expected.float(), rtol=1e-3, atol=1e-4)
    assert maps.std() > 0.01 or side == SIZE


@torch.no_grad()
def noise_by_hand(
    network: Network, images: Tensor, wanted: Tensor, side: int, stride: int, *, seed: int
) -> Tensor:
    patch = torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed))
    padded = SIZE + stride
    sums, counts = torch.zeros(len(images), padded, padded), torch.zeros(padded, padded)
    chosen = torch.arange(len(images)), wanted
    whole = class_scores(network, images)[chosen]
    starts = [at for at in range(0, SIZE, stride) if at - stride + side < SIZE]
    for row in starts:
        for column in starts:
            large = nn.functional.pad(images, (0, stride, 0, stride))
            large[:, :, row : row + side, column : column + side] = patch
            drop = whole - class_scores(network, large[:, :, :SIZE, :SIZE])[chosen]
            sums[:, row : row + side, column : column + side] += drop.view(-1, 1, 1)
            counts[row : row + side, column : column + side] += 1
    return (sums / counts)[:, :SIZE, :SIZE]


def test_lime_weighs_superpixels_by_what_they_add(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    pattern = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    (image,) = pictures(1)
    parts = superpixels(image, 36)
    change = {"lime": {"superpixels": 36, "samples": 600}}
    many = AttributionsParams.model_validate(explain.model_dump() | change)
    network = looking_at(spec, pattern)
    (found,) = attribute("lime", network, image.unsqueeze(0), classes(1), many, seed=0)
    for number in range(int(parts.max()) + 1):
        part = parts == number
        # A hidden one has its mean.
        adds = (pattern[part] * (image[0, part] - image[0, part].mean())).sum()
        torch.testing.assert_close(found[part], adds.expand(int(part.sum())), rtol=0.05, atol=0.01)


def test_lime_has_nothing_to_say_of_a_network_that_never_changes_its_mind(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    network = with_random_weights(spec)
    with torch.no_grad():
        network.get_parameter(f"{network.decision_layer}.weight").zero_()
        network.get_parameter(f"{network.decision_layer}.bias").copy_(torch.tensor([0.3, -0.4]))
    images = pictures(3)
    assert not attribute("lime", network, images, classes(0, 1, 0), explain, seed=0).any()


def test_limes_first_sample_is_the_whole_image_and_half_of_the_others_is_hidden(
    monkeypatch: pytest.MonkeyPatch, explain: AttributionsParams, spec: NetworkParams
) -> None:
    network = with_random_weights(spec)
    image = pictures(1)
    real = attributions._surrogate
    given = []

    def watched(shown: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
        given.append((shown, scores))
        return real(shown, scores)

    monkeypatch.setattr(attributions, "_surrogate", watched)
    attribute("lime", network, image, classes(1), explain, seed=0)
    ((shown, scores),) = given
    assert shown.shape == (200, int(superpixels(image[0], 36).max()) + 1)
    assert shown[0].all()
    assert scores[0] == pytest.approx(class_scores(network, image)[0, 1].item(), rel=1e-4)
    assert 0.45 < shown[1:].mean() < 0.55


@pytest.mark.parametrize("count", [2, 7, 8, 50])
def test_limes_subsets_are_balanced_and_their_order_is_not(count: int) -> None:
    order = 2 ** count.bit_length()
    shown = attributions._subsets(2 * order, count, torch.Generator().manual_seed(0)).double()
    assert shown[0].all()
    # The first was drawn too, before it became the whole image: the others lack it.
    signs = 2 * shown[1:] - 1
    missing = -signs.sum(dim=0)
    assert missing.abs().eq(1).all()
    whole = torch.cat([missing.unsqueeze(0), signs])
    torch.testing.assert_close(whole.T @ whole, 2 * order * torch.eye(count, dtype=torch.float64))
    other = attributions._subsets(2 * order, count, torch.Generator().manual_seed(1)).double()
    assert not torch.equal(shown, other)


def test_in_a_part_of_a_block_no_two_superpixels_go_together() -> None:
    shown = attributions._subsets(64, 64, torch.Generator().manual_seed(0)).double()
    alike = torch.corrcoef(shown.T).fill_diagonal_(0).abs()
    assert alike.max() < 0.7


def test_a_balanced_design_is_stabler_than_as_many_independent_draws(
    monkeypatch: pytest.MonkeyPatch, explain: AttributionsParams, spec: NetworkParams
) -> None:
    network, image = with_random_weights(spec), pictures(1)

    def stability() -> float:
        maps = [
            attribute("lime", network, image, classes(1), explain, seed=seed).flatten()
            for seed in range(4)
        ]
        return float(torch.corrcoef(torch.stack(maps)).mean())

    balanced = stability()
    monkeypatch.setattr(
        attributions,
        "_subsets",
        lambda samples, count, generator: torch.randint(
            0, 2, (samples, count), generator=generator
        ),
    )
    assert balanced > stability() + 0.002


def test_limes_regression_is_ridge_with_weights() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.metrics import pairwise_distances

    generator = np.random.default_rng(0)
    shown = generator.integers(0, 2, (80, 12)).astype(np.float64)
    shown[0], shown[1] = 1, 0
    scores = generator.normal(size=80)
    distances = pairwise_distances(shown, shown[:1], metric="cosine").ravel()
    weights = np.sqrt(np.exp(-(distances**2) / 0.25**2))
    expected = Ridge(alpha=1).fit(shown, scores, sample_weight=weights).coef_
    np.testing.assert_allclose(attributions._surrogate(shown, scores), expected, rtol=1e-8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 24, 128])
def test_superpixels_part_the_image(channels: int, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, 4, 4, generator=generator)
    (image,) = nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    parts = superpixels(image, 36)
    assert parts.shape == (size, size)
    assert parts.unique().tolist() == list(range(int(parts.max()) + 1))
    assert 18 <= int(parts.max()) + 1 <= 54
    assert torch.equal(parts, superpixels(image, 36))
    # Along the edges of the image: less varies within them than in squares.
    sums = [
        image[:, parts == number].var(dim=1, correction=0).sum() * (parts == number).sum()
        for number in parts.unique()
    ]
    squares = torch.arange(size) * 6 // size
    grid = squares.unsqueeze(1) * 6 + squares
    plain = [
        image[:, grid == number].var(dim=1, correction=0).sum() * (grid == number).sum()
        for number in grid.unique()
    ]
    assert sum(sums) < sum(plain)


def test_edges_are_where_the_brightness_changes(
    explain: AttributionsParams, spec: NetworkParams
) -> None:
    image = torch.zeros(1, 1, SIZE, SIZE)
    image[..., 12:] = 0.8
    (found,) = attribute("edges", with_random_weights(spec), image, classes(0), explain, seed=0)
    expected = torch.zeros(SIZE, SIZE)
    expected[:, 11:13] = 0.8
    torch.testing.assert_close(found, expected)


def test_noise_is_another_for_every_image(explain: AttributionsParams, spec: NetworkParams) -> None:
    network = with_random_weights(spec)
    one, other = attribute("random", network, pictures(2), classes(0, 0), explain, seed=0)
    assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.2


@pytest.mark.parametrize("method", ["edges", "integrated_gradients"])
@pytest.mark.parametrize("shade", [0.1, 0.3, 0.7])
def test_an_even_picture_has_no_edges_and_is_no_other_when_it_is_blurred(
    explain: AttributionsParams, spec: NetworkParams, method: str, shade: float
) -> None:
    image = torch.full((1, 1, SIZE, SIZE), shade)
    maps = attribute(method, with_random_weights(spec), image, classes(0), explain, seed=0)
    assert not maps.any()
