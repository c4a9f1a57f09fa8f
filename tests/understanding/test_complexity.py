import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from happymaps.stages import complexity as stage
from happymaps.understanding.complexity import (
    colour_variance,
    complexity,
    orientation_entropy,
    spatial_frequency,
)

RED, GREEN, GREY = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.5, 0.5, 0.5)
FIGURES = [colour_variance, spatial_frequency, orientation_entropy]


def noise(count: int, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def smooth(maps: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(maps, 5, stride=1)


def wave(down: int, across: int, height: int = 32, width: int = 32) -> Tensor:
    """(1, 1, H, W): a sine with so many cycles per side."""
    rows = torch.arange(height, dtype=torch.float64).unsqueeze(1) / height
    columns = torch.arange(width, dtype=torch.float64).unsqueeze(0) / width
    return (0.5 + 0.5 * torch.sin(2 * math.pi * (down * rows + across * columns)))[None, None]


def stripes(*colours: tuple[float, ...], thick: int) -> Tensor:
    """(1, C, 32, 32): upright stripes of colours that take turns."""
    columns = torch.arange(32) // thick % len(colours)
    return torch.tensor(colours)[columns].T[None, :, None].repeat(1, 1, 32, 1)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_map_of_one_colour_has_nothing(figure: Any, level: float, dtype: torch.dtype) -> None:
    plain = torch.full((2, 3, 7, 9), level, dtype=dtype)
    plain[1, 0] = 0.7
    found = figure(plain)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([0, 0], abs=1e-15)


@pytest.mark.parametrize("figure", FIGURES)
def test_what_rounding_leaves_of_a_constant_is_no_pattern(figure: Any) -> None:
    plain = torch.full((1, 3, 7, 7), 0.5)
    plain[0, 0, 3, 3] = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    assert plain.unique().numel() == 2
    assert figure(plain).item() == pytest.approx(0, abs=1e-12)


def test_red_beside_green_has_colour_variance_one_half_whatever_the_stripes() -> None:
    # Without its mean red is (2, -1, -1) / 3, and both are 1/2 from their mean in two channels.
    maps = torch.cat([stripes(RED, GREEN, thick=thick) for thick in (16, 4, 1)])
    assert colour_variance(maps).tolist() == pytest.approx([1 / 2] * 3)
    # Where a third is pure colour and the rest grey: 2/9 times the squared length 2/3.
    third = stripes(RED, GREY, GREY, thick=1)[..., :30]
    assert colour_variance(third).item() == pytest.approx(2 / 9 * 2 / 3)


def test_red_beside_its_opposite_varies_most() -> None:
    opposite = stripes(RED, (0.0, 1.0, 1.0), thick=8)
    assert colour_variance(opposite).item() == pytest.approx(2 / 3)


def test_brightness_is_no_colour() -> None:
    grey = noise(2, channels=1)
    assert colour_variance(grey).tolist() == [0, 0]
    assert colour_variance(grey.expand(2, 3, 32, 32)).tolist() == pytest.approx([0, 0], abs=1e-15)
    red_and_grey = noise(1)
    brighter = 0.5 * red_and_grey + 0.5 * noise(1, channels=1)
    one, other = colour_variance(0.5 * red_and_grey), colour_variance(brighter)
    assert one.item() == pytest.approx(other.item())


@pytest.mark.parametrize(("down", "across"), [(4, 0), (0, 4), (3, 4), (1, 0), (0, 16), (5, -12)])
def test_a_wave_has_its_frequency(down: int, across: int) -> None:
    map_ = wave(down, across) if across != 16 else stripes((0.0,), (1.0,), thick=1)
    assert spatial_frequency(map_).item() == pytest.approx(math.hypot(down, across))
    colour = torch.cat([map_, 1 - map_, 0.2 * map_], dim=1)
    assert spatial_frequency(colour).item() == pytest.approx(math.hypot(down, across))


def test_frequency_is_the_mean_weighted_with_power() -> None:
    # Twice the contrast is four times the power.
    mixed = 0.6 * wave(2, 0) + 0.3 * wave(0, 7)
    assert spatial_frequency(mixed).item() == pytest.approx((4 * 2 + 7) / 5)
    side_by_side = torch.cat([0.6 * wave(2, 0), 0.3 * wave(0, 7)], dim=1)
    assert spatial_frequency(side_by_side).item() == pytest.approx((4 * 2 + 7) / 5)


def test_a_side_is_each_side_of_a_map_that_is_not_square() -> None:
    wide = {"height": 20, "width": 33}
    assert spatial_frequency(wave(4, 0, **wide)).item() == pytest.approx(4)
    assert spatial_frequency(wave(0, 4, **wide)).item() == pytest.approx(4)
    assert spatial_frequency(wave(3, 4, **wide)).item() == pytest.approx(5)


def test_frequency_is_that_of_plain_numpy() -> None:
    maps = smooth(noise(2, height=11, width=14)).double()
    for map_, found in zip(maps.numpy(), spatial_frequency(maps).tolist(), strict=True):
        weighted = total = 0.0
        _, height, width = map_.shape
        rows, columns = np.mgrid[:height, :width]
        for down in range(height):
            for across in range(width):
                turns = down * rows / height + across * columns / width
                waves = (map_ * np.exp(-2j * np.pi * turns)).sum(axis=(1, 2))
                power = (np.abs(waves) ** 2).sum() if (down, across) != (0, 0) else 0.0
                # The second half of a spectrum is the negative frequencies.
                distance = np.hypot(min(down, height - down), min(across, width - across))
                weighted, total = weighted + power * distance, total + power
        assert found == pytest.approx(weighted / total)


def test_noise_is_of_higher_frequency_than_smooth_noise() -> None:
    maps = noise(8)
    assert (spatial_frequency(maps) > 2 * spatial_frequency(smooth(maps))).all()


@pytest.mark.parametrize(("down", "across"), [(4, 0), (0, 4), (3, 4), (3, -4), (1, 12), (2, 1)])
def test_one_direction_has_no_entropy(down: int, across: int) -> None:
    assert orientation_entropy(wave(down, across)).item() == pytest.approx(0, abs=1e-9)


def test_stripes_of_one_pixel_are_edges() -> None:
    upright = stripes((0.0,), (1.0,), thick=1)
    both = torch.cat([upright, upright.mT], dim=1)
    assert orientation_entropy(upright).item() == 0
    assert orientation_entropy(both).item() == pytest.approx(math.log(2) / math.log(8))


def test_directions_count_by_their_energy() -> None:
    # Edges of a quarter of the energy: shares of 4/5 and 1/5.
    upright = stripes((0.0,), (1.0,), thick=4)
    both = torch.cat([upright, 0.5 * upright.mT], dim=1)
    entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2)) / math.log(8)
    assert orientation_entropy(both).item() == pytest.approx(entropy)


def test_all_directions_have_all_entropy() -> None:
    rows, columns = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    disc = torch.exp(-(rows.square() + columns.square()) / 200)[None, None]
    assert orientation_entropy(disc).item() == pytest.approx(1, abs=0.01)
    assert orientation_entropy(noise(4)).min() > 0.99


def test_an_edge_that_is_nearly_level_has_the_direction_of_one_that_is() -> None:
    nearly = 0.9 * stripes((0.0,), (1.0,), thick=4) + 0.02 * noise(1, channels=1)
    assert orientation_entropy(nearly.mT).item() < 0.05
    assert orientation_entropy(nearly).item() < 0.05


def test_faint_patterns_count_as_much_as_strong_ones() -> None:
    maps = smooth(noise(3)).double()
    for figure in (spatial_frequency, orientation_entropy):
        assert figure(0.5 + 1e-4 * maps).tolist() == pytest.approx(figure(maps).tolist())


@pytest.mark.parametrize("figure", FIGURES)
def test_turning_mirroring_and_negatives_change_nothing(figure: Any) -> None:
    # Not square, and lopsided: nothing that looks the same when turned.
    maps = smooth(noise(3, height=24, width=17)) * torch.linspace(0.2, 1, 13)
    maps[:, 0] += 0.5 * maps[:, 0].roll(1, dims=-2)
    expected = figure(maps).tolist()
    assert len(set(expected)) == 3
    for same in (maps.mT, maps.rot90(1, (2, 3)), maps.flip(2), maps.flip(3), 1 - maps):
        assert figure(same).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("figure", FIGURES)
def test_half_precision_is_enough_and_maps_do_not_mind_each_other(figure: Any) -> None:
    maps = smooth(noise(4))
    each = [figure(map_[None]).item() for map_ in maps]
    assert figure(maps).tolist() == pytest.approx(each, rel=1e-12)
    assert figure(maps.half()).tolist() == pytest.approx(each, rel=1e-2)


def test_complexity_is_the_mean_of_each_over_the_maps() -> None:
    maps = torch.cat([stripes(RED, GREEN, thick=1), stripes(GREY, GREY, thick=1)])
    figures = complexity(maps)
    assert figures == pytest.approx(
        {"colour_variance": 0.25, "spatial_frequency": 8, "orientation_entropy": 0}
    )
    assert all(type(value) is float for value in figures.values())


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, list[str]]) -> Any:
    """The metrics of a network whose maps are, by neuron, waves of 1, 2, ... cycles."""
    maps = {}
    for layer, marks in flags.items():
        waves = torch.cat([wave(0, 1 + neuron) for neuron in range(len(marks))])
        maps[f"trained/{layer}"] = waves.expand(-1, 3, -1, -1).half().contiguous()
        maps[f"untrained/{layer}"] = wave(0, 8).repeat(len(marks), 3, 1, 1).half()
    rows = [
        {"layer": layer, "neuron": neuron, "flag": flag}
        for layer, marks in flags.items()
        for neuron, flag in enumerate(marks)
    ]
    (folder / "data/happymaps").mkdir(parents=True)
    save_file(maps, folder / "data/happymaps/toy.safetensors")
    pd.DataFrame(rows).to_csv(folder / "data/happymaps/toy.csv", index=False)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["complexity", "toy"])
    stage.main()
    return json.loads((folder / "metrics/complexity/toy.json").read_text())


def test_the_stage_leaves_out_the_dead_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not in the alphabet's order.
    flags = {"second": ["dead", "", "twin", "dead", "static"], "first": ["", ""]}
    metrics = run(tmp_path, monkeypatch, flags)
    assert list(metrics) == ["second", "first"]
    second = metrics["second"]
    names = ["colour_variance", "spatial_frequency", "orientation_entropy"]
    assert list(second) == ["neurons", "dead", *names, "untrained"]
    assert list(second["untrained"]) == names
    assert (second["neurons"], second["dead"]) == (5, 2)
    assert second["spatial_frequency"] == pytest.approx((2 + 3 + 5) / 3, rel=1e-3)
    assert second["untrained"]["spatial_frequency"] == pytest.approx(8, rel=1e-3)
    assert metrics["first"]["dead"] == 0
    assert metrics["first"]["spatial_frequency"] == pytest.approx(1.5, rel=1e-3)


def test_the_stage_draws_each_figure_over_the_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    monkeypatch.setattr(stage, "draw_curves", lambda path, panels, **_: drawn.update(panels))
    metrics = run(tmp_path, monkeypatch, {"b": ["", ""], "c": ["dead", ""], "a": [""]})
    figures = list(metrics["b"]["untrained"])
    for figure, (trained, untrained) in zip(figures, drawn.values(), strict=True):
        assert trained.at == untrained.at == ["b", "c", "a"]
        assert (trained.dashed, untrained.dashed) == (False, True)
        assert trained.values == [layer[figure] for layer in metrics.values()]
        assert untrained.values == [layer["untrained"][figure] for layer in metrics.values()]


def test_a_layer_of_dead_neurons_has_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = run(tmp_path, monkeypatch, {"one": [""], "two": ["dead", "dead"], "three": [""]})
    assert metrics["two"]["dead"] == 2
    assert metrics["two"]["spatial_frequency"] is None
    assert metrics["two"]["untrained"]["spatial_frequency"] == pytest.approx(8, rel=1e-3)
    with Image.open(tmp_path / "plots/complexity/toy.png") as picture:
        assert picture.width > 800
