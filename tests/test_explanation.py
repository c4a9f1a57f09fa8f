import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from happymaps.datasets import to_input
from happymaps.errors import InputError
from happymaps.explanation import (
    Explanation,
    Failures,
    describe,
    draw_explanations,
    explain,
    read_failures,
)
from happymaps.figures import heat, zoom_of
from happymaps.networks import Network, build_network
from happymaps.params import AttributionsParams, LimeParams, NetworkParams, Params
from happymaps.understanding.attributions import attribute
from toys import toy_faces

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32


@pytest.fixture
def network(spec: NetworkParams) -> Network:
    return build_network(spec, SIZE, seed=3).eval()


@pytest.fixture
def few(params: Params) -> AttributionsParams:
    lime = LimeParams(superpixels=9, samples=20)
    methods = ["saliency", "integrated_gradients", "lime"]
    return params.attributions.model_copy(update={"methods": methods, "lime": lime})


@pytest.fixture
def explained() -> Explanation:
    """Made by hand: everything speaks for the answer in one map, and against it in the other."""
    image = torch.from_numpy(np.arange(SIZE**2, dtype=np.uint8).reshape(1, SIZE, SIZE) // 8)
    slope = np.linspace(0, 1, SIZE**2, dtype=np.float32).reshape(SIZE, SIZE)
    return Explanation(image, "left", 0.75, {"saliency": slope, "lime": -slope})


def test_each_image_gets_its_answer_and_a_map_by_every_method_and_control(
    network: Network, few: AttributionsParams
) -> None:
    images = toy_faces(6).images
    outputs = network(to_input(images)).detach()
    found = explain(network, images, few, seed=1)
    assert len(found) == 6
    assert len({one.prediction for one in found}) == 2  # the toys see both answers
    for row, one in enumerate(found):
        answer = int(outputs[row].argmax())
        assert torch.equal(one.image, images[row])
        assert one.prediction == network.spec.classes[answer]
        assert one.confidence == pytest.approx(float(outputs[row, answer]), abs=1e-6)
        assert list(one.maps) == ["saliency", "integrated_gradients", "lime", "random", "edges"]
        for method, values in one.maps.items():
            classes = torch.tensor([answer])
            alone = to_input(images[row : row + 1])
            expected = attribute(method, network, alone, classes, few, seed=1)
            close = np.isclose(values, expected[0], atol=1e-5)
            # Of a bare gradient rounding decides some pixels: which of two in a pool is the larger.
            assert close.mean() > 0.9 if method == "saliency" else close.all()
            assert values.shape == (SIZE, SIZE)


def test_another_seed_changes_what_is_drawn_at_random_and_nothing_else(
    network: Network, few: AttributionsParams
) -> None:
    image = toy_faces(1).images
    (first,), (again,), (other,) = (explain(network, image, few, seed) for seed in (1, 1, 2))
    for method in first.maps:
        assert np.array_equal(first.maps[method], again.maps[method])
        same = np.array_equal(first.maps[method], other.maps[method])
        assert same == (method not in ("lime", "random"))


def test_no_images_give_no_explanations(network: Network, few: AttributionsParams) -> None:
    assert explain(network, torch.zeros(0, 1, SIZE, SIZE, dtype=torch.uint8), few, seed=0) == []


# --- what failed


def test_failures_name_the_audits_that_a_method_failed(tmp_path: Path) -> None:
    audit = tmp_path / "tiny.json"
    passed, failed = {"passes": True}, {"passes": False}
    beats, loses = {"beats_random": True}, {"beats_random": False}
    figures = {
        "sanity": {"good": passed, "insane": failed, "useless": passed, "both": failed},
        "faithfulness": {"good": beats, "insane": beats, "useless": loses, "both": loses},
    }
    audit.write_text(json.dumps(figures))
    assert read_failures(audit, list(figures["sanity"])) == {
        "insane": "sanity",
        "useless": "faithfulness",
        "both": "sanity and faithfulness",
    }


def test_what_was_not_tested_has_not_passed(tmp_path: Path) -> None:
    audit = tmp_path / "tiny.json"
    audit.write_text(json.dumps({"sanity": {"lime": {"passes": True}}, "faithfulness": {}}))
    assert read_failures(audit, ["lime", "newer"]) == {
        "lime": "faithfulness",
        "newer": "sanity and faithfulness",
    }


def test_a_network_without_an_audit_has_no_failures_to_tell(tmp_path: Path) -> None:
    assert read_failures(tmp_path / "none.json", ["lime"]) is None


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", "{}", '{"sanity": [], "faithfulness": []}',
     '{"sanity": {"lime": {}}, "faithfulness": {}}', '{"sanity": {"lime": 1}, "faithfulness": {}}'],
)  # fmt: skip
def test_a_file_that_is_no_audit_is_named(tmp_path: Path, content: str) -> None:
    audit = tmp_path / "tiny.json"
    audit.write_text(content)
    with pytest.raises(InputError, match=r"tiny\.json: not an audit's metrics"):
        read_failures(audit, ["lime"])


# --- figures


def test_a_map_is_described_by_its_peak_and_a_grid_of_means(explained: Explanation) -> None:
    values = np.zeros((SIZE, SIZE), np.float32)
    values[4:8, 8:12] = -2  # a whole cell
    values[12, 20] = 8  # a sixteenth of one: the largest value, but not the largest mean
    values[20, 2] = -10  # larger, but it speaks against the answer
    found = describe(replace(explained, maps={"lime": values}), None)
    expected = np.zeros((8, 8))
    expected[1, 2], expected[3, 5], expected[5, 0] = -1, 0.25, -0.3125
    assert (found["prediction"], found["confidence"]) == ("left", 0.75)
    assert found["methods"] == {"lime": {"peak": [12, 20], "grid": expected.tolist()}}


@pytest.mark.parametrize("value", [0.0, 1e-30, -3.0])
def test_a_flat_map_is_described_by_finite_figures(explained: Explanation, value: float) -> None:
    flat = np.full((SIZE, SIZE), value, np.float32)
    found = describe(replace(explained, maps={"lime": flat}), None)
    grid = found["methods"]["lime"]["grid"]
    assert {cell for line in grid for cell in line} == {math.copysign(value != 0, value)}
    # What nothing speaks for has no most important place.
    assert found["methods"]["lime"]["peak"] == ([0, 0] if value > 0 else None)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        (None, {"saliency": {}, "lime": {}}),
        ({}, {"saliency": {"failed": None}, "lime": {"failed": None}}),
        ({"lime": "sanity"}, {"saliency": {"failed": None}, "lime": {"failed": "sanity"}}),
    ],
)
def test_failed_is_there_only_for_an_audited_network(
    explained: Explanation, failures: Failures | None, expected: dict[str, Any]
) -> None:
    methods = describe(explained, failures)["methods"]
    assert {
        method: {key: value for key, value in found.items() if key == "failed"}
        for method, found in methods.items()
    } == expected


# --- the sheet


def sheet(path: Path, explanation: Explanation | None, failures: Failures | None) -> Any:
    draw_explanations(path, "why", [("one.png", explanation)], failures)
    with Image.open(path) as drawn:
        return np.asarray(drawn.convert("RGB"))


def place_of(image: Any, drawn: Any) -> list[int]:
    """Row and column where a sheet shows an image, enlarged like all of them."""
    zoom = zoom_of(SIZE)
    enlarged = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
    height, width, _ = enlarged.shape
    lines = np.lib.stride_tricks.sliding_window_view(drawn, (1, width, 3))[:, :, 0, 0]
    candidates = np.argwhere((lines == enlarged[0]).all(axis=(2, 3))).tolist()
    (place,) = [
        [row, column]
        for row, column in candidates
        if np.array_equal(drawn[row : row + height, column : column + width], enlarged)
    ]
    return place


def test_the_sheet_shows_the_image_and_every_map_over_it(
    tmp_path: Path, explained: Explanation
) -> None:
    drawn = sheet(tmp_path / "a.png", explained, {})
    grey = explained.image[0].numpy()
    plain = np.stack([grey] * 3, axis=2)
    shade = to_input(explained.image[None])[0].numpy()
    places = []
    for image in (plain, *(heat(shade, values) for values in explained.maps.values())):
        places.append(place_of(image, drawn))
    assert len({row for row, _ in places}) == 1
    assert places == sorted(places)


def test_the_same_explanation_gives_the_same_bytes(tmp_path: Path, explained: Explanation) -> None:
    other = replace(explained, confidence=0.5)
    for name, one in (("a", explained), ("b", explained), ("c", other)):
        sheet(tmp_path / f"{name}.png", one, None)
    first, again, changed = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == again
    assert first != changed


def test_what_failed_is_marked_at_its_own_map_only(tmp_path: Path, explained: Explanation) -> None:
    clean = sheet(tmp_path / "a.png", explained, {})
    marked = sheet(tmp_path / "b.png", explained, {"lime": "sanity"})
    columns = np.flatnonzero((clean != marked).any(axis=(0, 2)))
    assert len(columns)
    shade = to_input(explained.image[None])[0].numpy()
    _, left = place_of(heat(shade, explained.maps["lime"]), clean)
    assert columns.min() >= left  # the third and last image of the row
    unknown = sheet(tmp_path / "c.png", explained, None)
    assert unknown.shape != clean.shape  # as wide as its title, which is another


def test_a_row_without_an_explanation_is_its_title_alone(tmp_path: Path) -> None:
    assert (sheet(tmp_path / "a.png", None, None) < 128).any()
