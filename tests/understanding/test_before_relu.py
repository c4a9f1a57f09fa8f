import pytest
import torch
from torch import Tensor, nn

from happymaps.networks import Conv2D, Network
from happymaps.params import NetworkParams

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 24


def network_of(
    spec: NetworkParams, *, dense: list[int], channels: int = 1, **changes: object
) -> Network:
    """With weights and biases of every sign, in evaluation mode."""
    network = Network(spec.model_copy(update={"dense": dense} | changes), SIZE, channels)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return network.eval()


def some_images(channels: int = 1) -> Tensor:
    return torch.rand(3, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def one_after_another(network: Network, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Each layer's inputs, and its outputs before a ReLU, by torch's own functions."""
    found = {}
    for name, layer in network.named_children():
        inputs = images
        if isinstance(layer, nn.Conv2d):
            before = nn.functional.conv2d(inputs, layer.weight, layer.bias)
        elif isinstance(layer, nn.Linear):
            before = nn.functional.linear(inputs, layer.weight, layer.bias)
        elif isinstance(layer, nn.MaxPool2d):
            before = nn.functional.max_pool2d(inputs, 2)
        elif isinstance(layer, nn.Flatten):
            before = inputs.flatten(1)
        elif isinstance(layer, nn.Dropout):
            before = inputs
        else:
            before = inputs.softmax(dim=1)
        has_relu = name.startswith(("conv2d", "dense")) and name != network.decision_layer
        images = before.relu() if has_relu else before
        found[name] = inputs, before
    return found


class Explosion(nn.Module):
    def forward(self, _: Tensor) -> Tensor:
        raise AssertionError("a layer behind the one asked for was computed")


@pytest.mark.parametrize("dense", [[], [8], [8, 5]])
def test_every_layer_is_given_what_the_layers_before_it_compute(
    spec: NetworkParams, dense: list[int]
) -> None:
    network = network_of(spec, dense=dense)
    images = some_images()
    kept = images.clone()
    for name, (inputs, before) in one_after_another(network, images).items():
        torch.testing.assert_close(network.inputs_of(name, images), inputs, msg=name)
        torch.testing.assert_close(network.before_relu(name, images), before, msg=name)
        assert torch.equal(images, kept), name


def test_so_it_is_in_blocks_with_dropouts_between(spec: NetworkParams) -> None:
    changes = {"filters": [[4, 5], [3, 6]], "last_pool": True, "pool_dropout": 0.5}
    network = network_of(spec, dense=[8], channels=3, **changes)
    assert network.last_convolution == "conv2d_4"
    images = some_images(3)
    for name, (inputs, before) in one_after_another(network, images).items():
        torch.testing.assert_close(network.inputs_of(name, images), inputs, msg=name)
        torch.testing.assert_close(network.before_relu(name, images), before, msg=name)


def test_there_is_something_below_0_before_the_relu_and_nothing_in_the_next_inputs(
    spec: NetworkParams,
) -> None:
    network = network_of(spec, dense=[8])
    for name, following in (("conv2d_1", "max_pooling2d_1"), ("conv2d_3", "flatten")):
        assert network.before_relu(name, some_images()).min() < 0
        assert network.inputs_of(following, some_images()).min() == 0


def test_nothing_behind_a_layer_is_computed(spec: NetworkParams) -> None:
    names = [name for name, _ in network_of(spec, dense=[8]).named_children()]
    for number, name in enumerate(names):
        network = network_of(spec, dense=[8])
        expected = one_after_another(network, some_images())[name][1]
        for behind in names[number + 1 :]:
            setattr(network, behind, Explosion())
        torch.testing.assert_close(network.before_relu(name, some_images()), expected, msg=name)


def test_the_logits_are_the_decision_layers_outputs(spec: NetworkParams) -> None:
    for dense, layer in (([], "dense_1"), ([8], "dense_2"), ([8, 5], "dense_3")):
        network = network_of(spec, dense=dense)
        assert network.decision_layer == layer
        expected = one_after_another(network, some_images())[layer][1]
        torch.testing.assert_close(network.logits(some_images()), expected)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_images_get_the_same_gradient_from_frozen_weights(
    spec: NetworkParams, channels: int
) -> None:
    network = network_of(spec, dense=[8], channels=channels).requires_grad_(False)
    images = some_images(channels).requires_grad_()
    for name, (_, before) in one_after_another(network, images).items():
        # Different weights, or the gradient of a softmax would be 0.
        shares = torch.rand(before.shape, generator=torch.Generator().manual_seed(2))
        (plain,) = torch.autograd.grad((shares * before).sum(), images, retain_graph=True)
        mine = (shares * network.before_relu(name, images)).sum()
        (gradient,) = torch.autograd.grad(mine, images)
        assert plain.any(), name
        torch.testing.assert_close(gradient, plain, msg=name)


def test_a_layer_that_there_is_not_is_refused(spec: NetworkParams) -> None:
    with pytest.raises(AttributeError, match="conv2d_9"):
        network_of(spec, dense=[8]).before_relu("conv2d_9", some_images())
    with pytest.raises(AttributeError, match="conv2d_9"):
        network_of(spec, dense=[8]).inputs_of("conv2d_9", some_images())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "height", "width"), [(3, 9, 9), (3, 7, 12), (2, 12, 5), (5, 5, 8), (1, 4, 6)]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_frozen_first_layer_gives_the_librarys_gradient(
    channels: int, kernel: int, height: int, width: int, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Conv2D(channels, 5, kernel).double().requires_grad_(False)
    assert layer.bias is not None
    images = torch.randn(4, channels, height, width, generator=generator, dtype=torch.float64)
    images = images.to(memory_format=layout).requires_grad_()
    outputs = layer.before_relu(images)
    # Otherwise the library would be compared with itself.
    assert type(outputs.grad_fn).__name__ == "_FewChannelsBackward"
    plain = nn.functional.conv2d(images, layer.weight, layer.bias)
    torch.testing.assert_close(outputs, plain)
    shares = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(outputs, images, shares)
    (expected,) = torch.autograd.grad(plain, images, shares)
    torch.testing.assert_close(gradient, expected)


def test_a_frozen_first_layer_gives_it_in_bfloat16_too() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = Conv2D(1, 5, 3).requires_grad_(False)
    images = torch.randn(2, 1, 9, 9, generator=generator, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = layer.before_relu(images)
        plain = nn.functional.conv2d(images, layer.weight, layer.bias)
    assert outputs.dtype == torch.bfloat16
    shares = torch.randn(outputs.shape, generator=generator).bfloat16()
    (gradient,) = torch.autograd.grad(outputs, images, shares)
    (expected,) = torch.autograd.grad(plain, images, shares)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, expected, atol=0.05, rtol=0.02)


def test_a_first_layer_in_training_gives_its_weights_their_gradient() -> None:
    layer = Conv2D(1, 2, 2)
    images = torch.arange(9.0).view(1, 1, 3, 3).requires_grad_()
    layer.before_relu(images)[:, 0].sum().backward()
    assert layer.weight.grad is not None
    assert layer.bias is not None
    assert layer.bias.grad is not None
    # By hand: the four pixels under each weight, and four outputs above the bias.
    assert layer.weight.grad[:, 0].tolist() == [[[8, 12], [20, 24]], [[0, 0], [0, 0]]]
    assert layer.bias.grad.tolist() == [4, 0]
