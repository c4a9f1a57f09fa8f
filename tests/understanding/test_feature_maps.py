import torch

from happymaps.datasets import to_input
from happymaps.networks import build_network
from happymaps.params import NetworkParams
from happymaps.understanding.feature_maps import feature_maps, kernels
from toys import toy_faces, toy_objects


def test_kernels_are_drawn_around_grey_on_one_scale(spec: NetworkParams) -> None:
    network = build_network(spec, 32, seed=0)
    layer = network.get_submodule("conv2d_1")
    with torch.no_grad():
        layer.weight.zero_()  # type: ignore[operator]
        layer.weight[0, 0, 0, 0] = 2.0  # type: ignore[operator]
        layer.weight[1, 0, 2, 2] = -1.0  # type: ignore[operator]
    pictures = kernels(network)
    assert pictures.shape == (4, 1, 3, 3)
    assert pictures[0, 0, 0, 0] == 1
    assert pictures[1, 0, 2, 2] == 0.25
    assert (pictures == 0.5).sum() == 4 * 9 - 2
    with torch.no_grad():
        layer.weight.neg_()  # type: ignore[operator]
    assert (kernels(network) == 1 - pictures).all()


def test_a_network_of_zeros_has_grey_kernels_and_black_maps(spec: NetworkParams) -> None:
    network = build_network(spec, 32, seed=0).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
    assert (kernels(network) == 0.5).all()
    assert not any(maps.any() for maps in feature_maps(network, toy_faces(1).images[0]).values())


def test_feature_maps_are_the_outputs_of_the_layers(spec: NetworkParams) -> None:
    network = build_network(spec, 32, seed=0).eval()
    image = toy_faces(1).images[0]
    found = feature_maps(network, image)
    assert list(found) == ["conv2d_1", "max_pooling2d_1", "conv2d_2", "max_pooling2d_2", "conv2d_3"]
    outputs = to_input(image.unsqueeze(0))
    for name, layer in network.named_children():
        outputs = layer(outputs)
        if name in found:
            expected = outputs[0] / outputs.max()
            torch.testing.assert_close(found[name], expected.detach(), rtol=1e-5, atol=1e-6)
            assert found[name].max() == 1
        if name == "conv2d_3":
            break


def test_a_dropout_makes_no_maps_of_its_own(spec: NetworkParams) -> None:
    blocks = {"filters": [[4, 5], [6]], "last_pool": True, "pool_dropout": 0.5}
    network = build_network(spec.model_copy(update=blocks), 32, 3, seed=0).eval()
    assert "pool_dropout_1" in dict(network.named_children())
    assert list(feature_maps(network, toy_objects(1).images[0])) == [
        "conv2d_1", "conv2d_2", "max_pooling2d_1", "conv2d_3", "max_pooling2d_2",
    ]  # fmt: skip


def test_outputs_below_0_are_drawn_around_grey(spec: NetworkParams) -> None:
    network = build_network(spec.model_copy(update={"normalize": "image"}), 32, seed=0).eval()
    image = toy_faces(1).images[0]
    found = feature_maps(network, image)
    pixels = image.double() / 255
    expected = (pixels - pixels.mean()) / pixels.std(correction=0)
    expected = 0.5 + expected / expected.abs().max() / 2
    torch.testing.assert_close(found["standardization"].double(), expected, rtol=0, atol=1e-4)
    assert found["standardization"].min() < 0.4
    negative = feature_maps(network, 255 - image)["standardization"]
    torch.testing.assert_close(negative, 1 - found["standardization"], rtol=0, atol=1e-4)
    assert found["conv2d_1"].min() == 0
