import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from happymaps.networks import Network, build_network
from happymaps.params import NetworkParams
from happymaps.understanding.intervals import mean_interval
from happymaps.understanding.layers import neuron_layers
from happymaps.understanding.sanity import (
    LIMIT,
    _likeness,
    randomised,
    rank_correlations,
    sanity,
    structural_similarities,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32


@pytest.fixture
def network(spec: NetworkParams) -> Network:
    """With weights of its own, and biases that are not 0."""
    network = build_network(spec, SIZE, seed=5).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(0, 0.1, generator=generator)
    return network


def noise(count: int, side: int = SIZE, *, seed: int = 0) -> Tensor:
    return torch.randn(count, side, side, generator=torch.Generator().manual_seed(seed))


def images() -> Tensor:
    return torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def edges(network: Network) -> Tensor:
    """Where an image changes: no network is asked."""
    changes = torch.zeros(3, SIZE, SIZE)
    changes[:, :, 1:] = images()[:, 0].diff(dim=2)
    return changes


def gradient(network: Network, inputs: Tensor | None = None) -> Tensor:
    inputs = (images() if inputs is None else inputs).clone().requires_grad_()
    (slope,) = torch.autograd.grad(network.logits(inputs)[:, 1].sum(), inputs)
    return slope[:, 0]


def parameters(network: Network) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def test_layers_become_random_one_by_one_from_the_decision_down(network: Network) -> None:
    before = parameters(network)
    layers = list(neuron_layers(network))[::-1]
    assert layers[0] == network.decision_layer
    steps = list(randomised(network, seed=0))
    assert [name for name, _ in steps] == layers
    for depth, (_, other) in enumerate(steps, start=1):
        changed = {
            name.split(".")[0]
            for name, value in other.named_parameters()
            if not torch.equal(value, before[name])
        }
        assert changed == set(layers[:depth])
    # What has been drawn once stays.
    for (name, shallow), (_, deep) in itertools.pairwise(steps):
        for kind in ("weight", "bias"):
            key = f"{name}.{kind}"
            assert torch.equal(shallow.get_parameter(key), deep.get_parameter(key))


def test_the_trained_network_stays_as_it_is(network: Network) -> None:
    before = parameters(network)
    sanity(gradient(network), gradient, network, seed=0, networks=2)
    assert network.training is False
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name])


def test_random_layers_are_drawn_as_for_an_untrained_network(
    spec: NetworkParams, network: Network
) -> None:
    *_, (_, last) = randomised(network, seed=0)
    fresh = build_network(spec, SIZE, seed=1)
    for name, value in last.named_parameters():
        if name.endswith("bias"):
            assert not value.any()
        else:
            expected = fresh.get_parameter(name)
            bound = expected.abs().max().item()
            assert value.abs().max().item() == pytest.approx(bound, rel=0.15)
            assert value.std().item() == pytest.approx(expected.std().item(), rel=0.25)
    assert not last.training


def test_random_layers_are_the_seeds(network: Network) -> None:
    one, same, other = (
        parameters(next(iter(randomised(network, seed)))[1])["dense_2.weight"] for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_colour_networks_are_randomised_too(spec: NetworkParams) -> None:
    network = Network(spec, SIZE, channels=3).eval()
    *_, (name, last) = randomised(network, seed=0)
    assert name == "conv2d_1"
    assert last(torch.rand(2, 3, SIZE, SIZE)).shape == (2, 2)


def test_an_edge_detector_fails(network: Network) -> None:
    found = sanity(edges(network), edges, network, seed=0, networks=12)
    assert found["correlation"] == pytest.approx(1)
    assert found["ssim"] == pytest.approx(1)
    assert found["passes"] is False
    assert list(found["cascade"]) == list(neuron_layers(network))[::-1]
    assert all(row["correlation"] == pytest.approx(1) for row in found["cascade"].values())


def test_noise_that_no_network_had_a_part_in_fails(network: Network) -> None:
    found = sanity(noise(3), lambda _: noise(3), network, seed=0, networks=12)
    assert found["networks"] == 12
    assert found["correlation_interval"] == pytest.approx([1, 1])
    assert found["passes"] is False


def test_a_map_that_says_nothing_fails(network: Network) -> None:
    silence = torch.zeros(3, SIZE, SIZE)
    found = sanity(silence, lambda _: silence, network, seed=0, networks=12)
    assert found["silent"] == 1
    assert found["passes"] is False


def test_random_networks_that_say_nothing_prove_nothing(network: Network) -> None:
    found = sanity(noise(3), lambda _: torch.zeros(3, SIZE, SIZE), network, seed=0, networks=12)
    assert (found["silent"], found["networks"]) == (1, 0)
    assert found["passes"] is False
    # Where some do, on some images, the others decide.
    mixed = noise(3, seed=1)
    mixed[0] = 2.0
    maps = [torch.zeros(3, SIZE, SIZE), *[mixed] * 11, noise(3, seed=2)]
    found = sanity(noise(3), one_by_one(network, maps), network, seed=0, networks=13)
    alone = rank_correlations(noise(3), mixed)[1:].abs().mean().item()
    whole = rank_correlations(noise(3), maps[-1]).abs().mean().item()
    assert found["networks"] == 12
    assert found["silent"] == pytest.approx((3 + 11) / 39)
    assert found["correlation"] == pytest.approx((11 * alone + whole) / 12)
    assert found["passes"] is True
    # Too few to tell.
    few = sanity(noise(3), one_by_one(network, maps[:12]), network, seed=0, networks=12)
    assert few["networks"] == 11
    assert few["correlation"] < LIMIT
    assert few["passes"] is False


def test_networks_that_disagree_leave_the_mean_uncertain(network: Network) -> None:
    """All images of a network alike: there is nothing but the networks that scatters."""
    like, unlike = noise(3), noise(3, seed=1)
    maps = [like if number % 3 == 0 else unlike for number in range(12)]
    found = sanity(like, one_by_one(network, maps), network, seed=0, networks=12)
    other = rank_correlations(like, unlike).abs().mean().item()
    assert found["correlation"] == pytest.approx((4 + 8 * other) / 12)
    assert found["correlation"] < LIMIT < found["correlation_interval"][1]
    assert found["passes"] is False
    _, *ends = mean_interval(torch.tensor([1.0, other, other] * 4), seed=0)
    assert found["correlation_interval"] == pytest.approx(ends)


def test_a_trained_network_that_says_nothing_has_not_changed_its_mind(network: Network) -> None:
    found = sanity(torch.zeros(3, SIZE, SIZE), lambda _: noise(3), network, seed=0, networks=12)
    assert (found["silent"], found["networks"]) == (1, 0)
    assert found["passes"] is False
    # Where it says something, that decides.
    mixed = noise(3, seed=1)
    mixed[0] = 2.0
    found = sanity(mixed, lambda _: noise(3), network, seed=0, networks=2)
    assert found["silent"] == pytest.approx(1 / 3)
    alone = rank_correlations(mixed, noise(3))[1:].abs().mean().item()
    assert found["correlation"] == pytest.approx(alone)


def test_the_gradient_passes(spec: NetworkParams) -> None:
    # Wide: with a few filters, the places that none of them answers to are alike.
    wide = spec.model_copy(update={"filters": [16, 16], "dense": [32]})
    trained = build_network(wide, SIZE, seed=5).eval()
    found = sanity(gradient(trained), gradient, trained, seed=0, networks=12)
    assert found["passes"] is True
    assert found["correlation"] < found["correlation_interval"][1] < LIMIT
    assert found["ssim"] < LIMIT


def one_by_one(network: Network, maps: list[Tensor]) -> Callable[[Network], Tensor]:
    """One map for each network whose first layer is random; the first one's until it is."""
    weights = [network.get_parameter("conv2d_1.weight").detach()]

    def explain(other: Network) -> Tensor:
        weight = other.get_parameter("conv2d_1.weight").detach()
        if not any(torch.equal(one, weight) for one in weights):
            weights.append(weight)
        return maps[max(len(weights) - 2, 0)]

    return explain


def test_of_the_first_network_it_looks_layer_by_layer_of_the_others_at_the_end(
    network: Network,
) -> None:
    asked: list[Network] = []

    def explain(other: Network) -> Tensor:
        asked.append(copy.deepcopy(other))
        return gradient(other)

    found = sanity(gradient(network), explain, network, seed=3, networks=12)
    layers = list(neuron_layers(network))[::-1]
    assert list(found["cascade"]) == layers
    assert len(asked) == len(layers) + 11
    for number, other in enumerate(asked[-12:]):
        *_, (_, random) = randomised(network, seed=3 + number)
        for name, value in parameters(random).items():
            assert torch.equal(other.get_parameter(name), value)
    by_network = [rank_correlations(gradient(network), gradient(one)).abs() for one in asked[-12:]]
    assert found["correlation"] == pytest.approx(torch.stack(by_network).mean().item())
    first = found["cascade"]["conv2d_1"]
    assert first["correlation"] == pytest.approx(by_network[0].mean().item())


def test_a_method_that_sees_the_decision_layer_only_changes_in_the_first_step(
    network: Network,
) -> None:
    def explain(other: Network) -> Tensor:
        weight = other.get_parameter("dense_2.weight").detach()
        return weight.flatten()[:16].view(1, 4, 4).repeat(3, 1, 1)

    found = sanity(explain(network), explain, network, seed=0, networks=2)["cascade"]
    assert len({row["correlation"] for row in found.values()}) == 1
    assert found["dense_2"]["correlation"] < 0.8


def test_maps_against_each_other_count_in_strength_whatever_the_correlations_sign(
    network: Network,
) -> None:
    first = torch.arange(64.0).view(1, 8, 8)
    found = sanity(first, lambda _: 63 - first, network, seed=0, networks=12)
    assert rank_correlations(first, 63 - first).item() == pytest.approx(-1)
    assert found["correlation"] == pytest.approx(1)
    assert found["passes"] is False


def test_rank_correlations_are_spearmans_of_the_absolute_values() -> None:
    one, other = noise(4, 9), noise(4, 9, seed=1)
    other[1] += 2 * one[1]
    # Ties.
    one[2] = one[2].round()
    found = rank_correlations(one, other)
    expected = [
        spearmanr(left.abs().flatten().numpy(), right.abs().flatten().numpy()).statistic
        for left, right in zip(one, other, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert expected[1] > 0.5


def test_rank_correlation_by_hand() -> None:
    one = torch.tensor([[[0.0, 1.0], [-2.0, 3.0]]])
    other = torch.tensor([[[1.0, 0.0], [9.0, -50.0]]])
    # Ranks 1 2 3 4 and 2 1 3 4: 1 - 6 * (1 + 1) / (4 * 15).
    assert rank_correlations(one, other).item() == pytest.approx(0.8)
    # Only the order counts, and no sign.
    assert rank_correlations(one, -(one**3)).item() == pytest.approx(1)


def test_similarity_is_of_each_pair_and_not_across() -> None:
    maps = noise(3, 12)
    swapped = maps[[0, 2, 1]]
    for found in (rank_correlations(maps, swapped), structural_similarities(maps, swapped)):
        assert found.shape == (3,)
        assert found[0].item() == pytest.approx(1)
        assert found[1:].abs().max() < 0.5


@pytest.mark.parametrize("level", [0.0, 0.1, -3.0])
@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_a_constant_map_is_like_none_and_says_nothing(level: float, rounding: float) -> None:
    constant = level * (1 + rounding * noise(2, 12))
    # Mostly 0, as Grad-CAM's are: by itself its SSIM with nothing at all would be high.
    dot = torch.zeros(2, 12, 12)
    dot[:, 6, 6] = 1
    pairs = ((constant, dot), (dot, constant), (constant, torch.zeros(2, 12, 12)))
    for one, other in pairs:
        assert _likeness(one, other) == {"silent": 1, "correlation": 0, "ssim": 0}


def test_structural_similarity_of_the_same_map_is_1_at_any_scale_and_sign() -> None:
    maps = noise(2, 16)
    assert structural_similarities(maps, maps).tolist() == pytest.approx([1, 1])
    assert structural_similarities(maps, -1e-6 * maps).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert structural_similarities(maps, noise(2, 16, seed=1)).max() < 0.3


@pytest.mark.parametrize("side", [3, 4, 6, 7])
def test_structural_similarity_of_small_maps(side: int) -> None:
    maps = noise(2, side)
    assert structural_similarities(maps, maps).tolist() == pytest.approx([1, 1])


def test_structural_similarity_of_one_window_is_the_formula() -> None:
    one, other = noise(1, 7).abs(), noise(1, 7, seed=1).abs()
    x, y = (((maps - maps.min()) / (maps.max() - maps.min())).double() for maps in (one, other))
    c1, c2 = 0.01**2, 0.03**2
    covariance = ((x - x.mean()) * (y - y.mean())).sum() / 48
    expected = (
        (2 * x.mean() * y.mean() + c1)
        * (2 * covariance + c2)
        / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2))
    )
    assert structural_similarities(one, other).item() == pytest.approx(expected.item(), abs=1e-6)


def test_every_step_is_explained_from_an_independent_copy(network: Network) -> None:
    seen = [copy.deepcopy(parameters(other)) for _, other in randomised(network, seed=3)]
    kept = [other for _, other in randomised(network, seed=3)]
    for before, other in zip(seen, kept, strict=True):
        for name, value in other.named_parameters():
            assert torch.equal(value, before[name])


def test_a_network_counts_that_says_something_of_one_image_only(network: Network) -> None:
    one_of_three = noise(3, seed=1)
    one_of_three[:2] = 2.0
    found = sanity(noise(3), lambda _: one_of_three, network, seed=0, networks=12)
    assert found["networks"] == 12
    assert found["silent"] == pytest.approx(2 / 3)
    alone = rank_correlations(noise(3), one_of_three)[2].abs().item()
    assert found["correlation"] == pytest.approx(alone)
