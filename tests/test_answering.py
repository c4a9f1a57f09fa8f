import numpy as np
import pytest
import torch
from torch import Tensor

from happymaps.answering import answer, logits_of
from happymaps.networks import Network, build_network
from happymaps.params import POSES, Cifar10Params, NetworkParams
from toys import toy_faces, toy_objects

SIZE = 64  # of which two pixels are a thirty-second


def several(spec: NetworkParams, target: str) -> Network:
    channels = 3 if target == "object" else 1
    spec = spec.model_copy(update={"target": target, "test_time_augmentation": True})
    return build_network(spec, SIZE, channels, seed=0).eval()


def looks(images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each moved copy and its mirror image, in the plainest of ways."""
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    starts = [(2, 2), (0, 0), (0, 4), (4, 0), (4, 4)]
    parts = [padded[:, :, y : y + SIZE, x : x + SIZE] for y, x in starts]
    return [
        (torch.from_numpy(part.copy()), torch.from_numpy(part[..., ::-1].copy())) for part in parts
    ]


def test_ten_looks_by_hand_and_in_the_mirror_left_is_right(spec: NetworkParams) -> None:
    network, images = several(spec, "pose"), toy_faces(5, size=SIZE).images
    swapped = [POSES.index({"left": "right", "right": "left"}.get(pose, pose)) for pose in POSES]
    total = sum(
        logits_of(network, plain) + logits_of(network, mirrored)[:, swapped]
        for plain, mirrored in looks(images)
    )
    found = answer(network, images)
    torch.testing.assert_close(found, total / 10)
    # Whoever looks left in a picture looks right in its mirror image.
    torch.testing.assert_close(answer(network, images.flip(3)), found[:, swapped])
    assert not torch.allclose(found, logits_of(network, images), atol=1e-3)


def test_images_too_small_for_a_thirty_second_are_moved_by_a_pixel(spec: NetworkParams) -> None:
    ways = {"target": "pose", "test_time_augmentation": True, "padding": True}
    spec = spec.model_copy(update=ways)
    network, images = build_network(spec, 16, seed=0).eval(), toy_faces(5, size=16).images
    once = (logits_of(network, images) + logits_of(network, images.flip(3))[:, [0, 2, 1, 3]]) / 2
    assert not torch.allclose(answer(network, images), once, atol=1e-3)


def test_of_objects_no_class_becomes_another(spec: NetworkParams) -> None:
    network, images = several(spec, "object"), toy_objects(5, size=SIZE).images
    total = sum(logits_of(network, look) for pair in looks(images) for look in pair)
    torch.testing.assert_close(answer(network, images), total / 10)


def test_without_it_a_look_is_the_answer(spec: NetworkParams) -> None:
    network, images = build_network(spec, SIZE, seed=0), toy_faces(5, size=SIZE).images
    assert torch.equal(answer(network, images), logits_of(network, images))


@pytest.mark.parametrize("target", ["pose", "object"])
def test_nothing_is_answered_of_nothing(spec: NetworkParams, target: str) -> None:
    network = several(spec, target)
    channels = network.image_shape[0]
    none = torch.zeros(0, channels, SIZE, SIZE, dtype=torch.uint8)
    assert answer(network, none).shape == (0, len(network.spec.classes))


def test_the_fast_network_looks_ten_times(objects: Cifar10Params) -> None:
    assert [name for name, spec in objects.networks.items() if spec.test_time_augmentation] == [
        "fast"
    ]
