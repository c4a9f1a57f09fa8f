"""Networks built by hand, whose neurons' best input is known."""

import pytest
import torch
from torch import Tensor

from happymaps.networks import Network
from happymaps.params import HappymapsParams, NetworkParams, Params
from happymaps.understanding.activation_maximization import HappyMaps, happy_maps
from happymaps.understanding.similarity import correlations

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 24
PIXELS = SIZE * SIZE
STILL = {"jitter": 0.0, "scale": 0.0, "rotation": 0.0}


@pytest.fixture
def steady(params: Params) -> HappymapsParams:
    """A number a pixel and nothing moved: the quickest to arrive."""
    change = {"parametrization": "pixel", "steps": 32, **STILL}
    return params.happymaps.model_copy(update=change)


def disc(row: int, column: int, radius: float) -> Tensor:
    """1 inside, -1 outside."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    return torch.where(inside, 1.0, -1.0)


def letter() -> Tensor:
    """An L: no symmetry of its own, so that a map turned or mirrored shows."""
    pattern = torch.full((SIZE, SIZE), -1.0)
    pattern[4:20, 4:10] = 1
    pattern[14:20, 4:20] = 1
    return pattern


def by_hand(spec: NetworkParams, **changes: object) -> Network:
    """All weights 0 but those of `conv2d_1`'s first filter, which hands the image on.

    Images are never below 0, so that its ReLU does nothing.
    """
    spec = spec.model_copy(update={"filters": [2], "kernel": 1, "dense": [5], **changes})
    network = Network(spec, SIZE).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.get_parameter("conv2d_1.weight")[0] = 1
    return network


def wants(network: Network, layer: str, neuron: int, pattern: Tensor) -> None:
    """Let a unit behind the flattened first filter answer with `pattern` times the image."""
    with torch.no_grad():
        network.get_parameter(f"{layer}.weight")[neuron, :PIXELS] = pattern.flatten()


def likeness(maps: HappyMaps, patterns: list[Tensor]) -> list[list[float]]:
    table: list[list[float]] = correlations(maps.images, torch.stack(patterns)).tolist()
    return table


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_units_that_want_one_pattern_each_get_it_from_the_committed_params(
    params: Params, spec: NetworkParams, parametrization: str
) -> None:
    network = by_hand(spec)
    patterns = [disc(8, 14, 6), letter(), -letter()]
    for neuron, pattern in enumerate(patterns):
        wants(network, "dense_1", neuron, pattern)
    committed = params.happymaps.model_copy(update={"parametrization": parametrization})
    maps = happy_maps(network, "dense_1", committed, seed=0, neurons=[0, 1, 2])
    assert maps.reachable.all()
    table = likeness(maps, patterns)
    for neuron, row in enumerate(table):
        assert row[neuron] >= 0.95
        assert sorted(row)[-2] < 0.5
    assert table[1][2] <= -0.95


def test_a_map_shows_the_pattern_white_on_black(
    steady: HappymapsParams, spec: NetworkParams
) -> None:
    network = by_hand(spec)
    wants(network, "dense_1", 3, letter())
    image = happy_maps(network, "dense_1", steady, seed=0, neurons=[3]).images[0, 0]
    assert image[letter() > 0].min() > 0.6
    assert image[letter() < 0].max() < 0.4


def test_a_dead_unit_is_not_reachable(steady: HappymapsParams, spec: NetworkParams) -> None:
    network = by_hand(spec)
    wants(network, "dense_1", 0, letter())
    wants(network, "dense_1", 2, 1e-6 * letter())
    with torch.no_grad():
        network.get_parameter("dense_1.bias")[1] = 5
        # The second filter is 0 everywhere, and a unit that sees nothing else is as dead.
        network.get_parameter("dense_1.weight")[3, PIXELS:] = 1
    few = steady.model_copy(update={"steps": 3})
    assert happy_maps(network, "dense_1", few, seed=0).reachable.tolist() == [
        True, False, True, False, False,
    ]  # fmt: skip
    assert happy_maps(network, "conv2d_1", few, seed=0).reachable.tolist() == [True, False]
    logit = few.model_copy(update={"decision": "logit"})
    assert not happy_maps(network, "dense_2", logit, seed=0).reachable.any()


def test_a_unit_behind_a_filter_that_never_fires_is_not_reachable(
    steady: HappymapsParams, spec: NetworkParams
) -> None:
    network = by_hand(spec)
    wants(network, "dense_1", 0, letter())
    with torch.no_grad():
        network.get_parameter("conv2d_1.bias")[0] = -2
    few = steady.model_copy(update={"steps": 3})
    assert not happy_maps(network, "dense_1", few, seed=0).reachable.any()
    # The filter itself has a slope left, which a ReLU would have taken.
    assert happy_maps(network, "conv2d_1", few, seed=0).reachable.tolist() == [True, False]


def test_a_silent_unit_is_woken(steady: HappymapsParams, spec: NetworkParams) -> None:
    network = by_hand(spec)
    wants(network, "dense_1", 0, letter())
    with torch.no_grad():
        # Of grey it makes far less than 0, having more dark than bright; of its pattern more.
        network.get_parameter("dense_1.bias")[0] = -20
    grey = torch.full((1, 1, SIZE, SIZE), 0.5)
    assert network.before_relu("dense_1", grey)[0, 0] < -100
    maps = happy_maps(network, "dense_1", steady, seed=0, neurons=[0])
    assert maps.reachable.all()
    assert network.before_relu("dense_1", maps.images)[0, 0] > 0


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_twins_get_the_same_map(params: Params, spec: NetworkParams, parametrization: str) -> None:
    network = by_hand(spec, filters=[3], kernel=3, dense=[3], target="pose")
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for name in ("conv2d_1", "dense_1", "dense_2"):
            weight = network.get_parameter(f"{name}.weight")
            # More is wanted than not, so that every ReLU lets something through.
            weight.copy_(torch.rand(weight.shape, generator=generator) - 0.4)
            weight[1] = weight[0]
    exact = {"steps": 6, "precision": "float32"}
    change = {"parametrization": parametrization, "decision": "logit", **exact}
    few = params.happymaps.model_copy(update=change)
    for layer in ("conv2d_1", "dense_1", "dense_2"):
        maps = happy_maps(network, layer, few, seed=0)
        assert maps.reachable.all(), layer
        assert torch.equal(maps.images[0], maps.images[1]), layer
        assert (maps.images[0] - maps.images[2]).abs().max() > 0.05, layer


def test_a_unit_that_says_the_same_louder_gets_nearly_the_same_map(
    params: Params, spec: NetworkParams
) -> None:
    network = by_hand(spec)
    wants(network, "dense_1", 0, letter())
    wants(network, "dense_1", 1, 300 * letter())
    wants(network, "dense_1", 2, 1e-4 * letter())
    few = params.happymaps.model_copy(update={"steps": 12, "precision": "float32"})
    maps = happy_maps(network, "dense_1", few, seed=0, neurons=[0, 1, 2])
    assert correlations(maps.images, maps.images).min() > 0.999


def bars(spec: NetworkParams) -> Network:
    """`conv2d_1`: two filters that want a bright bar on dark, upright and lying."""
    network = by_hand(spec, kernel=5)
    with torch.no_grad():
        weight = network.get_parameter("conv2d_1.weight")
        weight[0] = -1
        weight[0, 0, :, 2] = 4
        weight[1, 0] = weight[0, 0].T
    return network


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_a_filters_centre_neuron_wants_its_bar_in_the_middle(
    steady: HappymapsParams, spec: NetworkParams, parametrization: str
) -> None:
    network = bars(spec)
    change = {"parametrization": parametrization, "filters": "centre", "steps": 24}
    maps = happy_maps(network, "conv2d_1", steady.model_copy(update=change), seed=0)
    assert maps.reachable.all()
    # The outputs' side is 20: output 10 sees the pixels 10 to 14.
    field = maps.images[:, :, 10:15, 10:15]
    upright, lying = correlations(field, network.get_parameter("conv2d_1.weight").detach())
    assert upright[0] > 0.95
    assert lying[1] > 0.95
    assert upright[1] < 0.3
    # Outside of what the neuron sees, only the penalties pull: it stays grey.
    seen = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    seen[9:16, 9:16] = True
    contrast = (maps.images[:, 0] - 0.5).abs()
    assert contrast[:, seen].mean() > 2 * contrast[:, ~seen].mean()


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_a_whole_filter_wants_stripes_in_its_bars_direction(
    params: Params, spec: NetworkParams, parametrization: str
) -> None:
    change = {"parametrization": parametrization, "filters": "mean", "steps": 32}
    committed = params.happymaps.model_copy(update=change)
    images = happy_maps(bars(spec), "conv2d_1", committed, seed=0).images
    across = (images[..., 1:] - images[..., :-1]).abs().mean(dim=(1, 2, 3))
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean(dim=(1, 2, 3))
    assert across[0] > 3 * down[0]
    assert down[1] > 3 * across[1]
    # Stripes and not one edge: every row crosses from dark to bright again and again.
    for image in (images[0, 0], images[1, 0].T):
        profile = image.mean(dim=0)
        bright = profile > profile.mean()
        assert (bright[1:] != bright[:-1]).sum() >= 4


def test_the_decision_before_and_after_the_head_want_different_images(
    steady: HappymapsParams, spec: NetworkParams
) -> None:
    network = by_hand(spec, dense=[])
    own, rival = disc(7, 7, 5), disc(16, 16, 5)
    wants(network, "dense_1", 0, rival)
    wants(network, "dense_1", 1, own)
    head, logit = (
        happy_maps(network, "dense_1", steady.model_copy(update={"decision": decision}), seed=0)
        for decision in ("head", "logit")
    )
    # The chance grows as well where the other class loses: bright in one disc, dark in the other.
    difference = own - rival
    assert likeness(head, [difference])[1][0] > 0.9
    assert likeness(head, [difference])[0][0] < -0.9
    rows = likeness(logit, [rival, own])
    assert rows[0][0] > 0.95
    assert rows[1][1] > 0.95
    assert max(rows[0][1], rows[1][0]) < 0.3


def test_four_classes_each_want_what_the_other_three_do_not(
    steady: HappymapsParams, spec: NetworkParams
) -> None:
    network = by_hand(spec, dense=[], target="pose")
    corners = [disc(row, column, 5) for row in (6, 17) for column in (6, 17)]
    for neuron, corner in enumerate(corners):
        wants(network, "dense_1", neuron, corner)
    images = happy_maps(network, "dense_1", steady, seed=0).images
    for neuron, image in enumerate(images[:, 0]):
        levels = torch.stack([image[corner > 0].mean() for corner in corners])
        assert levels.argmax() == neuron
        assert levels[neuron] > 0.7
        assert levels.sum() - levels[neuron] < 3 * 0.45


def test_a_linear_head_wants_the_neurons_own_pattern(
    steady: HappymapsParams, spec: NetworkParams
) -> None:
    network = by_hand(spec, dense=[], head="linear", loss="mean_squared_error")
    patterns = [disc(7, 7, 5), disc(16, 16, 5)]
    for neuron, pattern in enumerate(patterns):
        wants(network, "dense_1", neuron, pattern)
    table = likeness(happy_maps(network, "dense_1", steady, seed=0), patterns)
    assert min(table[0][0], table[1][1]) > 0.95


def test_a_pattern_comes_through_pooling_and_a_second_convolution(
    steady: HappymapsParams, spec: NetworkParams
) -> None:
    network = by_hand(spec, filters=[1, 1])
    coarse = torch.full((12, 12), -1.0)
    coarse[2:8, 3:6] = 1
    with torch.no_grad():
        network.get_parameter("conv2d_2.weight")[0] = 1
        network.get_parameter("dense_1.weight")[0] = coarse.flatten()
    image = happy_maps(network, "dense_1", steady, seed=0, neurons=[0]).images
    # A pool hands on the largest of four: dark means all four, bright means one at least.
    blocks = torch.nn.functional.max_pool2d(image, 2)
    assert correlations(blocks, coarse.unsqueeze(0)).item() > 0.9


def test_a_colour_network_gets_the_colour_it_wants(
    steady: HappymapsParams, spec: NetworkParams
) -> None:
    spec = spec.model_copy(update={"filters": [2], "kernel": 3, "dense": [3]})
    network = Network(spec, 16, channels=3).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.get_parameter("conv2d_1.weight")[0, 0] = 1
        network.get_parameter("conv2d_1.weight")[0, 2] = -1
    images = happy_maps(network, "conv2d_1", steady, seed=0).images
    assert images.shape == (2, 3, 16, 16)
    red, _, blue = images[0].mean(dim=(1, 2)).tolist()
    assert red > 0.8
    assert blue < 0.2
    # Green counts for nothing, and each channel has a start of its own.
    green = images[0, 1]
    assert correlations(images[1:, 1], green.unsqueeze(0)).item() > 0.99
    assert correlations(images[1:, 0], green.unsqueeze(0)).abs().item() < 0.5
