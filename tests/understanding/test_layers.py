import itertools

import pytest
import torch
from torch import Tensor, nn

from happymaps.datasets import to_input
from happymaps.networks import Network, build_network
from happymaps.params import NetworkParams, Params
from happymaps.understanding.layers import (
    DecisionObjective,
    FilterObjective,
    activations,
    cells_of,
    decision_scores,
    layer_outputs,
    neuron_layers,
    pool_filters,
)
from toys import toy_faces

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 24


@pytest.fixture
def network(spec: NetworkParams) -> Network:
    """Untrained, with biases, so that forgetting one shows."""
    network = build_network(spec, SIZE, seed=0)
    return with_biases(network)


def with_biases(network: Network) -> Network:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.2, generator=generator)
    return network.eval()


def plainly(
    network: Network, image: Tensor, filters: FilterObjective, decision: DecisionObjective
) -> dict[str, Tensor]:
    """One image's activations, (neurons,) a layer, by the layers' modules and plain loops."""
    found = {}
    outputs = image.unsqueeze(0)
    for name, layer in network.named_children():
        outputs = layer(outputs)
        if name.startswith("conv2d"):
            side = outputs.shape[2]
            found[name] = torch.stack(
                [
                    maps.sum() / side**2 if filters == "mean" else maps[side // 2][side // 2]
                    for maps in outputs[0]
                ]
            )
        elif name == network.decision_layer and decision == "head":
            chances = outputs[0].double().softmax(dim=0)
            found[name] = (chances / (1 - chances)).log().float()
        elif name.startswith("dense"):
            found[name] = outputs[0]
    return found


def test_neuron_layers_are_the_convolutions_and_the_dense_layers_in_order(
    spec: NetworkParams, network: Network
) -> None:
    expected = [("conv2d_1", 4), ("conv2d_2", 6), ("conv2d_3", 6), ("dense_1", 8), ("dense_2", 2)]
    assert list(neuron_layers(network).items()) == expected
    four = spec.model_copy(update={"filters": [3], "dense": [], "target": "pose"})
    assert neuron_layers(Network(four, SIZE)) == {"conv2d_1": 3, "dense_1": 4}


def test_layer_outputs_end_with_the_decision_layers(network: Network) -> None:
    images = to_input(toy_faces(2, size=SIZE).images)
    found = dict(layer_outputs(network, images))
    assert list(found) == [name for name, _ in network.named_children()][:-1]
    for name, layer in list(network.named_children())[:-1]:
        images = layer(images)
        torch.testing.assert_close(found[name], images)
    torch.testing.assert_close(found["dense_2"].softmax(dim=1), network(images_of(2)))


def images_of(count: int) -> Tensor:
    return to_input(toy_faces(count, size=SIZE).images)


def test_a_filter_is_its_maps_mean_or_its_centre_neuron() -> None:
    odd = torch.arange(2 * 15.0).view(1, 2, 3, 5)
    assert pool_filters(odd, "mean").tolist() == [[7, 22]]
    assert pool_filters(odd, "centre").tolist() == [[7, 22]]
    even = torch.arange(16.0).view(1, 1, 4, 4) ** 2
    assert pool_filters(even, "mean").tolist() == [[77.5]]
    assert pool_filters(even, "centre").tolist() == [[100]]


@pytest.mark.parametrize("target", ["left", "pose"])
def test_the_head_objective_is_the_log_odds_of_the_probability(
    spec: NetworkParams, target: str
) -> None:
    network = Network(spec.model_copy(update={"target": target}), SIZE)
    classes = len(network.spec.classes)
    logits = 3 * torch.randn(40, classes, generator=torch.Generator().manual_seed(0)).double()
    chances = logits.softmax(dim=1)
    scores = decision_scores(network, logits, "head")
    torch.testing.assert_close(scores, chances.log() - (1 - chances).log())
    assert torch.equal(scores.argsort(dim=0), chances.argsort(dim=0))


def test_log_odds_by_hand(spec: NetworkParams) -> None:
    two = Network(spec, SIZE)
    logits = torch.tensor([[1.0, 4.0], [2.0, -0.5]])
    expected = torch.tensor([[-3.0, 3.0], [2.5, -2.5]])
    torch.testing.assert_close(decision_scores(two, logits, "head"), expected)
    four = Network(spec.model_copy(update={"target": "pose"}), SIZE)
    # Chances of 1/2, 1/4, 1/8 and 1/8: odds of 1, 1/3, 1/7 and 1/7.
    logits = torch.tensor([[4.0, 2.0, 1.0, 1.0]]).log()
    expected = torch.tensor([[1, 1 / 3, 1 / 7, 1 / 7]]).log()
    torch.testing.assert_close(decision_scores(four, logits, "head"), expected)


def test_a_certain_network_has_a_slope_left(spec: NetworkParams) -> None:
    network = Network(spec.model_copy(update={"target": "pose"}), SIZE)
    logits = torch.tensor([[900.0, 0.0, 0.0, -900.0]], requires_grad=True)
    scores = decision_scores(network, logits, "head")
    assert scores.isfinite().all()
    for number in range(4):
        (gradient,) = torch.autograd.grad(scores[0, number], logits, retain_graph=True)
        assert gradient[0, number] == 1
        assert gradient.sum() == pytest.approx(0)


def test_without_a_head_and_as_logit_it_is_the_neurons_output(
    params: Params, spec: NetworkParams
) -> None:
    logits = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    linear = Network(params.networks["linear_output"].model_copy(update={"filters": [2]}), SIZE)
    assert torch.equal(decision_scores(linear, logits, "head"), logits)
    assert torch.equal(decision_scores(linear, logits, "logit"), logits)
    assert torch.equal(decision_scores(Network(spec, SIZE), logits, "logit"), logits)


@pytest.mark.parametrize("filters", ["mean", "centre"])
@pytest.mark.parametrize("decision", ["head", "logit"])
def test_activations_are_those_of_one_image_after_the_other(
    network: Network, filters: FilterObjective, decision: DecisionObjective
) -> None:
    # More than one batch, and the last one not full.
    images = images_of(70)
    found = activations(network, images, filters, decision)
    plain = [plainly(network, image, filters, decision) for image in images]
    assert list(found) == list(neuron_layers(network))
    for name, answers in found.items():
        assert answers.dtype == torch.float32
        expected = torch.stack([answer[name] for answer in plain])
        torch.testing.assert_close(answers, expected, atol=1e-5, rtol=1e-4, msg=name)


def test_activations_of_other_networks_are_those_of_their_layers(spec: NetworkParams) -> None:
    images = images_of(5)
    linear: dict[str, object] = {"head": "linear", "loss": "mean_squared_error"}
    changes: list[dict[str, object]] = [
        {"dense": []}, {"dense": [8, 5], "target": "pose"}, linear, {"normalize": "image"},
    ]  # fmt: skip
    for change in changes:
        network = with_biases(build_network(spec.model_copy(update=change), SIZE, seed=0))
        objective: DecisionObjective = "logit" if network.spec.head == "linear" else "head"
        found = activations(network, images, "mean", "head")
        for number, image in enumerate(images):
            for name, expected in plainly(network, image, "mean", objective).items():
                answer = found[name][number]
                torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("layers", [["conv2d_9"], ["dense_1", "conv2d_9"], ["flatten"]])
def test_a_layer_that_has_no_neurons_is_named(network: Network, layers: list[str]) -> None:
    with pytest.raises(KeyError, match=r"conv2d_9|flatten"):
        activations(network, images_of(3), "mean", "head", layers)


def test_whole_numbers_and_fractions_give_the_same_activations(network: Network) -> None:
    images = toy_faces(6, size=SIZE).images
    assert images.dtype == torch.uint8
    kept = images.clone()
    whole = activations(network, images, "mean", "head")
    fractions = activations(network, to_input(images), "mean", "head")
    for name, answers in whole.items():
        assert torch.equal(answers, fractions[name]), name
        assert not answers.requires_grad, name
    assert torch.equal(images, kept)


def test_objectives_change_the_layers_they_are_about_and_no_other(network: Network) -> None:
    images = images_of(4)
    combinations: list[tuple[FilterObjective, DecisionObjective]] = [
        ("mean", "head"), ("centre", "head"), ("mean", "logit"),
    ]  # fmt: skip
    base, centre, logit = (activations(network, images, *pair) for pair in combinations)
    for name in base:
        assert torch.equal(base[name], centre[name]) is not name.startswith("conv2d"), name
        assert torch.equal(base[name], logit[name]) is (name != "dense_2"), name


def test_activations_leave_nothing_behind_in_the_network(network: Network) -> None:
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    activations(network, images_of(3), "mean", "head")
    with pytest.raises(RuntimeError):
        activations(network, torch.zeros(3, 1, SIZE + 8, SIZE + 8), "mean", "head")
    for module in network.modules():
        assert not module.training
        assert not list(itertools.chain(module._forward_hooks, module._forward_pre_hooks))
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, weights[name])
    for parameter in network.parameters():
        assert parameter.requires_grad
        assert parameter.grad is None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"padding": True},
        {"padding": True, "stride": 2},
        {"kernel": 5},
        {"filters": [[2, 3], 4]},
    ],
    ids=str,
)
def test_cells_look_where_a_gradient_says(spec: NetworkParams, changes: dict[str, object]) -> None:
    """Of cells in the middle, whose view no edge cuts off: by what can change them at all."""
    size = 64
    network = build_network(spec.model_copy(update=changes), size, seed=0).eval()
    images = torch.rand(40, 1, size, size, generator=torch.Generator().manual_seed(0))
    for name, layer in network.named_children():
        if not isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            continue
        seen = images.clone().requires_grad_()
        outputs = dict(layer_outputs(network, seen, last=name))[name]
        cell = outputs.shape[-1] // 2
        outputs[:, :, cell, cell].sum().backward()
        assert seen.grad is not None
        (columns,) = seen.grad.abs().amax(dim=(0, 1, 2)).nonzero(as_tuple=True)
        centre, step = cells_of(network, name)
        assert (columns[0] + columns[-1]).item() / 2 == centre + cell * step, name
    for name in ("conv2d_9", "flatten", "dense_1"):
        with pytest.raises(KeyError, match=name):
            cells_of(network, name)
