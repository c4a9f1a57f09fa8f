"""Which images the stage `audit` explains, and with which masks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from happymaps.datasets import LabelledImages
from happymaps.networks import Network
from happymaps.params import NetworkParams, Params
from happymaps.stages.audit import _audit_explanations, _load_cast, _to_explain, in_turns
from happymaps.stages.layout import CAST
from toys import by_hand, toy_faces


def test_kinds_take_turns_as_long_as_there_are_some() -> None:
    rows = np.array([9, 4, 7, 1, 8, 2, 5])
    kinds = np.array([0, 0, 0, 2, 0, 1, 2])
    assert in_turns(rows, kinds).tolist() == [9, 1, 2, 4, 5, 7, 8]
    assert in_turns(rows[:0], kinds[:0]).tolist() == []


@pytest.fixture
def detailed(spec: NetworkParams) -> tuple[Network, LabelledImages]:
    """A network that says left where there are fine checks in a corner, and images.

    Of every three: right by its detail, right without any, wrong by its detail.
    """
    size, corner = 24, 6
    checks = torch.zeros(size, size)
    checks[:corner, :corner] = torch.tensor([1.0, -1.0]).repeat(corner // 2)
    checks[1:corner:2] *= -1
    network = by_hand(spec, {"left": checks}, bias=-5, size=size)
    images = torch.full((30, 1, size, size), 128, dtype=torch.uint8)
    images[0::3] = images[2::3] = (127.5 + 127.5 * checks).to(torch.uint8)
    poses = ["left", "up", "up"] * 10
    truth = toy_faces(30).truth.assign(pose=poses, left=[int(pose == "left") for pose in poses])
    return network, LabelledImages(images, truth)


def test_right_answers_are_explained_that_detail_decides(
    detailed: tuple[Network, LabelledImages],
    params: Params,
    capsys: pytest.CaptureFixture[str],
) -> None:
    all_of_them = params.audit.model_copy(update={"images": 30})
    found, testable = _to_explain(*detailed, params.model_copy(update={"audit": all_of_them}))
    assert testable
    assert capsys.readouterr().out.startswith("note: 10 images to test explanations on; of fewer")
    assert sorted(found.truth.index) == list(range(0, 30, 3))


def test_where_detail_decides_no_right_answer_some_of_all_are_explained_in_turns(
    detailed: tuple[Network, LabelledImages],
    params: Params,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network, faces = detailed
    # Right without any detail, and two that are wrong by it.
    some = faces.take(np.array([*range(1, 30, 3), 2, 5]))
    few = {"images": 4, "randomised": 1, "random_networks": 12, "steps": 4}
    small = params.model_copy(
        update={
            "audit": params.audit.model_copy(update=few),
            "attributions": params.attributions.model_copy(update={"methods": ["saliency"]}),
        }
    )
    found, testable = _to_explain(network, some, small)
    assert not testable
    assert capsys.readouterr().out.startswith("note: no image to test explanations on; of fewer")
    assert len(found) == 4
    assert {2, 5} < set(found.truth.index)
    figures, _, _ = _audit_explanations(network, some, small, tmp_path)
    assert figures["by_class"] == {"not left": 2, "left": 2}
    assert figures["faithfulness"] == {}


def test_every_method_is_tested_on_the_images_that_are_explained(
    detailed: tuple[Network, LabelledImages], params: Params, tmp_path: Path
) -> None:
    few = {"images": 4, "randomised": 1, "random_networks": 12, "steps": 4}
    small = params.model_copy(
        update={
            "audit": params.audit.model_copy(update=few),
            "attributions": params.attributions.model_copy(update={"methods": ["saliency"]}),
        }
    )
    figures, explained, maps = _audit_explanations(*detailed, small, tmp_path)
    assert figures["images"] == len(explained) == 4
    assert figures["by_class"] == {"not left": 0, "left": 4}
    for kind in ("faithfulness", "sanity"):
        assert set(figures[kind]) == set(maps) == {"saliency", "random", "edges"}
    deletion = {name: one["deletion"] for name, one in figures["faithfulness"].items()}
    assert deletion["saliency"] < deletion["random"]


def test_every_head_of_the_cast_has_its_own_mask(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    CAST.mkdir(parents=True)
    # The n-th picture is as bright as its mask is large: n.
    numbers = np.arange(40, dtype=np.uint8)[:, None, None]
    np.save(CAST / "plain.npy", np.broadcast_to(numbers, (40, 8, 8)))
    np.save(CAST / "plain_masks.npy", np.arange(64).reshape(8, 8) < numbers)
    toy_faces(40).truth.to_csv(CAST / "truth.csv", index=False)
    few = params.audit.model_copy(update={"images": 20})
    cast, masks = _load_cast(params.model_copy(update={"audit": few}), "plain")
    assert len(cast) == 10
    assert masks.sum(dim=(1, 2)).tolist() == cast.images[:, 0, 0, 0].tolist()
