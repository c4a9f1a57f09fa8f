from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from tqdm import tqdm

from happymaps import devices
from happymaps.networks import Network, build_network
from happymaps.params import HappymapsParams, NetworkParams, Params
from happymaps.understanding.activation_maximization import HappyMaps, happy_maps
from happymaps.understanding.layers import (
    FilterObjective,
    decision_scores,
    neuron_layers,
    pool_filters,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 24
STILL = {"jitter": 0.0, "scale": 0.0, "rotation": 0.0}
OFF = {"total_variation": 0.0, "norm": 0.0}


@pytest.fixture
def few(params: Params) -> HappymapsParams:
    return params.happymaps.model_copy(update={"steps": 4, "precision": "float32"})


@pytest.fixture
def network(spec: NetworkParams) -> Network:
    return build_network(spec, SIZE, seed=0).eval()


class Bar(tqdm):  # type: ignore[type-arg]
    """Remembers how it was moved on; a user can be told to lose patience."""

    def __init__(self, patience: int = 1000) -> None:
        super().__init__(disable=True)
        self.moves: list[int] = []
        self.patience = patience

    def update(self, n: float | None = 1) -> bool | None:
        self.moves.append(int(n or 0))
        if len(self.moves) > self.patience:
            raise KeyboardInterrupt
        return super().update(n)


def variation(images: Tensor) -> float:
    across = (images[..., 1:] - images[..., :-1]).abs().mean()
    return float(across + (images[..., 1:, :] - images[..., :-1, :]).abs().mean())


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
@pytest.mark.parametrize("filters", ["mean", "centre"])
@pytest.mark.parametrize("decision", ["head", "logit"])
def test_every_neuron_gets_an_image(
    few: HappymapsParams, network: Network, parametrization: str, filters: str, decision: str
) -> None:
    change = {"parametrization": parametrization, "filters": filters, "decision": decision}
    for layer, count in neuron_layers(network).items():
        maps = happy_maps(network, layer, few.model_copy(update=change), seed=0)
        assert maps.images.shape == (count, 1, SIZE, SIZE)
        assert maps.images.dtype == torch.float32
        assert 0 <= maps.images.min() < 0.4
        assert 0.6 < maps.images.max() <= 1
        assert maps.reachable.dtype == torch.bool
        assert maps.reachable.shape == (count,)
        assert maps.reachable.all()
        assert not maps.images.requires_grad


@pytest.mark.parametrize("filters", ["mean", "centre"])
@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_maps_make_their_own_neuron_happier_than_noise_and_than_the_others_maps_do(
    params: Params, network: Network, filters: FilterObjective, parametrization: str
) -> None:
    # What the penalties and the movements ask for is not always the neuron's own wish.
    change = {"parametrization": parametrization, "filters": filters, "steps": 16, **STILL, **OFF}
    ascent = params.happymaps.model_copy(update=change)
    noise = torch.randn(20, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).sigmoid()
    for layer in neuron_layers(network):
        images = happy_maps(network, layer, ascent, seed=0).images
        answers, ordinary = (before_relu(network, layer, some, filters) for some in (images, noise))
        assert (answers.diag() > ordinary.max(dim=0).values).all(), layer
        # For a filter there are many summits, and another's map may lie on a higher one.
        if layer.startswith("dense"):
            assert (answers.argmax(dim=0) == torch.arange(len(images))).all(), layer


def before_relu(network: Network, layer: str, images: Tensor, filters: FilterObjective) -> Tensor:
    """(N, neurons): what a neuron's ascent is about, the leak apart."""
    with torch.inference_mode():
        outputs = network.before_relu(layer, images)
        if layer == network.decision_layer:
            return decision_scores(network, outputs, "head")
        outputs = nn.functional.leaky_relu(outputs, 0.01)
        return pool_filters(outputs, filters) if outputs.ndim == 4 else outputs


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_images_stay_within_0_and_1_however_hard_they_are_pulled(
    few: HappymapsParams, network: Network, parametrization: str
) -> None:
    change = {"parametrization": parametrization, "learning_rate": 50.0, **OFF}
    images = happy_maps(network, "dense_1", few.model_copy(update=change), seed=0).images
    assert images.min() == 0
    assert images.max() == 1


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_the_same_seed_gives_the_same_bytes_and_another_others(
    few: HappymapsParams, network: Network, parametrization: str
) -> None:
    ascent = few.model_copy(update={"parametrization": parametrization})
    for layer in neuron_layers(network):
        found = []
        for seed, others in ((1, 0), (1, 5), (2, 0)):
            # Random numbers that anyone else draws do not matter.
            torch.manual_seed(others)
            found.append(happy_maps(network, layer, ascent, seed=seed).images.numpy().tobytes())
        assert found[0] == found[1], layer
        assert found[0] != found[2], layer


@pytest.mark.parametrize("supported", [True, False])
def test_mixed_precision_climbs_the_same_way_where_the_device_multiplies_bfloat16(
    few: HappymapsParams, network: Network, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_multiplies_bfloat16", lambda device: supported)
    mixed = few.model_copy(update={"precision": "mixed"})
    for layer in neuron_layers(network):
        exact = happy_maps(network, layer, few, seed=0)
        rounded = happy_maps(network, layer, mixed, seed=0)
        assert torch.equal(exact.images, rounded.images) is not supported
        assert rounded.images.dtype == torch.float32
        assert torch.equal(exact.reachable, rounded.reachable)
        for one, other in zip(exact.images, rounded.images, strict=True):
            alike = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
            assert alike > 0.95


def test_dropout_plays_no_part_whatever_mode_the_network_is_in(
    few: HappymapsParams, network: Network
) -> None:
    for layer in ("dense_1", "dense_2"):
        before = happy_maps(network.eval(), layer, few, seed=0)
        while_training = happy_maps(network.train(), layer, few, seed=0)
        assert torch.equal(before.images, while_training.images)


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_a_neurons_map_does_not_depend_on_who_is_drawn_beside_it(
    few: HappymapsParams, network: Network, parametrization: str
) -> None:
    ascent = few.model_copy(update={"parametrization": parametrization})
    for layer, count in neuron_layers(network).items():
        together = happy_maps(network, layer, ascent, seed=0)
        for neuron in (0, count - 1):
            alone = happy_maps(network, layer, ascent, seed=0, neurons=[neuron])
            expected = together.images[neuron : neuron + 1]
            torch.testing.assert_close(alone.images, expected, atol=1e-3, rtol=0)


def test_neurons_come_in_the_order_asked_for(few: HappymapsParams, network: Network) -> None:
    for layer in ("conv2d_1", "dense_1"):
        together = happy_maps(network, layer, few, seed=0).images
        chosen = happy_maps(network, layer, few, seed=0, neurons=[3, 0, 3]).images
        torch.testing.assert_close(chosen, together[[3, 0, 3]], atol=1e-3, rtol=0)
        assert (chosen[0] - chosen[1]).abs().max() > 0.05


def test_little_memory_takes_more_chunks_to_the_same_maps(
    few: HappymapsParams, spec: NetworkParams
) -> None:
    wide = build_network(spec.model_copy(update={"filters": [16], "dense": [3]}), 32, seed=0)
    plenty, little = Bar(), Bar()
    expected = happy_maps(wide, "conv2d_1", few, seed=0, bar=plenty)
    sparing = few.model_copy(update={"memory": 1})
    maps = happy_maps(wide, "conv2d_1", sparing, seed=0, bar=little)
    torch.testing.assert_close(maps.images, expected.images, atol=1e-3, rtol=0)
    assert torch.equal(maps.reachable, expected.reachable)
    assert plenty.moves == [16]
    assert len(little.moves) > 4
    assert sum(little.moves) == 16
    # The first layer's outputs and their gradients alone, of 4 bytes each.
    assert max(little.moves) * 2 * 16 * 30 * 30 * 4 <= 2**20


def test_a_network_too_large_for_the_memory_is_drawn_one_by_one(
    few: HappymapsParams, spec: NetworkParams
) -> None:
    wide = build_network(spec.model_copy(update={"filters": [64], "dense": [2]}), 32, seed=0)
    bar = Bar()
    sparing = few.model_copy(update={"memory": 1, "steps": 1})
    happy_maps(wide, "dense_1", sparing, seed=0, bar=bar)
    assert bar.moves == [1, 1]


def test_the_bar_moves_on_by_the_neurons_asked_for(few: HappymapsParams, network: Network) -> None:
    bar = Bar()
    happy_maps(network, "conv2d_2", few, seed=0, neurons=[1, 4], bar=bar)
    happy_maps(network, "dense_2", few, seed=0, bar=bar)
    assert bar.moves == [2, 2]


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_the_variations_weight_makes_maps_smoother(
    params: Params, network: Network, parametrization: str
) -> None:
    found = []
    for weight in (0.0, 0.5, 3.0):
        change = {"parametrization": parametrization, "total_variation": weight, "steps": 16}
        ascent = params.happymaps.model_copy(update=change)
        maps = happy_maps(network, "conv2d_2", ascent, seed=0, neurons=[0, 1, 2])
        found.append(variation(maps.images))
    assert found[0] > 1.1 * found[1] > 1.2 * found[2]


def test_the_norms_weight_keeps_maps_from_black_and_white(params: Params, network: Network) -> None:
    found = []
    for weight in (0.0, 0.1, 2.0):
        ascent = params.happymaps.model_copy(update={"norm": weight, "steps": 16})
        images = happy_maps(network, "dense_1", ascent, seed=0, neurons=[0, 1, 2]).images
        found.append((images - 0.5).abs().mean().item())
    assert found[0] > found[1] > found[2]


def test_without_penalties_and_movements_it_is_the_bare_ascent(
    few: HappymapsParams, network: Network
) -> None:
    change = {"parametrization": "pixel", **STILL, **OFF}
    bare = few.model_copy(update=change)
    start = 0.6 * torch.randn(1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    for layer, count in neuron_layers(network).items():
        images = happy_maps(network, layer, bare, seed=0).images
        for neuron in (0, count - 1):
            plain = plain_ascent(network, layer, neuron, bare, start)
            torch.testing.assert_close(images[neuron], plain, atol=1e-3, rtol=0, msg=layer)


def plain_ascent(
    network: Network, layer: str, neuron: int, params: HappymapsParams, start: Tensor
) -> Tensor:
    """Adam (Kingma and Ba 2015) written out, on one image through all of the network."""
    logits, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, params.steps + 1):
        images = logits.sigmoid().unsqueeze(0).requires_grad_()
        outputs = network.before_relu(layer, images)
        if layer == network.decision_layer:
            chances = outputs.softmax(dim=1)[0]
            happiness = (chances / (1 - chances)).log()[neuron]
        else:
            happiness = nn.functional.leaky_relu(outputs, 0.01)[0, neuron].mean()
        (gradient,) = torch.autograd.grad(happiness, images)
        pull = gradient[0] / gradient.square().mean().sqrt()
        images = images.detach()[0]
        slope = -pull * images * (1 - images)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope.square()
        update = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        logits = logits - params.learning_rate * update
    return logits.sigmoid()


def test_a_neuron_is_reachable_that_had_a_gradient_at_any_time(
    few: HappymapsParams, spec: NetworkParams
) -> None:
    """The first sees nothing. The other wants it dark, where the filter before it falls silent."""
    change = {"filters": [1], "kernel": 1, "dense": [2]}
    network = Network(spec.model_copy(update=change), SIZE).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.get_parameter("conv2d_1.weight").fill_(1)
        network.get_parameter("conv2d_1.bias").fill_(-0.3)
        network.get_parameter("dense_1.weight")[1] = -1
    change = {"parametrization": "pixel", "learning_rate": 5.0, **STILL, **OFF}
    maps = happy_maps(network, "dense_1", few.model_copy(update=change), seed=0)
    assert maps.reachable.tolist() == [False, True]
    start = 0.6 * torch.randn(1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(maps.images[0], start.sigmoid())
    assert maps.images[1].max() < 0.3


def test_colour_networks_get_maps_in_colour(few: HappymapsParams, spec: NetworkParams) -> None:
    network = Network(spec, SIZE, channels=3).eval()
    for layer, count in neuron_layers(network).items():
        for parametrization in ("fourier", "pixel"):
            ascent = few.model_copy(update={"parametrization": parametrization})
            maps = happy_maps(network, layer, ascent, seed=0)
            assert maps.images.shape == (count, 3, SIZE, SIZE)
            assert maps.reachable.all()
            # No channel is another's copy.
            assert (maps.images[:, 0] - maps.images[:, 1]).abs().mean() > 0.05


def condition(network: Network) -> dict[str, object]:
    """All that drawing maps could have changed."""
    found: dict[str, object] = {}
    for name, module in network.named_modules():
        hooks = [module._forward_hooks, module._forward_pre_hooks]
        found[f"{name} training"] = module.training
        found[f"{name} hooks"] = [len(some) for some in [*hooks, module._backward_hooks]]
        found[f"{name} pre-hooks"] = len(module._backward_pre_hooks)
    for name, weight in network.named_parameters():
        found[f"{name} wanted"] = weight.requires_grad
        found[f"{name} gradient"] = None if weight.grad is None else weight.grad.tolist()
        found[f"{name} values"] = weight.tolist()
    return found


def run(network: Network, few: HappymapsParams) -> HappyMaps:
    return happy_maps(network, "dense_1", few, seed=0)


def with_an_unknown_layer(network: Network, few: HappymapsParams) -> None:
    with pytest.raises(KeyError, match="conv2d_9"):
        happy_maps(network, "conv2d_9", few, seed=0)


def with_a_neuron_too_many(network: Network, few: HappymapsParams) -> None:
    for layer, count in neuron_layers(network).items():
        with pytest.raises(IndexError):
            happy_maps(network, layer, few, seed=0, neurons=[0, count])


def with_an_impatient_user(network: Network, few: HappymapsParams) -> None:
    bar = Bar(patience=0)
    with pytest.raises(KeyboardInterrupt):
        happy_maps(network, "dense_1", few, seed=0, bar=bar)
    assert bar.moves == [8]


def with_images_of_the_wrong_shape(network: Network, few: HappymapsParams) -> None:
    network.image_shape = (3, *network.image_shape[1:])
    with pytest.raises(RuntimeError):
        happy_maps(network, "dense_1", few, seed=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        run,
        with_an_unknown_layer,
        with_a_neuron_too_many,
        with_an_impatient_user,
        with_images_of_the_wrong_shape,
    ],
)
def test_the_network_comes_back_as_it_was(
    few: HappymapsParams,
    network: Network,
    call: Callable[[Network, HappymapsParams], Any],
    training: bool,
) -> None:
    network.train(training)
    before = condition(network)
    call(network, few)
    assert condition(network) == before
    # What was frozen stays frozen, and a gradient that was there is still there.
    network.get_parameter("conv2d_1.weight").requires_grad_(False)
    bias = network.get_parameter("dense_1.bias")
    bias.grad = torch.ones_like(bias)
    before = condition(network)
    call(network, few)
    assert condition(network) == before


def test_parts_in_modes_of_their_own_keep_them(few: HappymapsParams, network: Network) -> None:
    network.train()
    network.get_submodule("dropout").eval()
    before = condition(network)
    run(network, few)
    assert condition(network) == before


def test_nobody_elses_random_numbers_are_used_up(few: HappymapsParams, network: Network) -> None:
    before = torch.get_rng_state()
    run(network.train(), few)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_failure_in_the_middle_of_an_ascent_leaves_the_network_as_it_was(
    few: HappymapsParams, network: Network
) -> None:
    class Break(nn.Module):
        """Hands its inputs on, until it does not."""

        def __init__(self, calls: int) -> None:
            super().__init__()
            self.calls = calls

        def forward(self, inputs: Tensor) -> Tensor:
            self.calls -= 1
            if self.calls < 0:
                raise RuntimeError("worn out")
            return inputs.flatten(1)

    network.train()
    network.flatten = Break(calls=3)
    before = condition(network)
    with pytest.raises(RuntimeError, match="worn out"):
        happy_maps(network, "dense_1", few, seed=0)
    assert condition(network) == before


@pytest.mark.parametrize("layer", ["max_pooling2d_1", "flatten", "dropout", "softmax", ""])
def test_only_layers_with_neurons_have_maps(
    few: HappymapsParams, network: Network, layer: str
) -> None:
    with pytest.raises(KeyError):
        happy_maps(network, layer, few, seed=0)


@pytest.mark.parametrize("neurons", [[0], range(2), (1, 0)])
def test_any_sequence_of_neurons_will_do(
    few: HappymapsParams, network: Network, neurons: Sequence[int]
) -> None:
    assert len(happy_maps(network, "dense_2", few, seed=0, neurons=neurons).images) == len(neurons)
