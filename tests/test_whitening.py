import numpy as np
import pytest
import torch
from torch import nn

from happymaps.datasets import to_input
from happymaps.errors import InputError
from happymaps.networks import Conv2D, Network, build_network
from happymaps.params import Cifar10Params, NetworkParams
from happymaps.whitening import untrained_like, whiten
from toys import same_weights, toy_objects, train


@pytest.fixture
def whitened(objects: Cifar10Params) -> NetworkParams:
    """The fast network, small."""
    small = {"filters": [[16, 20], [12], [8]], "epochs": 3, "batch_size": 50}
    return objects.networks["fast"].model_copy(update=small)


def varied(count: int) -> torch.Tensor:
    """(N, 3, 32, 32) uint8 of smooth noise whose colours go together, as in photographs."""
    generator = np.random.default_rng(0)
    grey = generator.normal(size=(count, 1, 34, 34))
    noise = grey + 0.5 * generator.normal(size=(count, 3, 34, 34))
    smooth = noise[..., 1:, 1:] + noise[..., :-1, 1:] + noise[..., 1:, :-1]
    return torch.from_numpy((120 + 20 * smooth[..., :32, :32]).clip(0, 255).astype(np.uint8))


def answers(network: Network, images: torch.Tensor) -> torch.Tensor:
    """(filters, places) of the first convolution, away from the edges."""
    inputs = to_input(images)
    return network.before_relu("conv2d_1", inputs)[:, :, 1:-1:2, 1:-1:2].transpose(0, 1).flatten(1)


def test_answers_to_patches_have_mean_0_and_variance_1_and_tell_different_things(
    whitened: NetworkParams,
) -> None:
    network = build_network(whitened, 32, 3, seed=0)
    images = varied(200)
    whiten(network, images)
    found = answers(network, images).detach()
    components, opposites = found[:8], found[8:]
    torch.testing.assert_close(opposites, -components, rtol=1e-3, atol=1e-4)
    assert components.mean(dim=1).abs().max() < 0.02
    torch.testing.assert_close(torch.cov(components), torch.eye(8), rtol=0, atol=0.1)
    before = answers(build_network(whitened, 32, 3, seed=0), images).detach()[:8]
    # The control: filters drawn by chance say much the same about photographs.
    assert (torch.corrcoef(before) - torch.eye(8)).abs().max() > 0.5


def test_the_first_component_is_the_strongest_and_what_hardly_varies_is_left_faint(
    whitened: NetworkParams,
) -> None:
    network = build_network(whitened.model_copy(update={"filters": [54]}), 32, 3, seed=0)
    images = varied(200)
    images[:, 2] = images[:, 1]  # nine components do not vary at all
    whiten(network, images)
    weights = network.get_parameter("conv2d_1.weight").detach()[:27]
    patches = nn.functional.unfold(to_input(images), 3, stride=2).transpose(0, 1).flatten(1)
    directions = weights.flatten(1) / weights.flatten(1).norm(dim=1, keepdim=True)
    variances = (directions @ patches).var(dim=1)
    assert (variances.diff() < 1e-4).all()
    assert variances[0] > 10 * variances[17]
    varies = (weights.flatten(1) @ patches).var(dim=1)
    assert varies[:18].min() > 0.8
    assert varies[18:].max() < 1e-3


def test_whitened_filters_do_not_learn_and_their_biases_do(whitened: NetworkParams) -> None:
    part = toy_objects(100)
    fixed = build_network(whitened, 32, 3, seed=0)
    whiten(fixed, part.images)
    network, history = train(whitened, train_part=part, watched=toy_objects(40, seed=1))
    weights = "conv2d_1.weight"
    assert torch.equal(network.get_parameter(weights), fixed.get_parameter(weights))
    assert not torch.equal(
        network.get_parameter("conv2d_1.bias"), fixed.get_parameter("conv2d_1.bias")
    )
    assert history[-1].train_loss < history[0].train_loss


def test_a_patch_of_one_grey_pixel_has_one_component(whitened: NetworkParams) -> None:
    images = toy_objects(40).images[:, :1]
    network = build_network(whitened.model_copy(update={"kernel": 1}), 32, 1, seed=0)
    whiten(network, images)
    layer = network.get_submodule("conv2d_1")
    assert isinstance(layer, Conv2D)
    answers = layer.before_relu(images / 255)[:, :2]
    assert torch.allclose(answers[:, 0], -answers[:, 1], atol=1e-5)
    every_other = answers[:, 0, ::2, ::2]
    assert every_other.mean().item() == pytest.approx(0, abs=1e-3)
    assert 0.5 < every_other.var().item() <= 1.001


def test_patches_larger_than_the_images_are_refused(whitened: NetworkParams) -> None:
    network = build_network(
        whitened.model_copy(update={"filters": [4], "kernel": 9, "padding": True}), 8, 3, seed=0
    )
    with pytest.raises(InputError, match="no patches of 9 pixels"):
        whiten(network, toy_objects(4).images[..., :8, :8])


@pytest.mark.parametrize("initialization", ["whitening", "glorot"])
def test_an_untrained_network_is_as_a_training_begins(
    whitened: NetworkParams, initialization: str
) -> None:
    spec = whitened.model_copy(update={"initialization": initialization})
    images = toy_objects(40).images
    begun = build_network(spec, 32, 3, seed=7)
    if initialization == "whitening":
        whiten(begun, images)
    found = untrained_like(build_network(spec, 32, 3, seed=0), images, seed=7)
    assert not found.training
    assert same_weights(found, begun)


def test_the_other_convolutions_begin_by_passing_on_what_they_are_given(
    whitened: NetworkParams,
) -> None:
    network = build_network(whitened, 32, 3, seed=0)
    inputs = torch.rand(2, 16, 32, 32)
    layer = network.get_submodule("conv2d_2")
    torch.testing.assert_close(layer(inputs)[:, :16], inputs)
    # With fewer filters than it is given maps, those that there are.
    fewer = network.get_submodule("conv2d_3")
    inputs = torch.rand(2, 20, 16, 16)
    torch.testing.assert_close(fewer(inputs), inputs[:, :12])
    plain = build_network(whitened.model_copy(update={"initialization": "glorot"}), 32, 3, seed=0)
    rest = "conv2d_2.weight"
    assert torch.equal(network.get_parameter(rest)[16:], plain.get_parameter(rest)[16:])


def test_patches_are_taken_from_all_images(whitened: NetworkParams) -> None:
    """They may come class after class."""
    images = varied(2000)
    images[1000:] = 255 - images[1000:] // 2
    network, half = (build_network(whitened, 32, 3, seed=0) for _ in range(2))
    whiten(network, images)
    whiten(half, images[::2])
    assert same_weights(network, half)
