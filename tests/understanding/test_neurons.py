import numpy as np
import pytest
import torch
from torch import Tensor

from happymaps.networks import Network, build_network
from happymaps.params import HappymapsParams, NetworkParams, Params
from happymaps.understanding.activation_maximization import HappyMaps, happy_maps
from happymaps.understanding.layers import activations, neuron_layer
from happymaps.understanding.neurons import (
    Neuron,
    judge,
    layer_figures,
    neuron_table,
    structure,
)
from happymaps.understanding.similarity import correlations
from toys import toy_faces

EVERYWHERE = torch.ones(6, dtype=torch.bool)


@pytest.fixture
def settings(params: Params) -> HappymapsParams:
    return params.happymaps.model_copy(update={"steps": 12, "examples": 3})


def patches(*corners: tuple[int, int]) -> Tensor:
    """Noise in one place each, and nothing elsewhere: maps of much structure."""
    maps = torch.full((len(corners), 1, 32, 32), 0.5)
    noise = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    for picture, (row, column) in zip(maps, corners, strict=True):
        picture[0, row : row + 8, column : column + 8] = noise
    return maps


def noise(count: int) -> Tensor:
    return torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def test_structure_is_where_the_detail_is() -> None:
    constant = torch.ones(1, 1, 32, 32)
    stripes = torch.tensor([0.0, 1.0]).repeat(16).expand(1, 1, 32, 32)
    one_patch, everywhere, none, regular = (
        structure(maps).item() for maps in (patches((4, 4)), noise(1), constant, stripes)
    )
    assert one_patch > 3 > 1 > everywhere > none == 0
    assert regular < 0.3


def test_structure_by_hand() -> None:
    """Of 64 cells one has detail d, the others none: mean d/64, so the ratio is sqrt(64)."""
    picture = torch.zeros(1, 1, 65, 65)
    picture[0, 0, 11, 11] = 1
    cells = np.zeros(64)
    cells[0] = 1
    assert structure(picture).item() == pytest.approx(cells.std(ddof=1) / cells.mean(), rel=1e-3)


def test_each_rule_finds_its_neuron_and_no_other() -> None:
    maps = patches((0, 0), (0, 16), (16, 0), (0, 16), (16, 16), (8, 8))
    maps[4] = 1.0  # all on
    real = torch.tensor([[3.0, 2.0, 0.0, 1.0, 1.0, 4.0], [0.0, 1.0, -1.0, 0.0, 5.0, 1.0]])
    reachable = EVERYWHERE.clone()
    reachable[5] = False
    assert judge(maps, reachable, real, noise(40), 0.9) == [
        Neuron(), Neuron(), Neuron("dead"), Neuron("twin", 1), Neuron("static"), Neuron("dead"),
    ]  # fmt: skip


def test_of_two_twins_the_one_that_images_like_more_stays() -> None:
    maps = patches((0, 0), (0, 0), (16, 16))
    weak_first = torch.tensor([[1.0, 2.0, 1.0]])
    assert [one.twin for one in judge(maps, EVERYWHERE[:3], weak_first, noise(40), 0.9)] == [
        1, None, None,
    ]  # fmt: skip
    strong_first = torch.tensor([[2.0, 1.0, 1.0]])
    assert [one.twin for one in judge(maps, EVERYWHERE[:3], strong_first, noise(40), 0.9)] == [
        None, 0, None,
    ]  # fmt: skip


def test_of_untrained_maps_few_are_static_and_none_are_twins() -> None:
    """The control: the rule says at most 5 in 100 of its own reference."""
    found = judge(
        noise(100), torch.ones(100, dtype=torch.bool), torch.ones(2, 100), noise(100), 0.9
    )
    assert [one.flag for one in found].count("static") == 4
    assert not [one for one in found if one.flag == "twin"]


@pytest.mark.parametrize("count", [1, 8, 16])
def test_in_a_small_layer_no_map_is_static_that_is_no_evener_than_all_untrained_ones(
    count: int,
) -> None:
    maps, everywhere = noise(count), torch.ones(count, dtype=torch.bool)
    found = judge(maps, everywhere, torch.ones(2, count), noise(count), 0.9)
    assert {one.flag for one in found} == {""}
    maps[0] = 0.5
    found = judge(maps, everywhere, torch.ones(2, count), noise(count), 0.9)
    assert found[0].flag == "static"


def network_with_flaws(spec: NetworkParams) -> Network:
    """dense_1: neuron 0 is dead, 1 and 2 want the same, the others something else."""
    network = build_network(spec, 32, seed=0).eval()
    layer = neuron_layer(network, "dense_1")
    with torch.no_grad():
        layer.weight[0], layer.bias[0] = 0, -1
        layer.weight[2] = 0.5 * layer.weight[1]
        layer.bias[1:] = 0.5
    return network


def test_a_dead_neuron_and_a_twin_built_by_hand_get_their_flags(
    spec: NetworkParams, settings: HappymapsParams
) -> None:
    network = network_with_flaws(spec)
    maps = happy_maps(network, "dense_1", settings, seed=0)
    real = activations(network, toy_faces(40).images, "mean", "head")["dense_1"]
    found = judge(maps.images, maps.reachable, real, noise(40), settings.twins)
    assert found[0] == Neuron("dead")
    assert found[2] == Neuron("twin", 1)
    assert [one.flag for one in found].count("twin") == 1


def test_the_table_says_what_is_known_of_each_neuron(
    spec: NetworkParams, settings: HappymapsParams
) -> None:
    network, faces = network_with_flaws(spec), toy_faces(20)
    maps = {layer: happy_maps(network, layer, settings, seed=0) for layer in ("dense_1", "dense_2")}
    real = activations(network, faces.images, "mean", "head")
    verdicts = {"dense_1": [Neuron("dead")] + [Neuron()] * 6 + [Neuron("twin", 3)]}
    table = neuron_table(network, maps, real, verdicts, faces, settings)
    assert table["layer"].tolist() == ["dense_1"] * 8 + ["dense_2"] * 2
    assert table["name"].tolist() == [""] * 8 + ["not left", "left"]
    assert table["twin_of"].dropna().tolist() == [3]
    row = table.iloc[5]
    order = real["dense_1"][:, 5].argsort(descending=True)[:3].tolist()
    assert row["examples"].split() == [f"{number:06d}.png" for number in order]
    assert [float(value) for value in row["liked"].split()] == pytest.approx(
        real["dense_1"][order, 5].tolist(), rel=1e-3
    )
    assert row["largest_real"] == real["dense_1"][:, 5].max().item()
    reached = activations(network, maps["dense_1"].images[5:6], "mean", "head")["dense_1"]
    assert row["activation"] == pytest.approx(reached[0, 5].item(), rel=1e-5)
    figures = layer_figures(table[table["layer"] == "dense_1"])
    live = table[(table["layer"] == "dense_1") & (table["largest_real"] > 0)]
    ratio = (live["activation"] / live["largest_real"]).median()
    assert figures == {
        "neurons": 8, "dead": 1, "static": 0, "twins": 1, "activation_ratio": pytest.approx(ratio),
    }  # fmt: skip


def test_a_layer_without_a_live_neuron_has_no_ratio(
    spec: NetworkParams, settings: HappymapsParams
) -> None:
    network = build_network(spec, 32, seed=0).eval()
    maps = {"dense_1": HappyMaps(noise(8), torch.ones(8, dtype=torch.bool))}
    real = {"dense_1": torch.zeros(20, 8)}
    verdicts = {"dense_1": [Neuron("dead")] * 8}
    table = neuron_table(network, maps, real, verdicts, toy_faces(20), settings)
    assert layer_figures(table)["activation_ratio"] is None


def test_a_negative_is_no_twin() -> None:
    (one,) = patches((4, 4))
    real = torch.tensor([[3.0, 2.0], [0.0, 2.0]])
    both = torch.ones(2, dtype=torch.bool)
    negative = judge(torch.stack([one, 1 - one]), both, real, noise(40), 0.9)
    assert negative == [Neuron(), Neuron()]
    again = judge(torch.stack([one, one]), both, real, noise(40), 0.9)
    # Who is more active at best stays.
    assert again == [Neuron(), Neuron("twin", 0)]


def test_how_alike_twins_are_is_up_to_who_asks() -> None:
    one, other = patches((4, 4), (16, 16))
    mixed = one + 0.7 * (other - 0.5)
    maps, real = torch.stack([one, mixed]), torch.tensor([[2.0, 1.0]])
    alike = correlations(maps[:1], maps[1:]).item()
    for twins, flag in ((alike - 0.01, "twin"), (alike + 0.01, "")):
        assert judge(maps, EVERYWHERE[:2], real, noise(40), twins)[1].flag == flag


def test_detail_counts_across_and_down_and_in_every_channel() -> None:
    upright = torch.full((1, 1, 32, 32), 0.5)
    upright[..., 4:12, 4:12:2] = 1  # stripes in one place
    assert structure(upright.mT).item() == pytest.approx(structure(upright).item())
    coloured = torch.cat([torch.full_like(upright, 0.5), upright], dim=1)
    assert structure(coloured).item() == pytest.approx(structure(upright).item())


def test_activations_of_the_table_are_by_what_the_maps_were_drawn_for(
    spec: NetworkParams, settings: HappymapsParams
) -> None:
    network, faces = network_with_flaws(spec), toy_faces(20)
    changed = settings.model_copy(update={"filters": "centre", "decision": "logit"})
    maps = {layer: happy_maps(network, layer, changed, seed=0) for layer in ("conv2d_1", "dense_2")}
    real = activations(network, faces.images, "centre", "logit")
    table = neuron_table(network, maps, real, {"conv2d_1": [Neuron()] * 4}, faces, changed)
    for layer, drawn in maps.items():
        reached = activations(network, drawn.images, "centre", "logit")[layer].diag()
        found = table["activation"][table["layer"] == layer]
        assert found.tolist() == pytest.approx(reached.tolist(), rel=1e-4)
