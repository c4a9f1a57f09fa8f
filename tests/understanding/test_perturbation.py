"""A patch at every place: what is computed fast must be what whole images give."""

import pytest
import torch
from torch import Tensor

from happymaps.networks import Network
from happymaps.params import NetworkParams
from happymaps.understanding import perturbation
from happymaps.understanding.layers import decision_scores
from happymaps.understanding.perturbation import mean_of_windows, patch_scores, window_starts
from toys import random_network, with_patch_everywhere

pytestmark = pytest.mark.usefixtures("one_thread")


def picture(network: Network, channels: int = 1) -> Tensor:
    return torch.rand(channels, network.image_size, network.image_size)


BLOCKS = {"filters": [[4, 5], [6]], "last_pool": True, "pool_dropout": 0.3}
CASES = {
    "as trained": (32, 1, 5, 1, {}),
    "odd": (31, 1, 3, 1, {}),
    "odd after the first pooling": (33, 1, 4, 1, {}),
    "odd, kernel 5": (41, 1, 3, 1, {"kernel": 5}),
    "even kernel": (30, 1, 3, 1, {"kernel": 2}),
    "kernel 1": (21, 1, 2, 1, {"kernel": 1}),
    "one convolution": (17, 1, 3, 1, {"filters": [4]}),
    "two convolutions": (23, 1, 3, 1, {"filters": [4, 6]}),
    "four convolutions": (48, 1, 2, 5, {"filters": [3, 4, 5, 6]}),
    "one pixel": (27, 1, 1, 1, {}),
    "no dense layer": (27, 1, 3, 1, {"dense": []}),
    "deeper": (27, 1, 3, 1, {"dense": [7, 6, 5]}),
    "four classes": (25, 1, 3, 1, {"target": "pose"}),
    "linear": (25, 1, 3, 1, {"head": "linear", "loss": "mean_squared_error"}),
    "colour": (29, 3, 4, 1, {}),
    "larger than a cell": (37, 1, 9, 1, {}),
    "stride that does not divide": (35, 1, 6, 4, {}),
    "stride above the patch": (30, 1, 2, 7, {}),
    "blocks": (36, 3, 4, 1, {"filters": [[4, 5], [6]]}),
    "a pool behind the last": (37, 3, 4, 1, BLOCKS),
    "odd before the last pool": (34, 3, 3, 2, BLOCKS | {"filters": [[4, 5], [6, 3]]}),
    "nearly all": (24, 1, 23, 1, {}),
    "larger than the image": (24, 1, 30, 1, {}),
}


@pytest.mark.parametrize(
    ("size", "channels", "side", "stride", "changes"), CASES.values(), ids=CASES
)
@pytest.mark.parametrize("way", ["parts", "wholes"])
def test_scores_are_those_of_whole_images(
    monkeypatch: pytest.MonkeyPatch,
    spec: NetworkParams,
    way: str,
    size: int,
    channels: int,
    side: int,
    stride: int,
    changes: dict[str, object],
) -> None:
    monkeypatch.setattr(perturbation, "_WORTHWHILE", torch.inf if way == "parts" else 0)
    monkeypatch.setattr(perturbation, "_CHUNK", 20_000)
    monkeypatch.setattr(perturbation, "_WEIGHTS", 10_000)
    network = random_network(spec, size, channels, **changes)
    image, patch = picture(network, channels), torch.rand(channels, side, side)
    scores = patch_scores(network, image, patch, stride)
    expected = with_patch_everywhere(network, image, patch, stride)
    assert scores.shape == expected.shape
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    if len(scores) > 1:
        # What the patch changes is far more than what may differ.
        assert expected.std() > 1e-3 * expected.abs().max()
        assert (scores - expected).abs().max() < 1e-2 * expected.std(dim=(0, 1)).min()


def test_a_small_patch_goes_the_fast_way_and_a_large_one_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, spec: NetworkParams
) -> None:
    network = random_network(spec, 64)
    taken = []
    for way in ("parts", "wholes"):
        real = getattr(perturbation, f"_logits_of_{way}")

        def watched(*given: object, way: str = way, real: object = real) -> object:
            taken.append(way)
            return real(*given)  # type: ignore[operator]

        monkeypatch.setattr(perturbation, f"_logits_of_{way}", watched)
    for side in (5, 56):
        patch_scores(network, picture(network), torch.rand(1, side, side), 8)
    assert taken == ["parts", "wholes"]


def test_a_patch_like_the_image_changes_nothing(spec: NetworkParams) -> None:
    network = random_network(spec, 32)
    image = torch.full((1, 32, 32), 0.5)
    scores = patch_scores(network, image, image[:, :4, :4], 1)
    unchanged = decision_scores(network, network.logits(image.unsqueeze(0)), "head")
    torch.testing.assert_close(scores, unchanged.expand_as(scores), rtol=1e-5, atol=1e-5)


def test_windows_begin_at_every_stride_until_the_border_is_covered() -> None:
    assert window_starts(10, 4, 3).tolist() == [0, 3, 6]
    assert window_starts(10, 4, 4).tolist() == [0, 4, 8]
    assert window_starts(10, 4, 1).tolist() == list(range(7))
    assert window_starts(10, 10, 3).tolist() == [0]
    assert window_starts(10, 15, 3).tolist() == [0]
    # The last would begin outside.
    assert window_starts(10, 2, 10).tolist() == [0]


@pytest.mark.parametrize(("side", "stride"), [(3, 1), (4, 3), (2, 5), (12, 1)])
def test_a_pixel_gets_the_mean_of_the_windows_that_cover_it(side: int, stride: int) -> None:
    height, width = 9, 11
    rows = window_starts(height, side, stride).tolist()
    columns = window_starts(width, side, stride).tolist()
    values = torch.rand(len(rows), len(columns))
    means = mean_of_windows(values, (height, width), side, stride)
    for y in range(height):
        for x in range(width):
            over = [
                values[i, j].item()
                for i, row in enumerate(rows)
                for j, column in enumerate(columns)
                if row <= y < row + side and column <= x < column + side
            ]
            assert means[y, x].item() == pytest.approx(sum(over) / len(over) if over else 0)
