import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from torch import Tensor

from happymaps.networks import Network
from happymaps.params import NetworkParams
from happymaps.understanding.attributions import blurred
from happymaps.understanding.faithfulness import (
    Curves,
    area,
    curves,
    decided_by_detail,
    faithfulness,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 24
PATCH = 6
STEPS = SIZE * SIZE // PATCH**2
BLUR = 0.08


def checks() -> Tensor:
    """1 and -1 in turn in the top left corner, 0 elsewhere: detail that no blur leaves alone."""
    pattern = torch.zeros(SIZE, SIZE)
    rows, columns = torch.meshgrid(torch.arange(PATCH), torch.arange(PATCH), indexing="ij")
    pattern[:PATCH, :PATCH] = 1 - 2.0 * ((rows + columns) % 2)
    return pattern


def corner_network(
    spec: NetworkParams,
    changes: dict[str, object] | None = None,
    *,
    gain: float = 10,
    bias: float = -5,
    channels: int = 1,
) -> Network:
    """Its class 1 answers `gain` to the checks at full contrast, all else counts for nothing."""
    spec = spec.model_copy(update={"filters": [1], "kernel": 1, "dense": [], **(changes or {})})
    network = Network(spec, SIZE, channels).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.get_parameter("conv2d_1.weight")[0, 0] = 1
        network.get_parameter("dense_1.weight")[1] = gain * checks().flatten() / (PATCH**2 / 2)
        network.get_parameter("dense_1.bias")[1] = bias
    return network


def checked_images(count: int, *, channels: int = 1, seed: int = 0) -> Tensor:
    """Noise with the checks in the corner, at contrasts from 0.8 to 1."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, SIZE, SIZE, generator=generator)
    contrast = 0.8 + 0.2 * torch.rand(count, 1, 1, 1, generator=generator)
    return torch.where(checks() == 0, images, 0.5 + 0.5 * contrast * checks())


def corner(count: int) -> Tensor:
    return (checks() != 0).float().repeat(count, 1, 1)


def noise(count: int, *, seed: int = 0) -> Tensor:
    return torch.randn(count, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def ones(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.int64)


def run(
    network: Network, images: Tensor, maps: Tensor, steps: int = STEPS, seed: int = 0
) -> Curves:
    return curves(
        network, images, ones(len(images)), maps, blur=BLUR, steps=steps, cell=1, seed=seed
    )


def test_the_ends_are_the_image_and_the_blurred_image(spec: NetworkParams) -> None:
    network, images = corner_network(spec), checked_images(3)
    found = run(network, images, noise(3))
    with torch.inference_mode():
        sharp, soft = network(images)[:, 1], network(blurred(images, BLUR))[:, 1]
    assert found.deletion.shape == found.insertion.shape == (3, STEPS + 1)
    assert sharp.min() > 0.9
    assert soft.max() < 0.1
    for curve, first, last in ((found.deletion, sharp, soft), (found.insertion, soft, sharp)):
        torch.testing.assert_close(curve[:, 0], first)
        torch.testing.assert_close(curve[:, -1], last)


# 7 steps do not divide the pixels evenly; both curves of 80 are longer than a batch.
@pytest.mark.parametrize("steps", [1, 7, 80])
def test_curves_are_those_of_pixels_exchanged_one_by_one(spec: NetworkParams, steps: int) -> None:
    network = corner_network(spec, {"target": "pose"})
    images, maps = checked_images(2), noise(2)
    classes = torch.tensor([1, 3])
    found = curves(network, images, classes, maps, blur=BLUR, steps=steps, cell=1, seed=0)
    soft = blurred(images, BLUR)
    for number, asked in enumerate(classes):
        order = sorted(np.ndindex(SIZE, SIZE), key=lambda place: -maps[number][place].item())
        going, coming = images[number].clone(), soft[number].clone()
        done = 0
        for step in range(steps + 1):
            while done < round(step * SIZE * SIZE / steps):
                row, column = order[done]
                going[:, row, column] = soft[number, :, row, column]
                coming[:, row, column] = images[number, :, row, column]
                done += 1
            with torch.inference_mode():
                deleted, inserted = network(torch.stack([going, coming]))[:, asked]
            torch.testing.assert_close(found.deletion[number, step], deleted)
            torch.testing.assert_close(found.insertion[number, step], inserted)


def test_all_channels_of_a_pixel_go_together(spec: NetworkParams) -> None:
    network = corner_network(spec, channels=3)
    with torch.no_grad():
        network.get_parameter("conv2d_1.weight")[:] = 1 / 3
    images = checked_images(2, channels=3)
    found = run(network, images, corner(2))
    mixed = torch.where(checks() != 0, blurred(images, BLUR), images)
    with torch.inference_mode():
        torch.testing.assert_close(found.deletion[:, 1], network(mixed)[:, 1])


def test_the_true_map_is_done_in_its_first_step(spec: NetworkParams) -> None:
    network, images = corner_network(spec), checked_images(4)
    found = run(network, images, corner(4))
    assert found.deletion[:, 0].min() > 0.9
    assert found.deletion[:, 1:].max() < 0.1
    assert found.insertion[:, 0].max() < 0.1
    assert found.insertion[:, 1:].min() > 0.9


def test_the_true_map_beats_noise_and_its_inverse_loses(spec: NetworkParams) -> None:
    network, images = corner_network(spec), checked_images(12)
    maps = {"true": corner(12), "inverse": -corner(12), "random": noise(12)}
    found = {name: run(network, images, each) for name, each in maps.items()}
    table = faithfulness(found, seed=0)
    assert {name: row["beats_random"] for name, row in table.items()} == {
        "true": True,
        "inverse": False,
        "random": False,
    }
    assert table["true"]["deletion"] < 0.1
    assert table["true"]["insertion"] > 0.9
    assert table["inverse"]["deletion"] > 0.9
    assert table["inverse"]["insertion"] < 0.1
    assert table["inverse"]["deletion_interval"][0] > table["random"]["deletion_interval"][1]
    for name, row in table.items():
        for side in ("deletion", "insertion"):
            low, high = row[f"{side}_interval"]
            assert low <= row[side] <= high
            assert row[side] == pytest.approx(area(getattr(found[name], side)).mean().item())


@pytest.mark.parametrize("bad", ["deletion", "insertion"])
def test_a_method_must_beat_the_control_on_both_sides(bad: str) -> None:
    low, high = torch.linspace(0, 0.2, 12), torch.linspace(0.8, 1, 12)
    middle = torch.linspace(0.4, 0.6, 12)

    def flat(levels: Tensor) -> Tensor:
        return levels.unsqueeze(1).repeat(1, 5)

    good = Curves(deletion=flat(low), insertion=flat(high))
    half = Curves(
        deletion=flat(middle if bad == "deletion" else low),
        insertion=flat(middle if bad == "insertion" else high),
    )
    control = Curves(flat(middle), flat(middle))
    table = faithfulness({"good": good, "half": half, "noise": control}, seed=0, control="noise")
    assert table["good"]["beats_noise"]
    assert not table["half"]["beats_noise"]


@pytest.mark.parametrize(("count", "beats"), [(1, False), (11, False), (12, True)])
def test_a_few_images_prove_nothing(spec: NetworkParams, count: int, beats: bool) -> None:
    network, images = corner_network(spec), checked_images(count)
    found = {
        "true": run(network, images, corner(count)),
        "random": run(network, images, noise(count)),
    }
    row = faithfulness(found, seed=0)["true"]
    assert row["deletion"] < 0.1
    assert (row["deletion_interval"] == [0, 1]) is not beats
    assert row["beats_random"] is beats


def test_what_cannot_be_compared_is_refused(spec: NetworkParams) -> None:
    network, images = corner_network(spec), checked_images(1)
    one = run(network, images, noise(1))
    with pytest.raises(KeyError, match="random"):
        faithfulness({"saliency": one}, seed=0)
    none = run(network, images[:0], noise(0))
    assert none.deletion.shape == (0, STEPS + 1)
    with pytest.raises(ValueError, match="no value"):
        faithfulness({"random": none}, seed=0)


def test_pixels_that_a_map_does_not_tell_apart_come_in_no_order(spec: NetworkParams) -> None:
    network, images = corner_network(spec), checked_images(24)
    # In the image's order the corner would be gone after a quarter of the pixels.
    found = run(network, images, torch.zeros(24, SIZE, SIZE))
    deletion = area(found.deletion)
    random = area(run(network, images, noise(24)).deletion)
    assert deletion.mean().item() == pytest.approx(random.mean().item(), abs=0.05)
    # Each image has an order of its own, drawn from the seed.
    assert len(deletion.unique()) > 12
    again, other = (run(network, images, torch.zeros(24, SIZE, SIZE), seed=seed) for seed in (0, 1))
    assert torch.equal(again.deletion, found.deletion)
    assert not torch.equal(other.deletion, found.deletion)


def test_a_linear_heads_output_is_cut_off_at_0_and_1(spec: NetworkParams) -> None:
    linear: dict[str, object] = {"head": "linear", "loss": "mean_squared_error"}
    network, images = corner_network(spec, linear, gain=10, bias=-2), checked_images(2)
    with torch.inference_mode():
        outputs = network(torch.cat([images, blurred(images, BLUR)]))[:, 1]
    assert outputs[:2].min() > 1
    assert outputs[2:].max() < 0
    found = run(network, images, corner(2))
    assert (found.deletion[:, 0] == 1).all()
    assert not found.deletion[:, 1:].any()
    # What lies between is left as it is.
    network = corner_network(spec, linear, gain=0.5, bias=0.25)
    assert run(network, images, corner(2)).deletion[:, 0].tolist() == pytest.approx(
        network(images)[:, 1].tolist()
    )


def test_the_explained_images_and_maps_stay_as_they_were(spec: NetworkParams) -> None:
    network, images, maps = corner_network(spec), checked_images(2), noise(2)
    before = images.clone(), maps.clone()
    run(network, images, maps)
    assert torch.equal(images, before[0])
    assert torch.equal(maps, before[1])


def test_maps_that_order_nothing_are_refused(spec: NetworkParams) -> None:
    network, images = corner_network(spec), checked_images(2)
    with pytest.raises(ValueError, match=r"\(2, 12, 12\).*\(2, 1, 24, 24\)"):
        run(network, images, torch.zeros(2, SIZE // 2, SIZE // 2))
    maps = noise(2)
    maps[1, 3, 4] = torch.nan
    with pytest.raises(ValueError, match="finite"):
        run(network, images, maps)


def test_images_count_whose_answer_goes_with_their_detail(spec: NetworkParams) -> None:
    network = corner_network(spec)
    # More than a batch, every other one without the checks.
    images = checked_images(70)
    images[1::2] = 0.5
    answers = network(images).argmax(dim=1)
    counted = decided_by_detail(network, images, answers, BLUR)
    assert counted.dtype == torch.bool
    assert counted[::2].all()
    assert not counted[1::2].any()
    # The class counts that is explained, whatever the image's answer is.
    assert decided_by_detail(network, images[1:2], torch.tensor([1]), BLUR).all()


def test_area_is_the_trapezoids() -> None:
    curve = torch.rand(3, 9, generator=torch.Generator().manual_seed(0))
    expected = trapezoid(curve.double().numpy(), np.linspace(0, 1, 9), axis=1)
    np.testing.assert_allclose(area(curve).numpy(), expected)
    assert area(torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])).tolist() == [0.5, 1.0]
    assert area(torch.tensor([[1.0, 0.0, 0.0]])).item() == 0.25


def test_squares_go_and_come_whole_in_the_order_of_their_mean(spec: NetworkParams) -> None:
    """As pixels do one by one that have their square's value."""
    network, images = corner_network(spec), checked_images(2)
    cell = 5  # does not divide the image: squares at the edges are cut off
    squares = -(-SIZE // cell)
    maps = noise(2)
    means = torch.zeros_like(maps)
    for row, column in np.ndindex(squares, squares):
        place = (
            slice(None),
            slice(row * cell, (row + 1) * cell),
            slice(column * cell, (column + 1) * cell),
        )
        means[place] = maps[place].mean(dim=(1, 2), keepdim=True)
    steps = squares**2
    found = curves(
        network, images, ones(2), maps, blur=BLUR, steps=steps, cell=cell, seed=0
    ).deletion
    soft = blurred(images, BLUR)
    for number in range(2):
        values = means[number].unique().flip(0)
        assert len(values) == steps
        for step in (0, 1, 7, steps):
            gone = torch.isin(means[number], values[:step])
            picture = torch.where(gone, soft[number], images[number])
            with torch.inference_mode():
                expected = network(picture.unsqueeze(0))[0, 1]
            torch.testing.assert_close(found[number, step], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("touching", ["deletion", "insertion"])
def test_an_interval_that_touches_the_controls_does_not_beat_it(touching: str) -> None:
    """Although the mean is outside the control's interval, and the control's outside its own."""

    def flat(middle: float) -> Tensor:
        return torch.linspace(middle - 0.2, middle + 0.2, 12).unsqueeze(1).repeat(1, 5)

    control = Curves(flat(0.5), flat(0.5))
    near = {"deletion": 0.38, "insertion": 0.62}
    levels = {"deletion": 0.2, "insertion": 0.8, touching: near[touching]}
    method = Curves(flat(levels["deletion"]), flat(levels["insertion"]))
    table = faithfulness({"method": method, "random": control}, seed=0)
    ends = [table[name][f"{touching}_interval"] for name in ("method", "random")]
    (low, high), (control_low, control_high) = ends
    assert high < 0.5 or low > 0.5
    assert not control_low <= table["method"][touching] <= control_high
    assert not table["method"]["beats_random"]
