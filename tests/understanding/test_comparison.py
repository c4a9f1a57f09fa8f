from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from happymaps.understanding.comparison import (
    Kind,
    Kinds,
    Side,
    _agreement,
    compare,
    published_claims,
    readability,
    static_shares,
    table_of,
)
from happymaps.understanding.neurons import are_static
from happymaps.understanding.similarity import gram


def side(seed: int, *, classes: tuple[str, ...] = ("not left", "left"), hidden: int = 5) -> Side:
    """A network that has drawn, answered and felt at random."""
    generator = torch.Generator().manual_seed(seed)
    maps = {
        "conv2d_1": torch.rand(4, 1, 16, 16, generator=generator),
        "dense_1": torch.rand(hidden, 1, 16, 16, generator=generator),
        "dense_2": torch.rand(len(classes), 1, 16, 16, generator=generator),
    }
    predicted = torch.randint(len(classes), (60,), generator=generator)
    return Side(
        classes=classes,
        decision_layer="dense_2",
        maps=maps,
        grams={layer: gram(torch.rand(60, 7, generator=generator)) for layer in maps},
        predicted={"cmu_test": predicted.numpy()},
        said_left={"cmu_test": (predicted == classes.index("left")).numpy()},
    )


def kinds(seed: int, trained: Side | None = None, **changes: Any) -> Kinds:
    return {
        "trained": trained or side(seed, **changes),
        "untrained": side(seed + 1, **changes),
        "shuffled": side(seed + 2, **changes),
    }


def shuffled_neurons(one: Side) -> Side:
    """The same network with its inner neurons in another order: it has learned the same."""
    maps = dict(one.maps)
    for layer in ("conv2d_1", "dense_1"):
        order = torch.randperm(len(maps[layer]), generator=torch.Generator().manual_seed(9))
        maps[layer] = maps[layer][order]
    return replace(one, maps=maps)


def test_the_same_network_is_found_the_same_and_controls_are_not() -> None:
    one = side(0)
    found = compare(kinds(0, one), kinds(50, shuffled_neurons(one)))
    figures = [
        found["agreement"]["cmu_test"], found["decision_maps"], *found["layer_maps"].values(),
        *found["cka"].values(),
    ]  # fmt: skip
    assert set(found["layer_maps"]) == {"conv2d_1", "dense_1"}
    assert set(found["cka"]) == {"conv2d_1", "dense_1", "decision"}
    for figure in figures:
        assert figure["similarity"] == pytest.approx(1, abs=1e-4)
        assert figure["above_control"] > 0.2
        assert figure["above_control"] == pytest.approx(
            figure["similarity"] - max(figure["untrained"], figure["shuffled"])
        )


def test_two_networks_of_chance_are_no_more_alike_than_their_controls() -> None:
    found = compare(kinds(0), kinds(50))
    assert abs(found["decision_maps"]["above_control"]) < 0.2
    assert all(abs(one["above_control"]) < 0.2 for one in found["layer_maps"].values())
    assert all(abs(one["above_control"]) < 0.2 for one in found["cka"].values())


def test_a_control_is_the_mean_of_both_ways() -> None:
    one, other = kinds(0), kinds(50)
    found = compare(one, other)["agreement"]["cmu_test"]
    there = _agreement(one["trained"], other["untrained"], "cmu_test")
    back = _agreement(one["untrained"], other["trained"], "cmu_test")
    assert found["untrained"] == pytest.approx((there + back) / 2)


def test_all_answers_have_to_agree_where_classes_are_the_same() -> None:
    four = side(3, classes=("straight", "left", "right", "up"))
    never_left = replace(four, said_left={"cmu_test": np.zeros(60, bool)})
    straight, up = (
        replace(never_left, predicted={"cmu_test": np.full(60, number)}) for number in (0, 3)
    )
    two = side(0, classes=("left", "not left"))
    not_left = replace(two, predicted={"cmu_test": np.ones(60, int)}, said_left=straight.said_left)
    assert _agreement(straight, straight, "cmu_test") == 1
    assert _agreement(straight, up, "cmu_test") == 0
    assert _agreement(not_left, up, "cmu_test") == 1


def test_only_classes_and_layers_that_both_have_are_compared() -> None:
    four = side(3, classes=("straight", "left", "right", "up"), hidden=9)
    two = side(0)
    maps = dict(four.maps) | {"dense_2": torch.rand(4, 1, 16, 16)}
    maps["dense_2"][1] = two.maps["dense_2"][1]
    four = replace(four, maps=maps)
    found = compare(kinds(0, two), kinds(3, four, classes=four.classes, hidden=9))
    assert found["decision_maps"]["similarity"] == pytest.approx(1)
    flat_maps = {"conv2d_1": two.maps["conv2d_1"], "dense_1": two.maps["dense_2"]}
    flat = replace(two, decision_layer="dense_1", maps=flat_maps)
    found = compare(kinds(0, two), {"trained": flat, "untrained": flat, "shuffled": flat})
    assert set(found["layer_maps"]) == {"conv2d_1"}
    assert found["decision_maps"]["similarity"] == pytest.approx(1)


def test_readability_is_the_likeness_to_what_tells_a_class_apart() -> None:
    images = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
    images[:3, 0, :, :4] = 200
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    left = torch.zeros(1, 8, 8)
    left[:, :, :4] = 1
    assert readability(torch.stack([left, 1 - left]), images, labels) == pytest.approx(1)
    assert readability(torch.stack([1 - left, left]), images, labels) == pytest.approx(-1)
    stripes = torch.tensor([0.0, 1.0]).repeat(4).unsqueeze(1).expand(8, 8).unsqueeze(0)
    assert readability(torch.stack([left, stripes]), images, labels) == pytest.approx(0.5)
    # Of a class in their midst there is no image.
    maps = torch.stack([left, stripes, 1 - left])
    assert readability(maps, images, 2 * labels) == pytest.approx(1)
    assert readability(maps, images, 0 * labels) == 0


def metrics(complementarity: float) -> dict[str, Any]:
    decision = {"complementarity": complementarity, "untrained_complementarity": -0.5}
    return {"decision": decision}


def static(convolutions: float, **dense: float) -> dict[Kind, dict[str, float]]:
    trained = {"conv2d_1": convolutions, **dense}
    return {"trained": trained, "shuffled": dict.fromkeys(trained, 0.1)}


def pair(similarity: float, control: float) -> dict[str, Any]:
    figure = {"similarity": similarity, "untrained": control, "shuffled": control - 0.1,
              "above_control": similarity - control}  # fmt: skip
    return {"decision_maps": figure}


@pytest.mark.parametrize(
    ("softmax", "linear", "similarity", "ratio", "readable", "share", "holds"),
    [
        (-0.97, -0.2, 0.9, 50, 0.1, 0.4, True),
        (-0.6, -0.95, 0.5, 60, 0.45, 0.1, False),
    ],
)
def test_every_claim_can_hold_and_fail(
    softmax: float, linear: float, similarity: float, ratio: int, readable: float, share: float,
    holds: bool,
) -> None:  # fmt: skip
    names = ("experiment0", "fewer_filters", "deeper_dense", "wider_dense", "four_class",
             "no_dense", "linear_output")  # fmt: skip
    happymaps = {name: metrics(linear if name == "linear_output" else softmax) for name in names}
    pairs = {f"experiment0-{name}": pair(similarity, 0.4) for name in names[1:]}
    parameters = dict.fromkeys(names, 100) | {"fewer_filters": ratio}
    legible = dict.fromkeys(names, 0.5) | {"four_class": readable}
    shares = dict.fromkeys(names, static(share, dense_1=share))
    claims = published_claims(pairs, happymaps, parameters, legible, shares)
    assert len(claims) == 11
    assert {claim.holds for claim in claims} == {holds}
    assert [claim.control for claim in claims].count(None) == 1


def test_figures_and_controls_of_claims_by_hand() -> None:
    happymaps = {"experiment0": metrics(-1), "no_dense": metrics(-0.82), "four_class": metrics(0.3)}
    shares = {"experiment0": (0.1, 0.0), "no_dense": (0.4, 0.1), "four_class": (0.4, 0.2)}
    found = {"similarity": 0.9, "untrained": 0.1, "shuffled": 0.6, "above_control": 0.3}
    claims = published_claims(
        {"experiment0-no_dense": {"decision_maps": found}},
        happymaps,
        {},
        {"experiment0": 0.9, "four_class": 0.69},
        {
            name: {"trained": {"conv2d_1": share}, "shuffled": {"conv2d_1": control}}
            for name, (share, control) in shares.items()
        },
    )
    assert {one.claim: (one.figure, one.control, one.holds) for one in claims} == {
        "the two decision maps behind a softmax are complements": (
            pytest.approx(-0.91),
            -0.5,
            True,
        ),
        "no dense layer but the last learns the same": (0.9, 0.6, True),
        "the decision maps of four classes are hard to read": (0.69, 0.9, True),
        "many maps of convolutions are static": (pytest.approx(0.3), pytest.approx(0.1), True),
    }


@pytest.mark.parametrize(("figure", "holds"), [(-0.91, True), (-0.89, False)])
def test_complements_are_nearly_opposite(figure: float, holds: bool) -> None:
    shares = {"experiment0": static(0)}
    claim, _ = published_claims({}, {"experiment0": metrics(figure)}, {}, {}, shares)
    assert (claim.figure, claim.holds) == (figure, holds)


@pytest.mark.parametrize(("share", "holds"), [(0.2, False), (0.3, True)])
def test_many_is_a_quarter(share: float, holds: bool) -> None:
    shares = {"experiment0": static(share)}
    _, claim = published_claims({}, {"experiment0": metrics(0)}, {}, {}, shares)
    assert (claim.figure, claim.holds) == (share, holds)


def test_a_claim_knows_its_pair_in_whatever_order_the_networks_are() -> None:
    there, back = (
        published_claims({name: pair(0.9, 0.4)}, {}, {}, {}, {})
        for name in ("experiment0-no_dense", "no_dense-experiment0")
    )
    assert len(there) == 1
    assert back == there


def test_claims_on_networks_that_are_not_there_are_left_out() -> None:
    found = {"mine": metrics(0.5), "no_dense": metrics(-0.95)}
    figures = dict.fromkeys(found, 5), dict.fromkeys(found, 0.1)
    shares = {"mine": static(0), "no_dense": static(0.5)}
    claims = published_claims({}, found, *figures, shares)
    # The study knows nothing of "mine".
    assert [(claim.claim, claim.figure) for claim in claims] == [
        ("the two decision maps behind a softmax are complements", -0.95),
        ("many maps of convolutions are static", 0.5),
    ]
    assert claims[1].control == 0.1
    mine = {"mine": metrics(-0.95)}
    assert published_claims({}, mine, {"mine": 5}, {"mine": 0.1}, {"mine": static(0.5)}) == []


def test_static_shares_are_of_inner_layers_beside_the_untrained_maps() -> None:
    one, flat = side(0), torch.rand(4, 1, 16, 16)
    flat[0] = 0.5
    changed = replace(one, maps={**one.maps, "conv2d_1": flat})
    found = static_shares(changed, one)
    assert set(found) == {"conv2d_1", "dense_1"}
    assert found["conv2d_1"] == pytest.approx(
        are_static(flat, one.maps["conv2d_1"]).double().mean()
    )
    assert found["conv2d_1"] >= 0.25
    assert found["dense_1"] == 0


def test_a_table_is_symmetric_and_averages_over_layers() -> None:
    pairs: dict[str, dict[str, Any]] = {
        "a-b": {"cka": {"one": {"similarity": 0.2}, "two": {"similarity": 0.6}}},
        "a-c": {"cka": {"one": {"similarity": 0.1}}},
        "b-c": {"cka": {}},
    }
    table = table_of(["a", "b", "c"], pairs, "cka", "similarity")
    expected = [[np.nan, 0.4, 0.1], [0.4, np.nan, np.nan], [0.1, np.nan, np.nan]]
    np.testing.assert_allclose(table, expected)
