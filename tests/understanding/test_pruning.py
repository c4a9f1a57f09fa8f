import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from happymaps.answering import logits_of
from happymaps.datasets import to_input
from happymaps.networks import Network, build_network
from happymaps.params import NetworkParams
from happymaps.understanding import pruning
from happymaps.understanding.neurons import Neuron
from happymaps.understanding.pruning import Moments, moments, prove, random_neurons, without
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


def test_chance_has_rounds_of_its_own(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    real = pruning.random_neurons

    def watched(
        removed: pruning.Removed, moments_of: dict[str, Moments], seed: int
    ) -> pruning.Removed:
        drawn.append(real(removed, moments_of, seed))
        return drawn[-1]

    monkeypatch.setattr(pruning, "random_neurons", watched)
    prove(network, {"dense_1": [Neuron("dead")] * 3 + [Neuron()] * 5}, FACES, {"toy": FACES}, 0)
    assert len({tuple(chosen["dense_1"]) for chosen in drawn[:10]}) > 5


def test_the_proof_tells_good_advice_from_bad(network: Network) -> None:
    for neuron in (0, 1, 2):
        set_neuron(network, "dense_1", neuron, 0, -1)
    good = {"dense_1": [Neuron("dead")] * 3 + [Neuron()] * 5}
    bad = {"dense_1": [Neuron()] * 3 + [Neuron("dead")] * 5}
    none = FACES.subset(FACES.truth["pose"] == "nowhere")
    tests = {"toy": FACES, "unlabelled": none}
    proof = prove(network, good, FACES, tests, seed=0)
    assert proof["inner_neurons"] == 8
    assert set(proof["balanced_accuracy"]) == {"toy"}
    assert proof["without"]["dead"]["removed"] == 3
    assert proof["without"]["dead"]["balanced_accuracy"] == proof["balanced_accuracy"]
    assert list(proof["without"]) == ["dead", "dead_and_twin", "dead_and_twin_and_static"]
    # Without all that live only one answer is left, which knows one class and not the other.
    without_all = prove(network, bad, FACES, tests, seed=0)["without"]["dead"]
    assert without_all["balanced_accuracy"]["toy"] == 0.5
    random = proof["without"]["dead"]["without_random"]
    assert prove(network, good, FACES, tests, seed=0)["without"]["dead"]["without_random"] == random


def test_by_chance_as_many_go_and_are_as_well_replaced(network: Network) -> None:
    known = moments(network, IMAGES)
    advised: dict[str, dict[int, int | None]] = {
        "conv2d_2": {0: None},
        "dense_1": {1: 2, 3: None, 4: 2},
    }
    draws = [random_neurons(advised, known, seed) for seed in range(20)]
    for drawn in draws:
        assert {name: len(chosen) for name, chosen in drawn.items()} == {
            "conv2d_2": 1,
            "dense_1": 3,
        }
        assert list(drawn["conv2d_2"].values()) == [None]
        models = [model for model in drawn["dense_1"].values() if model is not None]
        assert len(models) == 2
        # Nobody is handed over to one who goes as well, but to the likest of those who stay.
        staying = sorted(set(range(8)) - set(drawn["dense_1"]))
        covariance = known["dense_1"].covariance
        told = covariance**2 / covariance.diagonal()
        for neuron, model in drawn["dense_1"].items():
            likest = known["dense_1"].likest(neuron, staying)
            assert model is None or told[neuron, model] == told[neuron, likest]
    assert {neuron for drawn in draws for neuron in drawn["dense_1"]} == set(range(8))
    assert draws[0] == random_neurons(advised, known, 0)


def test_the_likest_neuron_is_the_one_that_a_line_tells_it_from_best() -> None:
    """The second repeats the first upside down; the third has more in common, but noise as well."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=500)
    values = np.stack([one, 3 - 0.1 * one, 20 * one + 40 * rng.normal(size=500), np.full(500, 7.0)])
    known = Moments(
        torch.from_numpy(values.mean(axis=1)), torch.from_numpy(np.cov(values, bias=True))
    )
    assert known.likest(0, [1, 2, 3]) == 1
    assert known.likest(0, [2, 3]) == 2
    assert known.likest(0, [3]) is None
    assert known.likest(0, []) is None


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 0.0])
def test_a_model_that_hardly_varies_is_still_the_right_one(network: Network, spread: float) -> None:
    """The line is through what is left of its variance, or there is none: never noise blown up."""
    set_neuron(network, "dense_1", 1, spread * weight_of(network, "dense_1", 1), 1)
    set_neuron(network, "dense_1", 3, 0.9 * weight_of(network, "dense_1", 1), 0.9)
    pruned = without(network, {"dense_1": {3: 1}}, moments(network, IMAGES))
    torch.testing.assert_close(
        logits_of(pruned, IMAGES), logits_of(network, IMAGES), rtol=1e-3, atol=1e-4
    )


def test_chance_may_take_the_neuron_that_all_rests_on(network: Network) -> None:
    """It is none of the advised."""
    network = toy_decider(network)
    good = {"dense_1": [Neuron()] + [Neuron("dead")] * 5 + [Neuron()] * 2}
    found = prove(network, good, FACES, {"toy": FACES}, seed=0)["without"]["dead"]
    assert found["balanced_accuracy"] == {"toy": pytest.approx(1)}
    assert found["without_random"]["toy"]["mean"] < 1


def toy_decider(network: Network) -> Network:
    """Its answers are right for all images, and all of them are neuron 0's of `dense_1`."""
    labels = FACES.labels(network.spec)
    inputs = network.inputs_of("dense_1", to_input(IMAGES)).detach().double()
    wanted = torch.where(labels == 1, 2.0, 0.0).double()
    with_bias = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(with_bias, wanted.unsqueeze(1), driver="gelsd").solution[:, 0]
    set_neuron(network, "dense_1", 0, solution[:-1].float(), solution[-1].item())
    decision = network.decision_layer
    with torch.no_grad():
        network.get_parameter(f"{decision}.weight").zero_()
        network.get_parameter(f"{decision}.weight")[1, 0] = 1
        network.get_parameter(f"{decision}.bias").copy_(torch.tensor([1.0, 0.0]))
    return network


def test_a_spread_by_hand() -> None:
    assert pruning._spread([0.5, 0.2, 0.8]) == {"mean": 0.5, "lowest": 0.2, "highest": 0.8}


def test_what_replaces_a_neuron_is_known_from_training_images(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the images that it is tested on nothing may be known."""
    seen = []

    def watched(network: Network, images: Tensor) -> dict[str, Moments]:
        seen.append(images)
        return moments(network, images)

    monkeypatch.setattr(pruning, "moments", watched)
    verdicts = {"dense_1": [Neuron("dead")] * 3 + [Neuron()] * 5}
    prove(network, verdicts, FACES, {"others": toy_faces(40, seed=1)}, 0)
    (images,) = seen
    assert torch.equal(images, FACES.images)


def test_the_proof_replaces_a_twin_by_the_neuron_that_it_repeats(network: Network) -> None:
    network = toy_decider(network)
    bias = network.get_parameter("dense_1.bias")[0].item()
    set_neuron(network, "dense_1", 3, weight_of(network, "dense_1", 0), bias)
    with torch.no_grad():
        # All rests on the twin now.
        weight = network.get_parameter(f"{network.decision_layer}.weight")
        weight[1, 0], weight[1, 3] = 0, 1
    advice = {"dense_1": [Neuron("twin", 0) if number == 3 else Neuron() for number in range(8)]}
    found = prove(network, advice, FACES, {"toy": FACES}, seed=0)["without"]["dead_and_twin"]
    assert found["removed_by_layer"] == {"dense_1": 1}
    assert found["balanced_accuracy"] == {"toy": pytest.approx(1)}


def test_of_four_poses_accuracies_are_the_mean_of_their_recalls(spec: NetworkParams) -> None:
    network = build_network(spec.model_copy(update={"target": "pose"}), 32, seed=0).eval()
    right = logits_of(network, IMAGES).argmax(dim=1) == FACES.labels(network.spec)
    recalls = pd.Series(right.numpy()).groupby(FACES.truth["pose"]).mean()
    proof = prove(network, {"dense_1": [Neuron()] * 8}, FACES, {"toy": FACES}, seed=0)
    assert proof["balanced_accuracy"]["toy"] == pytest.approx(recalls.mean())
