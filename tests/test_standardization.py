"""Images brought to mean 0 and variance 1, as wholes or place by place, and patches on them."""

import pytest
import torch
from torch import Tensor

from happymaps.datasets import to_input
from happymaps.networks import LocalStandardization, Standardization, build_network
from happymaps.params import NetworkParams
from happymaps.understanding import perturbation
from happymaps.understanding.perturbation import patch_scores
from toys import random_network, toy_faces, with_patch_everywhere

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def normalized(spec: NetworkParams) -> NetworkParams:
    return spec.model_copy(update={"normalize": "image"})


def some_images(count: int = 5, channels: int = 1) -> Tensor:
    """Each with a brightness and a contrast of its own, in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(count, channels, 32, 32, generator=generator)
    contrast = torch.linspace(0.2, 0.7, count).view(-1, 1, 1, 1)
    return noise * contrast + torch.linspace(0, 0.3, count).view(-1, 1, 1, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_gets_mean_0_and_variance_1(channels: int) -> None:
    images = some_images(channels=channels)
    given = images.clone()
    standardized = Standardization()(images)
    assert standardized.shape == images.shape
    assert torch.equal(images, given)
    zeros, ones = torch.zeros(len(images)), torch.ones(len(images))
    torch.testing.assert_close(standardized.mean(dim=(1, 2, 3)), zeros, atol=1e-5, rtol=0)
    # A rounding error of a byte more or less: the variances are 0.003 and more.
    variance = standardized.var(dim=(1, 2, 3), correction=0)
    torch.testing.assert_close(variance, ones, atol=6e-3, rtol=0)


def test_colours_keep_their_differences() -> None:
    images = torch.cat([some_images(), 0.5 * some_images(), 0 * some_images()], dim=1)
    standardized = Standardization()(images)
    # Brighter ones are brighter, and have more contrast.
    mean, spread = standardized.mean(dim=(2, 3)), standardized.std(dim=(2, 3))
    assert (mean.diff(dim=1) < -0.1).all()
    torch.testing.assert_close(spread[:, 1], spread[:, 0] / 2)
    assert (spread[:, 2] < 1e-5).all()


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    images = some_images()
    together = Standardization()(images)
    for image, standardized in zip(images, together, strict=True):
        torch.testing.assert_close(Standardization()(image.unsqueeze(0))[0], standardized)


@pytest.mark.parametrize("size", [31, 47, 100, 128, 130])
@pytest.mark.parametrize("axis", [2, 3])
def test_what_is_around_a_place_is_around_it_whatever_the_size(size: int, axis: int) -> None:
    """Of a ramp the mean around a place is the place's own, and a third of it is around it."""
    ramp = torch.linspace(0, 1, size).view(-1, 1).expand(1, 1, size, size)
    images = ramp if axis == 2 else ramp.mT
    inside = slice(size // 4, -size // 4)
    found = LocalStandardization()(images)[..., inside, inside]
    assert found.shape[2:] == images[..., inside, inside].shape[2:]
    assert found.abs().max() < 0.1
    # A spike is seen from as far as the mean reaches.
    spike = torch.zeros(1, 1, size, size)
    spike[..., size // 2, size // 2] = 1
    seen = (LocalStandardization()(spike)[0, 0] < 0).any(dim=0).sum().item()
    assert 0.25 < seen / size < 0.5


@pytest.mark.parametrize("size", [31, 47, 128, 130])
def test_a_flat_image_is_flat_up_to_its_edges_whatever_the_size(size: int) -> None:
    found = LocalStandardization()(torch.full((1, 1, size, size), 0.8))
    assert found.abs().max() < 1e-3


@pytest.mark.parametrize("shade", [0, 0.5, 1])
def test_a_flat_image_becomes_0_with_finite_gradients(shade: float) -> None:
    images = torch.full((2, 1, 32, 32), float(shade), requires_grad=True)
    standardized = Standardization()(images)
    assert not standardized.any()
    weight = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((standardized * weight).sum(), images)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_flat_image_is_answered_and_explained(normalized: NetworkParams) -> None:
    network = random_network(normalized)
    images = torch.full((1, 1, 32, 32), 0.7, requires_grad=True)
    logits = network.logits(images)
    (gradient,) = torch.autograd.grad(logits[0, 1], images)
    assert logits.isfinite().all()
    assert gradient.isfinite().all()


def test_gradients_are_those_of_small_steps() -> None:
    images = some_images(2).double()[..., :4, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(Standardization(), (images,))


def test_the_layer_stands_before_all_others_and_only_where_asked(
    spec: NetworkParams, normalized: NetworkParams
) -> None:
    plain, changed = (build_network(each, 32, seed=0) for each in (spec, normalized))
    names = [name for name, _ in plain.named_children()]
    assert [name for name, _ in changed.named_children()] == ["standardization", *names]
    # It has nothing to learn, and the same seed gives the others the same weights.
    assert plain.state_dict().keys() == changed.state_dict().keys()
    assert all(map(torch.equal, plain.parameters(), changed.parameters()))


def test_a_network_sees_the_standardized_image(
    spec: NetworkParams, normalized: NetworkParams
) -> None:
    plain, changed = random_network(spec), random_network(normalized)
    images = some_images()
    centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
    # What is no more than the rounding of bytes is not made louder.
    by_hand = centred / (centred.square().mean(dim=(1, 2, 3), keepdim=True) + 1 / 255**2).sqrt()
    torch.testing.assert_close(changed.inputs_of("conv2d_1", images), by_hand)
    torch.testing.assert_close(changed.logits(images), plain.logits(by_hand), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(changed(images), changed.logits(images).softmax(dim=1))
    # The outputs of all layers, as explanations ask for them.
    for name in ("conv2d_1", "conv2d_3", "dense_1"):
        inside, wanted = changed.before_relu(name, images), plain.before_relu(name, by_hand)
        torch.testing.assert_close(inside, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(changed.inputs_of("standardization", images), images)
    assert torch.equal(changed.before_relu("standardization", images), Standardization()(images))


@pytest.mark.parametrize(("factor", "added"), [(1, 0.2), (0.5, 0), (0.6, 0.3), (1.3, -0.1)])
def test_light_and_contrast_change_no_answer(
    spec: NetworkParams, normalized: NetworkParams, factor: float, added: float
) -> None:
    images = to_input(toy_faces(40).images)
    plain, changed = random_network(spec), random_network(normalized)
    before, after = changed.logits(images), changed.logits(factor * images + added)
    assert torch.equal(before.argmax(dim=1), after.argmax(dim=1))
    moved = (before - after).abs().max()
    assert moved < 5e-3 * before.std()
    # Which is no wonder of the network: without the layer they move.
    other = plain.logits(images) - plain.logits(factor * images + added)
    assert other.abs().max() > 20 * moved


def waves(size: int = 64) -> Tensor:
    """A grating that is the same everywhere: (1, 1, size, size), about 0, with a deviation of 1."""
    row = torch.sin(torch.arange(size) * torch.pi / 2 + 0.3)
    return (2 * row.view(-1, 1) * row).view(1, 1, size, size)


@pytest.mark.parametrize("size", [8, 29, 32, 50, 128])
def test_places_keep_their_number_at_any_size(size: int) -> None:
    images = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    standardized = LocalStandardization()(images)
    assert standardized.shape == images.shape
    # Noise is of one kind everywhere: what is around a place is like the whole.
    wanted = (images - images.mean()) / images.std()
    assert (standardized - wanted).abs().mean() < 0.35
    correlation = torch.corrcoef(torch.stack([standardized.flatten(), wanted.flatten()]))[0, 1]
    assert correlation > 0.9


def test_every_place_is_compared_with_what_is_around_it() -> None:
    # Left half dark and faint, right half bright and strong.
    strength = torch.tensor([0.1, 0.2]).repeat_interleave(32)
    level = torch.tensor([0.2, 0.7]).repeat_interleave(32)
    images = level + strength * waves()
    standardized = LocalStandardization()(images)
    # Far from where they meet both are what they would be alone: by hand, with the deviation of
    # 0.05 that is added for fear of noise.
    for columns, deviation in ((slice(0, 12), 0.1), (slice(52, 64), 0.2)):
        factor = deviation / (deviation**2 + 0.05**2) ** 0.5
        torch.testing.assert_close(
            standardized[..., 12:52, columns], factor * waves()[..., 12:52, columns],
            atol=0.12, rtol=0,
        )  # fmt: skip


def test_light_from_one_side_hardly_changes_a_place() -> None:
    image = 0.5 + 0.15 * waves()
    slope = torch.linspace(-0.3, 0.3, 64)
    local, whole = LocalStandardization(), Standardization()
    inside = (..., slice(12, 52), slice(12, 52))
    moved = (local(image + slope) - local(image))[inside].abs().max()
    assert moved < 0.2
    assert (whole(image + slope) - whole(image))[inside].abs().max() > 3 * moved


def test_what_is_far_away_changes_nothing() -> None:
    images = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[..., 40:] = 1 - other[..., 40:] / 2
    before, after = LocalStandardization()(images), LocalStandardization()(other)
    assert torch.equal(before[..., :16], after[..., :16])
    assert not torch.equal(before[..., 30:40], after[..., 30:40])


@pytest.mark.parametrize("shade", [0.0, 0.5, 1.0])
def test_a_flat_image_is_about_0_in_every_place_with_finite_gradients(shade: float) -> None:
    images = torch.full((1, 1, 32, 32), shade, requires_grad=True)
    standardized = LocalStandardization()(images)
    assert standardized.abs().max() < 1e-3
    weight = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((standardized * weight).sum(), images)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_network_may_be_told_to_look_place_by_place(spec: NetworkParams) -> None:
    plain, local = random_network(spec), random_network(spec, normalize="local")
    images = some_images()
    torch.testing.assert_close(
        local.logits(images), plain.logits(LocalStandardization()(images)), rtol=1e-4, atol=1e-4
    )
    assert local.state_dict().keys() == plain.state_dict().keys()


NETWORKS: dict[str, dict[str, object]] = {
    "image": {},
    "local": {"normalize": "local"},
    "four poses": {"target": "pose"},
    "no dense layer": {"dense": []},
    "linear": {"head": "linear", "loss": "mean_squared_error"},
    "stride": {"normalize": "none", "stride": 2},
    "padding": {"normalize": "none", "padding": True},
    "as the generalist": {"normalize": "local", "stride": 2, "padding": True, "target": "pose"},
    "more layers than pixels without padding": {"padding": True, "filters": [4] * 5},
}


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize(("side", "stride"), [(3, 1), (5, 4), (20, 7)])
def test_a_patch_that_changes_more_than_its_part_is_pasted(
    monkeypatch: pytest.MonkeyPatch,
    normalized: NetworkParams,
    changes: dict[str, object],
    side: int,
    stride: int,
) -> None:
    # The fast way would be taken, if what the patch changes could be told.
    monkeypatch.setattr(perturbation, "_WORTHWHILE", torch.inf)
    network = random_network(normalized, 45, 1, **changes)
    torch.manual_seed(1)
    # A dim image and a bright patch, so that the mean moves.
    image, patch = 0.4 * torch.rand(1, 45, 45), 0.5 + 0.5 * torch.rand(1, side, side)
    scores = patch_scores(network, image, patch, stride)
    expected = with_patch_everywhere(network, image, patch, stride)
    assert scores.shape == expected.shape
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    assert (scores - expected).abs().max() < 1e-2 * expected.std(dim=(0, 1)).min()
