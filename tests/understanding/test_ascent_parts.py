from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from happymaps.networks import Conv2D, build_network
from happymaps.params import HappymapsParams, NetworkParams, Params
from happymaps.understanding.activation_maximization import (
    _LEAK,
    _PARAMETRIZATIONS,
    _START,
    _happiness,
    _moved,
    _own_filters,
    _penalty,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def still(params: Params) -> HappymapsParams:
    return params.happymaps.model_copy(update={"jitter": 0.0, "scale": 0.0, "rotation": 0.0})


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_every_parametrization_starts_from_the_same_noise(parametrization: str) -> None:
    for shape in [(1, 16, 16), (3, 16, 16), (1, 17, 17)]:
        start, render = _PARAMETRIZATIONS[parametrization](shape, seeded(3))
        expected = (_START * torch.randn(shape, generator=seeded(3))).sigmoid()
        torch.testing.assert_close(render(start), expected, atol=1e-5, rtol=1e-5)
        # As many at once as there are neurons.
        images = render(start.expand(4, *start.shape))
        assert images.shape == (4, *shape)
        torch.testing.assert_close(images[3], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("parametrization", ["fourier", "pixel"])
def test_no_numbers_are_rendered_outside_of_0_to_1(parametrization: str) -> None:
    start, render = _PARAMETRIZATIONS[parametrization]((1, 16, 16), seeded(0))
    images = render(1000 * start)
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.3


@pytest.mark.parametrize("size", [16, 33, 64])
def test_a_step_of_the_waves_moves_a_pixel_about_as_much_as_its_own_would(size: int) -> None:
    start, render = _PARAMETRIZATIONS["fourier"]((1, size, size), seeded(0))
    step = 0.01 * torch.randn(start.shape, generator=seeded(1)).sign()
    moved = render(start + step).logit() - render(start).logit()
    assert 0.01 <= moved.square().mean().sqrt() <= 0.02


def test_waves_move_neighbours_together() -> None:
    likeness = {}
    for parametrization, begin in _PARAMETRIZATIONS.items():
        start, render = begin((1, 32, 32), seeded(0))
        step = 0.01 * torch.randn(start.shape, generator=seeded(1)).sign()
        moved = (render(start + step).logit() - render(start).logit())[0]
        neighbours = torch.stack([moved[:, :-1].flatten(), moved[:, 1:].flatten()])
        likeness[parametrization] = torch.corrcoef(neighbours)[0, 1].item()
    assert likeness["fourier"] > 0.5
    assert abs(likeness["pixel"]) < 0.2


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize(
    ("channels", "kernel", "height", "width"),
    [(1, 3, 8, 8), (4, 3, 7, 7), (3, 2, 6, 9), (5, 5, 5, 8), (2, 1, 3, 3)],
)
def test_own_filters_are_the_whole_layers_channels(
    channels: int, kernel: int, height: int, width: int, stride: int, padding: int
) -> None:
    layer = Conv2D(channels, 4, kernel, stride, padding).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=seeded(0))
    neurons = torch.tensor([3, 0, 3, 1])
    shape = (len(neurons), channels, height, width)
    inputs = torch.randn(shape, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    outputs = _own_filters(layer, neurons, inputs)
    whole = nn.functional.conv2d(inputs, layer.weight, layer.bias, stride, padding)
    expected = torch.stack([whole[image, neuron] for image, neuron in enumerate(neurons)])
    torch.testing.assert_close(outputs, expected.unsqueeze(1))
    shares = torch.randn(expected.shape, generator=seeded(2), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((outputs[:, 0] * shares).sum(), inputs)
    (plain,) = torch.autograd.grad((expected * shares).sum(), inputs)
    torch.testing.assert_close(gradient, plain)


@pytest.mark.parametrize("change", [{}, {"filters": "centre", "decision": "logit"}])
def test_happiness_is_what_the_whole_network_answers(
    still: HappymapsParams, spec: NetworkParams, change: dict[str, Any]
) -> None:
    params = still.model_copy(update=change)
    network = build_network(spec, 24, seed=0).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3, generator=seeded(1))
    images = torch.rand(3, 1, 24, 24, generator=seeded(0))
    for layer, neurons in [
        ("conv2d_1", [3, 0, 1]), ("conv2d_3", [5, 2, 2]), ("dense_1", [7, 3, 0]),
        ("dense_2", [1, 0, 1]),
    ]:  # fmt: skip
        happiness = _happiness(network, layer, torch.tensor(neurons), images, params)
        assert happiness.shape == (3,)
        for neuron, image, answer in zip(neurons, images, happiness, strict=True):
            outputs = network.before_relu(layer, image.unsqueeze(0))[0]
            if layer == "dense_2":
                odds = outputs - outputs.flip(0)
                expected = (outputs if params.decision == "logit" else odds)[neuron]
            else:
                # A little of what is below 0 is left, or a silent neuron could not be woken.
                expected = torch.where(outputs > 0, outputs, _LEAK * outputs)[neuron]
                if expected.ndim:
                    middle = len(expected) // 2
                    centre = expected[middle, middle]
                    expected = centre if params.filters == "centre" else expected.mean()
            torch.testing.assert_close(answer, expected, msg=layer)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_penalty_is_the_variation_and_the_distance_from_grey(
    still: HappymapsParams, channels: int
) -> None:
    images = torch.rand(2, channels, 5, 4, generator=seeded(0))
    variation, norm = 0.0, 0.0
    for plane in images.view(-1, 5, 4).tolist():
        for line in [*plane, *zip(*plane, strict=True)]:
            variation += sum(abs(after - before) for before, after in pairwise(line))
        norm += sum(abs(2 * value - 1) ** 4 / 4 for row in plane for value in row)
    for total_variation, weight in [(0.5, 0.1), (0.5, 0.0), (0.0, 0.1), (0.0, 0.0)]:
        change = {"total_variation": total_variation, "norm": weight, "norm_p": 4.0}
        penalty = _penalty(images, still.model_copy(update=change))
        assert penalty.item() == pytest.approx(total_variation * variation + weight * norm)


def test_grey_costs_nothing_and_full_contrast_has_a_slope(still: HappymapsParams) -> None:
    images = torch.full((1, 1, 4, 4), 0.5, requires_grad=True)
    penalty = _penalty(images, still)
    (gradient,) = torch.autograd.grad(penalty, images)
    assert penalty == 0
    assert not gradient.any()
    images = torch.tensor([0.0, 1.0]).repeat(4, 2).view(1, 1, 4, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(_penalty(images, still), images)
    assert gradient.isfinite().all()
    assert (gradient * (2 * images - 1) > 0).all()


def test_images_that_nothing_moves_are_handed_back(still: HappymapsParams) -> None:
    images = torch.rand(3, 1, 8, 8, generator=seeded(0))
    assert _moved(images, still, seeded(0)) is images


def coordinates(params: HappymapsParams, seed: int, size: int) -> tuple[Tensor, Tensor]:
    """The row and the column that each pixel of a moved image comes from.

    Moved like any other image, ramps tell it: between two pixels they are read exactly.
    """
    ramp = torch.arange(size, dtype=torch.float64).expand(size, size)
    rows, columns = _moved(torch.stack([ramp.T, ramp]).unsqueeze(1), params, seeded(seed))[:, 0]
    return rows, columns


def inside(rows: Tensor, columns: Tensor) -> Tensor:
    """Where a ramp was not cut off at the border."""
    first, last = 1e-3, len(rows) - 1.001
    return (rows > first) & (rows < last) & (columns > first) & (columns < last)


def read_between(image: list[list[float]], row: float, column: float) -> float:
    """Bilinear, one pixel at a time."""
    top, left = min(int(row), len(image) - 2), min(int(column), len(image) - 2)
    down, right = row - top, column - left
    above = (1 - right) * image[top][left] + right * image[top][left + 1]
    below = (1 - right) * image[top + 1][left] + right * image[top + 1][left + 1]
    return (1 - down) * above + down * below


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("count", "channels"), [(1, 1), (3, 1), (2, 3), (5, 3)])
def test_all_images_are_moved_alike_and_read_between_the_pixels(
    params: Params, count: int, channels: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    size = 10
    images = torch.rand(count, channels, size, size, generator=seeded(0), dtype=torch.float64)
    for seed in (1, 2):
        moved = _moved(images, params.happymaps, seeded(seed))
        rows, columns = (part.tolist() for part in coordinates(params.happymaps, seed, size))
        assert moved.shape == images.shape
        assert not torch.equal(moved, images)
        for plane, result in zip(images.flatten(0, 1), moved.flatten(0, 1), strict=True):
            pixels = plane.tolist()
            expected = [
                [read_between(pixels, *place) for place in zip(*line, strict=True)]
                for line in zip(rows, columns, strict=True)
            ]
            torch.testing.assert_close(result, torch.tensor(expected).double(), atol=1e-5, rtol=0)


def test_jitter_shifts_by_a_fraction_of_the_image_at_most(still: HappymapsParams) -> None:
    size = 20
    shifting = still.model_copy(update={"jitter": 0.2})
    shifts: tuple[list[float], list[float]] = ([], [])
    for seed in range(30):
        rows, columns = coordinates(shifting, seed, size)
        seen = inside(rows, columns)
        numbers = torch.arange(size, dtype=torch.float64)
        for found, places, plain in zip(
            shifts, (rows, columns), (numbers.unsqueeze(1), numbers), strict=True
        ):
            shift = (places - plain)[seen]
            # The same everywhere, a fraction of a pixel included.
            assert shift.std() < 1e-5
            found.append(shift.mean().item())
    for found in shifts:
        assert -0.2 * size <= min(found) < -0.15 * size
        assert 0.15 * size < max(found) <= 0.2 * size
    # Down and across by numbers of their own.
    down, across = torch.tensor(shifts)
    assert (down.abs() - across.abs()).abs().mean() > 0.02 * size


def test_a_shift_of_whole_pixels_is_a_plain_shift(still: HappymapsParams) -> None:
    size = 16
    shifting = still.model_copy(update={"jitter": 0.1})
    line = torch.rand(size, generator=seeded(0), dtype=torch.float64)
    middle = size // 2
    # Only the shift across a pattern of stripes shows, so that one of the two is made whole.
    for number, stripes in enumerate([line.unsqueeze(1).expand(size, size), line.expand(size, -1)]):
        shift = coordinates(shifting, 0, size)[number][middle, middle].item() - middle
        whole = still.model_copy(update={"jitter": 0.1 * 3 / shift})
        moved = _moved(stripes.reshape(1, 1, size, size), whole, seeded(0))[0, 0]
        plain = stripes.roll(-3, dims=number)
        inner = [slice(None), slice(None)]
        inner[number] = slice(0, size - 3)
        torch.testing.assert_close(moved[tuple(inner)], plain[tuple(inner)], atol=1e-5, rtol=0)


def test_scale_and_rotation_turn_around_the_middle_within_their_bounds(
    still: HappymapsParams,
) -> None:
    size, middle = 21, 10
    scaling = still.model_copy(update={"scale": 0.2})
    turning = still.model_copy(update={"rotation": 0.2})
    factors, angles = [], []
    for seed in range(30):
        for params in (scaling, turning):
            rows, columns = coordinates(params, seed, size)
            seen = inside(rows, columns)
            numbers = torch.arange(size, dtype=torch.float64) - middle
            down, across = torch.meshgrid(numbers, numbers, indexing="ij")
            # One turn and one scale, in complex numbers: the same factor everywhere.
            before = torch.complex(across, down)[seen]
            after = torch.complex(columns - middle, rows - middle)[seen]
            ratios = (after / before)[before.abs() > 0]
            assert (ratios - ratios.mean()).abs().max() < 1e-5
            ratio = ratios.mean()
            if params is scaling:
                assert ratio.angle().abs() < 1e-6
                factors.append(1 / ratio.abs().item())
            else:
                assert ratio.abs().item() == pytest.approx(1, abs=1e-5)
                angles.append(ratio.angle().item())
    assert 0.8 <= min(factors) < 0.86
    assert 1.14 < max(factors) <= 1.2
    assert -0.2 <= min(angles) < -0.14
    assert 0.14 < max(angles) <= 0.2


def test_every_step_moves_otherwise_and_a_seed_the_same_way(params: Params) -> None:
    images = torch.rand(1, 1, 16, 16, generator=seeded(0))
    generator, again = seeded(1), seeded(1)
    first, second = (_moved(images, params.happymaps, generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(_moved(images, params.happymaps, again), first)
    assert torch.equal(_moved(images, params.happymaps, again), second)


def test_moved_images_hand_their_gradient_back_to_the_pixels(params: Params) -> None:
    images = torch.rand(3, 1, 8, 8, generator=seeded(0), dtype=torch.float64, requires_grad=True)
    moved = _moved(images, params.happymaps, seeded(0))
    (gradient,) = torch.autograd.grad(moved[1].sum(), images)
    assert not gradient[0].any()
    assert not gradient[2].any()
    # Every pixel of the result spends a weight of 1 altogether.
    assert gradient[1].sum().item() == pytest.approx(64)
