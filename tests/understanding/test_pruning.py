import numpy as np
import pytest
import torch
from torch import Tensor

from happymaps.answering import logits_of
from happymaps.datasets import to_input
from happymaps.networks import Network, build_network
from happymaps.params import NetworkParams
from happymaps.understanding import pruning
from happymaps.understanding.neurons import Neuron
from happymaps.understanding.pruning import moments, prove, without
from toys import toy_faces

FACES = toy_faces(40)
IMAGES = FACES.images


@pytest.fixture(params=[False, True], ids=["unpadded", "padded"])
def network(spec: NetworkParams, request: pytest.FixtureRequest) -> Network:
    spec = spec.model_copy(update={"padding": request.param})
    return build_network(spec, 32, seed=0).eval()


def set_neuron(
    network: Network, layer: str, neuron: int, weight: Tensor | float, bias: float
) -> None:
    module = network.get_submodule(layer)
    with torch.no_grad():
        module.weight[neuron] = weight  # type: ignore[operator]
        module.bias[neuron] = bias  # type: ignore[operator]


def weight_of(network: Network, layer: str, neuron: int) -> Tensor:
    weight: Tensor = network.get_submodule(layer).weight  # type: ignore[assignment]
    return weight[neuron].detach()


@pytest.mark.parametrize("layer", ["conv2d_1", "conv2d_2", "conv2d_3", "dense_1"])
@pytest.mark.parametrize("bias", [-1.0, 0.7])
def test_a_neuron_that_is_always_the_same_is_not_missed(
    network: Network, layer: str, bias: float
) -> None:
    set_neuron(network, layer, 2, 0, bias)
    pruned = without(network, {layer: {2: None}}, moments(network, IMAGES))
    # Whatever it sees, it says the same.
    assert not weight_of(pruned, layer, 2).any()
    torch.testing.assert_close(logits_of(pruned, IMAGES), logits_of(network, IMAGES))


@pytest.mark.parametrize("layer", ["conv2d_1", "conv2d_2", "conv2d_3", "dense_1"])
def test_an_exact_twin_is_not_missed(network: Network, layer: str) -> None:
    set_neuron(network, layer, 3, 0.5 * weight_of(network, layer, 1), 0)
    known = moments(network, IMAGES)
    pruned = without(network, {layer: {3: 1}}, known)
    assert not weight_of(pruned, layer, 3).any()
    torch.testing.assert_close(logits_of(pruned, IMAGES), logits_of(network, IMAGES))
    alone = logits_of(without(network, {layer: {3: None}}, known), IMAGES)
    assert not torch.allclose(alone, logits_of(network, IMAGES), atol=1e-3)


def test_a_twin_is_handed_over_before_its_model_goes_too(network: Network) -> None:
    """Both out: what is left is the mean of both."""
    set_neuron(network, "dense_1", 3, 2 * weight_of(network, "dense_1", 1), 0)
    pruned = without(network, {"dense_1": {1: None, 3: 1}}, moments(network, IMAGES))
    plain = without(network, {"dense_1": {1: None, 3: None}}, moments(network, IMAGES))
    torch.testing.assert_close(logits_of(pruned, IMAGES), logits_of(plain, IMAGES))


def test_any_neuron_leaves_its_mean_behind(network: Network) -> None:
    """The decision is linear in dense_1: its mean over the images must not move."""
    before = logits_of(network, IMAGES)
    after = logits_of(
        without(network, {"dense_1": {0: None, 5: None}}, moments(network, IMAGES)), IMAGES
    )
    torch.testing.assert_close(after.mean(dim=0), before.mean(dim=0))
    assert not torch.allclose(after, before, atol=1e-3)


def test_the_network_itself_stays_as_it_is(network: Network) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pruned = without(network, {"conv2d_2": {0: None}}, moments(network, IMAGES))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    same = without(network, {}, moments(network, IMAGES))
    torch.testing.assert_close(logits_of(same, IMAGES), logits_of(network, IMAGES))
    assert not torch.allclose(logits_of(pruned, IMAGES), logits_of(network, IMAGES), atol=1e-5)


def test_neurons_of_every_layer_go_at_once(network: Network) -> None:
    """Constant ones, which are missed nowhere, whatever goes before and behind them."""
    layers = ["conv2d_1", "conv2d_2", "conv2d_3", "dense_1"]
    for layer in layers:
        set_neuron(network, layer, 1, 0, 0.4)
    removed: dict[str, dict[int, int | None]] = {layer: {1: None} for layer in layers}
    pruned = without(network, removed, moments(network, IMAGES))
    torch.testing.assert_close(logits_of(pruned, IMAGES), logits_of(network, IMAGES))


def test_moments_are_those_of_what_is_handed_on(network: Network) -> None:
    with torch.inference_mode():
        first = network.get_submodule("conv2d_1")(to_input(IMAGES))
        pooled = torch.nn.functional.max_pool2d(first, 2)
    values = pooled.transpose(0, 1).flatten(1).double().numpy()
    known = moments(network, IMAGES)
    assert set(known) == {"conv2d_1", "conv2d_2", "conv2d_3", "dense_1"}
    np.testing.assert_allclose(known["conv2d_1"].mean, values.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        known["conv2d_1"].covariance, np.cov(values, bias=True), rtol=1e-3, atol=1e-7
    )


def test_chance_has_three_rounds_of_its_own(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    real = pruning._random_neurons

    def watched(removed: pruning.Removed, sizes: dict[str, int], seed: int) -> pruning.Removed:
        drawn.append(real(removed, sizes, seed))
        return drawn[-1]

    monkeypatch.setattr(pruning, "_random_neurons", watched)
    prove(network, {"dense_1": [Neuron("dead")] * 3 + [Neuron()] * 5}, FACES, {"toy": FACES}, 0)
    assert len({tuple(chosen["dense_1"]) for chosen in drawn[:3]}) == 3


def test_the_proof_tells_good_advice_from_bad(network: Network) -> None:
    for neuron in (0, 1, 2):
        set_neuron(network, "dense_1", neuron, 0, -1)
    good = {"dense_1": [Neuron("dead")] * 3 + [Neuron()] * 5}
    bad = {"dense_1": [Neuron()] * 3 + [Neuron("dead")] * 5}
    none = FACES.subset(FACES.truth["pose"] == "nowhere")
    tests = {"toy": FACES, "unlabelled": none}
    proof = prove(network, good, FACES, tests, seed=0)
    assert proof["inner_neurons"] == 8
    assert set(proof["accuracy"]) == {"toy"}
    assert proof["without"]["dead"]["removed"] == 3
    assert proof["without"]["dead"]["accuracy"] == proof["accuracy"]
    assert list(proof["without"]) == ["dead", "dead_and_twin", "dead_and_twin_and_static"]
    # Without all that live only one answer is left: the majority's or the minority's.
    shares = [float((FACES.labels(network.spec) == number).double().mean()) for number in (0, 1)]
    without_all = prove(network, bad, FACES, tests, seed=0)["without"]["dead"]["accuracy"]["toy"]
    assert min(abs(without_all - share) for share in shares) < 1e-9
    random = proof["without"]["dead"]["accuracy_without_random"]
    assert (
        prove(network, good, FACES, tests, seed=0)["without"]["dead"]["accuracy_without_random"]
        == random
    )
