"""What the stage `happymaps` says and shows of single neurons, and how stable it finds maps."""

from typing import Any

import numpy as np
import pytest
import torch

from happymaps.networks import build_network
from happymaps.params import NetworkParams, Params
from happymaps.stages.happymaps import _liked_row, _seed_stability, caption
from happymaps.understanding.activation_maximization import happy_maps
from happymaps.understanding.similarity import mean_pairwise_correlation
from toys import toy_faces, toy_objects

pytestmark = pytest.mark.usefixtures("one_thread")


def neuron(**known: object) -> dict[str, Any]:
    plain = {"neuron": 7, "name": "", "activation": 12.345, "largest_real": 0.5, "flag": ""}
    return {**plain, "twin_of": None, "examples": "", "liked": "", **known}


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, "7: 12.3 / 0.5"),
        ({"name": "left"}, "left: 12.3 / 0.5"),
        ({"flag": "dead"}, "7: 12.3 / 0.5 dead"),
        ({"flag": "twin", "twin_of": 0}, "7: 12.3 / 0.5 twin of 0"),
    ],
)
def test_a_map_has_the_number_or_class_of_its_neuron_and_both_activations(
    known: dict[str, object], expected: str
) -> None:
    assert caption(neuron(**known)) == expected


@pytest.mark.parametrize("toys", [toy_faces, toy_objects])
def test_beside_a_map_are_the_images_that_its_neuron_likes_best(toys: Any) -> None:
    train = toys(5)
    names = train.truth["image"].tolist()
    position = {image: row for row, image in enumerate(names)}
    liking = neuron(examples=f"{names[3]} {names[1]}", liked="2 1.5")
    drawn = np.full((32, 32), 9, np.uint8)
    row = _liked_row(liking, drawn, position, train)
    assert row.captions == ["7: 12.3", "2", "1.5"]
    shown = train.images[[3, 1]].permute(0, 2, 3, 1).squeeze(-1).numpy()
    assert np.array_equal(row.images[0], drawn)
    assert all(map(np.array_equal, row.images[1:], shown))


def test_a_decision_is_as_stable_as_its_maps_from_all_seeds_are_alike(
    params: Params, spec: NetworkParams
) -> None:
    network = build_network(spec, 24, seed=0).eval()
    few = params.happymaps.model_copy(update={"steps": 2, "seeds": 3})
    study = params.model_copy(update={"happymaps": few, "seed": 5})
    maps = [happy_maps(network, "dense_2", few, seed=seed) for seed in (5, 6, 7)]
    classes = torch.stack([one.images for one in maps]).transpose(0, 1)
    expected = np.mean([mean_pairwise_correlation(images) for images in classes])
    assert _seed_stability(network, maps[0], study) == pytest.approx(expected, abs=1e-5)
