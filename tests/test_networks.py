from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from happymaps.datasets import to_input
from happymaps.errors import InputError
from happymaps.networks import (
    Conv2D,
    Dense,
    SavedNetwork,
    add_batch_norm,
    apply_head,
    batch_norms,
    build_network,
    fold_batch_norm,
    load_network,
    parameter_count,
    save_network,
)
from happymaps.params import (
    Cifar10Params,
    ColourCropParams,
    NetworkParams,
    Params,
    TrainingCropParams,
)
from toys import toy_faces


def test_experiment0_is_the_published_network(params: Params) -> None:
    network = build_network(params.networks["experiment0"], 128, seed=0)
    assert [name for name, _ in network.named_children()] == [
        "conv2d_1", "max_pooling2d_1", "conv2d_2", "max_pooling2d_2", "conv2d_3", "flatten",
        "dense_1", "dropout", "dense_2", "softmax",
    ]  # fmt: skip
    # By hand: 3x3 filters and biases, 28x28x32 left for the first dense layer.
    convolutions = 16 * (9 + 1) + 32 * (16 * 9 + 1) + 32 * (32 * 9 + 1)
    assert parameter_count(network) == convolutions + 28 * 28 * 32 * 64 + 64 + 64 * 2 + 2


def test_basic_and_improved_are_the_published_networks_of_objects(objects: Cifar10Params) -> None:
    built = {
        name: build_network(objects.networks[name], 32, 3, seed=0) for name in ("basic", "improved")
    }
    assert [name for name, _ in built["basic"].named_children()] == [
        "conv2d_1", "conv2d_2", "max_pooling2d_1", "pool_dropout_1", "conv2d_3", "conv2d_4",
        "max_pooling2d_2", "pool_dropout_2", "flatten", "dense_1", "dropout", "dense_2", "softmax",
    ]  # fmt: skip
    # By hand: unpadded, 5x5x64 are left for the dense layers.
    convolutions = 32 * (27 + 1) + 32 * (32 * 9 + 1) + 64 * (32 * 9 + 1) + 64 * (64 * 9 + 1)
    dense = (5 * 5 * 64 + 1) * 256 + (256 + 1) * 10
    assert parameter_count(built["basic"]) == convolutions + dense
    # Padded, 4x4x128 are left.
    convolutions += 128 * (64 * 9 + 1) + 128 * (128 * 9 + 1)
    dense = (4 * 4 * 128 + 1) * 512 + (512 + 1) * 256 + (256 + 1) * 10
    assert parameter_count(built["improved"]) == convolutions + dense
    augment = objects.networks["improved"].augment
    assert (augment.scale, augment.shift, augment.mirror) == (0.1, 0.05, True)
    for name in built:
        spec = objects.networks[name]
        assert (spec.optimizer, spec.dropout, spec.pool_dropout) == ("adam", 0.5, 0.25)
        assert spec.epochs <= 50
    assert objects.train.batch_size == 128


def test_a_pool_may_leave_nothing_either(spec: NetworkParams) -> None:
    changes = {"filters": [[4, 4]], "kernel": 3, "last_pool": True}
    with pytest.raises(InputError, match="nothing is left after max_pooling2d_1"):
        build_network(spec.model_copy(update=changes), 5, seed=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_remembers_the_colours(
    tmp_path: Path, spec: NetworkParams, params: Params, channels: int
) -> None:
    grey = params.crop.model_copy(update={"size": 32}).of_training()
    crop = grey if channels == 1 else ColourCropParams(size=32, resample="area")
    network = build_network(spec, 32, channels, seed=0).eval()
    save_network(SavedNetwork("tiny", network, crop), tmp_path / "a.safetensors")
    loaded = load_network(tmp_path / "a.safetensors")
    assert loaded.crop == crop
    images = torch.rand(2, channels, 32, 32)
    assert torch.equal(loaded.network(images), network(images))


@pytest.mark.parametrize(
    ("name", "dense_layers", "classes", "head"),
    [
        ("fewer_filters", 2, 2, True),
        ("deeper_dense", 5, 2, True),
        ("wider_dense", 2, 2, True),
        ("four_class", 2, 4, True),
        ("no_dense", 1, 2, True),
        ("linear_output", 2, 2, False),
    ],
)
def test_variations(params: Params, name: str, dense_layers: int, classes: int, head: bool) -> None:
    network = build_network(params.networks[name], 128, seed=0)
    layers = dict(network.named_children())
    assert sum(layer.startswith("dense") for layer in layers) == dense_layers
    decision = layers[f"dense_{dense_layers}"]
    assert isinstance(decision, nn.Linear)
    assert decision.out_features == classes
    assert ("softmax" in layers) is head


def test_fewer_filters_halves_every_layer_and_the_parameters(params: Params) -> None:
    full, half = (params.networks[name] for name in ("experiment0", "fewer_filters"))
    assert [2 * filters for filters in half.filters] == full.filters
    counts = [parameter_count(build_network(spec, 128, seed=0)) for spec in (full, half)]
    assert counts[1] / counts[0] == pytest.approx(0.5, abs=0.01)


def test_weights_are_glorot_uniform_and_biases_zero(params: Params) -> None:
    network = build_network(params.networks["experiment0"], 128, seed=0)
    for name, layer in network.named_children():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        field = layer.weight[0, 0].numel() if layer.weight.ndim == 4 else 1
        bound = (6 / ((layer.weight.shape[0] + layer.weight.shape[1]) * field)) ** 0.5
        assert layer.weight.abs().max() <= bound, name
        assert layer.weight.abs().max() > 0.9 * bound, name
        assert not layer.bias.any(), name  # type: ignore[union-attr]


def test_the_head_is_a_softmax_over_the_logits(spec: NetworkParams) -> None:
    network = build_network(spec, 32, seed=0).eval()
    images = to_input(toy_faces(5).images)
    torch.testing.assert_close(network(images), network.logits(images).softmax(dim=1))
    linear = spec.model_copy(update={"head": "linear", "loss": "mean_squared_error"})
    network = build_network(linear, 32, seed=0).eval()
    torch.testing.assert_close(network(images), network.logits(images))


def test_logits_have_the_gradients_of_the_layers_one_after_another(spec: NetworkParams) -> None:
    network = build_network(spec, 32, seed=0).eval()
    images = to_input(toy_faces(3).images)
    one_by_one = images
    for layer in list(network)[:-1]:
        one_by_one = layer(one_by_one)
    gradients = []
    for logits in (network.logits(images), one_by_one):
        gradients.append(torch.autograd.grad(logits[:, 1].sum(), list(network.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert one.any()
        torch.testing.assert_close(one, other)


def test_layers_compute_what_their_names_say(spec: NetworkParams) -> None:
    network = build_network(spec, 32, seed=0).eval()
    layers = dict(network.named_children())
    images = to_input(toy_faces(3).images)
    state = network.state_dict()
    after = nn.functional.conv2d(images, state["conv2d_1.weight"], state["conv2d_1.bias"]).clamp(0)
    torch.testing.assert_close(layers["conv2d_1"](images), after)
    flat = torch.randn(3, state["dense_1.weight"].shape[1])
    after = (flat @ state["dense_1.weight"].T + state["dense_1.bias"]).clamp(0)
    torch.testing.assert_close(layers["dense_1"](flat), after)


def test_batch_norm_brings_every_neuron_to_mean_0_and_variance_1(spec: NetworkParams) -> None:
    network = build_network(spec, 32, seed=0)
    add_batch_norm(network)
    images = to_input(toy_faces(40).images)
    for name, layer in network.named_children():
        if isinstance(layer, Conv2D | Dense):
            outputs = network.before_relu(name, images).detach()
            found = outputs.transpose(0, 1).flatten(1)
            assert found.mean(dim=1).abs().max() < 1e-5, name
            # Of a neuron that hardly varies less is made.
            assert found.std(dim=1).max() == pytest.approx(1, abs=0.02), name


def test_pooled_norms_by_hand(spec: NetworkParams) -> None:
    spec = spec.model_copy(update={"batch_norm": "pooled", "last_pool": True})
    network = build_network(spec, 32, seed=0)
    add_batch_norm(network)
    images = to_input(toy_faces(40).images)
    state = network.state_dict()
    for number in range(1, len(spec.filters) + 1):
        layer = f"conv2d_{number}"
        images = nn.functional.conv2d(images, state[f"{layer}.weight"], state[f"{layer}.bias"])
        images = nn.functional.max_pool2d(images, 2)
        mean, variance = images.mean(dim=(0, 2, 3)), images.var(dim=(0, 2, 3), correction=0)
        images = (images - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        images = images.clamp(0)
    found = network.inputs_of("flatten", to_input(toy_faces(40).images))
    torch.testing.assert_close(found, images, rtol=1e-3, atol=1e-4)
    scales = [norm.weight for norm in batch_norms(network)]
    assert len(scales) == len(spec.filters) + len(spec.dense)
    assert not any(scale.requires_grad for scale in scales)


@pytest.mark.parametrize("batch_norm", [True, "pooled"])
def test_a_folded_batch_norm_leaves_a_network_that_answers_as_before(
    spec: NetworkParams, batch_norm: bool | str
) -> None:
    spec = spec.model_copy(update={"batch_norm": batch_norm})
    network, plain = (build_network(spec, 32, seed=0) for _ in range(2))
    add_batch_norm(network)
    images = to_input(toy_faces(40).images)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            if layer.weight.requires_grad:
                nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias)
    for _ in range(5):
        network.logits(images)
    before = network.eval().logits(images)
    assert torch.equal(network(images), apply_head(spec, before))
    fold_batch_norm(network)
    assert network.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(network.logits(images), before)
    assert (before - plain.eval().logits(images)).abs().max() > 0.1
    fold_batch_norm(network)
    torch.testing.assert_close(network.logits(images), before)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(spec: NetworkParams) -> None:
    first, again, other = (build_network(spec, 32, seed=seed) for seed in (1, 1, 2))
    weights = [network.state_dict()["dense_1.weight"] for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_images_too_small_are_refused(spec: NetworkParams) -> None:
    with pytest.raises(InputError, match="16 pixels are too small for the network"):
        build_network(spec.model_copy(update={"filters": [4] * 5}), 16, seed=0)
    with pytest.raises(InputError, match="nothing is left after conv2d_1"):
        build_network(spec.model_copy(update={"filters": [4], "kernel": 5}), 4, seed=0)


def test_a_saved_network_comes_back_with_spec_and_preprocessing(
    tmp_path: Path, spec: NetworkParams
) -> None:
    crop = TrainingCropParams(size=32, resample="area", cmu_faces="stretch", face_margin=0.25)
    network = build_network(spec, 32, seed=3).eval()
    for name in ("a.safetensors", "b.safetensors"):
        save_network(SavedNetwork("tiny", network, crop), tmp_path / name)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = load_network(tmp_path / "a.safetensors")
    assert (loaded.name, loaded.crop, loaded.network.spec) == ("tiny", crop, spec)
    images = to_input(toy_faces(4).images)
    assert torch.equal(loaded.network(images), network(images))


def test_a_file_says_that_more_people_were_learned_from_only_where_they_were(
    tmp_path: Path, spec: NetworkParams
) -> None:
    crop = TrainingCropParams(size=32, resample="area", cmu_faces="stretch", face_margin=0.25)
    for more in (False, True):
        network = build_network(spec.model_copy(update={"more_people": more}), 32, seed=3).eval()
        file = tmp_path / f"{more}.safetensors"
        save_network(SavedNetwork("tiny", network, crop), file)
        assert (b"more_people" in file.read_bytes()) == more
        assert load_network(file).network.spec.more_people == more


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x10\0\0\0\0\0\0\0{}              "])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match="not a HappyMaps network"):
        load_network(file)


def test_a_truncated_network_is_refused(tmp_path: Path, spec: NetworkParams) -> None:
    file = tmp_path / "x.safetensors"
    crop = TrainingCropParams(size=32, resample="area", cmu_faces="stretch", face_margin=0.25)
    save_network(SavedNetwork("tiny", build_network(spec, 32, seed=0), crop), file)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"x\.safetensors"):
        load_network(file)
    with pytest.raises(InputError, match="dvc repro"):
        load_network(tmp_path / "missing.safetensors")


@pytest.mark.parametrize("name", ["conv2d_1.bias", "dense_2.weight"])
def test_a_network_without_some_of_its_weights_is_refused(
    tmp_path: Path, spec: NetworkParams, name: str
) -> None:
    """They would be left as chance has drawn them."""
    file = tmp_path / "x.safetensors"
    crop = TrainingCropParams(size=32, resample="area", cmu_faces="stretch", face_margin=0.25)
    save_network(SavedNetwork("tiny", build_network(spec, 32, seed=0), crop), file)
    with safe_open(file, framework="pt") as saved:
        description = saved.metadata()
        weights = {key: saved.get_tensor(key) for key in saved.keys()}  # noqa: SIM118
    del weights[name]
    save_file(weights, file, description)
    with pytest.raises(InputError, match=rf"(?s)not a HappyMaps network .*{name}"):
        load_network(file)


@pytest.mark.parametrize(("padding", "stride"), [(False, 1), (True, 1), (False, 2), (True, 2)])
def test_a_fixed_network_gives_images_the_gradient_of_one_that_learns(
    spec: NetworkParams, padding: bool, stride: int
) -> None:
    changes = {"padding": padding, "stride": stride, "filters": [4, 6]}
    network = build_network(spec.model_copy(update=changes), 32, seed=0).eval()
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    expected = network.logits(images)
    (wanted,) = torch.autograd.grad(expected.sum(), images)
    network.requires_grad_(False)
    found = network.logits(images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), images)[0], wanted)


def test_every_dropout_has_a_share_of_its_own(spec: NetworkParams) -> None:
    shares = {"pool_dropout": 0.1, "dropout": 0.4}
    network = build_network(spec.model_copy(update=shares), 32, seed=0)
    found = {name: one.p for name, one in network.named_children() if isinstance(one, nn.Dropout)}
    assert found.pop("dropout") == 0.4
    assert set(found.values()) == {0.1}
