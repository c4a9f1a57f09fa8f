"""Small faces drawn on the spot, and cropped, for tests of several rooms."""

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch

from happymaps.datasets import LabelledImages
from happymaps.devices import configure_torch
from happymaps.images.boxes import Box
from happymaps.images.crop import cut_out, part_of
from happymaps.images.decode import Grey
from happymaps.images.faces import find_face
from happymaps.networks import Network, build_network
from happymaps.params import OBJECTS, CropMethod, CropParams, NetworkParams, TrainParams
from happymaps.training import Epoch, fit
from happymaps.understanding.layers import decision_scores

ROOT = Path(__file__).parents[1]

takes_any_name = pytest.mark.skipif(
    sys.platform == "darwin", reason="disks there take UTF-8 only and tell no capitals"
)


def crop_params(size: int, resample: str = "area", margin: float = 0.0) -> CropParams:
    return CropParams.model_validate(
        {
            "size": size,
            "resample": resample,
            "cmu_faces": "stretch",
            "recordings": "square",
            "youtube_faces": "square",
            "facial_expressions": "square",
            "face_margin": margin,
        }
    )


def crop(picture: Grey, method: CropMethod, params: CropParams) -> Grey:
    """A picture by itself, as the pipeline crops it."""
    face = find_face(picture) if method == "face" else None
    return cut_out(picture, part_of(picture.shape, face, method, params), params)


def toy_faces(count: int, *, size: int = 32, seed: int = 0) -> LabelledImages:
    """Noise with one bright spot, whose corner tells the pose: a task that a tiny CNN can learn."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 60, (count, 1, size, size), dtype=np.uint8)
    poses = np.array(["straight", "left", "right", "up"])[generator.integers(0, 4, count)]
    half = size // 2
    corners = {"straight": (0, 0), "left": (0, half), "right": (half, 0), "up": (half, half)}
    for image, pose in zip(images, poses, strict=True):
        row, column = corners[pose]
        image[0, row + 4 : row + 12, column + 4 : column + 12] = 230
    truth = pd.DataFrame(
        {
            "image": [f"{number:06d}.png" for number in range(count)],
            "left": (poses == "left").astype(np.int64),
            "pose": poses,
            "subject": [f"person{number % 4}" for number in range(count)],
        }
    )
    return LabelledImages(torch.from_numpy(images), truth)


def toy_objects(count: int, *, size: int = 32, seed: int = 0) -> LabelledImages:
    """Dark noise with a bright spot whose colour and place tell which of the ten objects it is."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 60, (count, 3, size, size), dtype=np.uint8)
    kinds = np.arange(count) % len(OBJECTS)
    half = size // 2
    for image, kind in zip(images, kinds.tolist(), strict=True):
        row, column = half * (kind // 5), half * (kind % 2)
        colour = np.array([kind % 5 != 0, kind % 5 in (0, 1, 2), kind % 5 in (0, 2, 4)])
        image[colour, row + 4 : row + 12, column + 4 : column + 12] = 230
    names = [f"drawn/{number:04d}" for number in range(count)]
    truth = pd.DataFrame({"image": names, "object": np.array(OBJECTS)[kinds]})
    return LabelledImages(torch.from_numpy(images), truth)


def by_hand(
    spec: NetworkParams,
    weights: Mapping[str, torch.Tensor],
    bias: float = 0.0,
    size: int = 32,
    **changes: str,
) -> Network:
    """Each class's logit is its (size, size) weights times the image; `bias` is added to left."""
    spec = spec.model_copy(update={"filters": [1], "kernel": 1, "dense": [], **changes})
    network = Network(spec, size).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.get_parameter("conv2d_1.weight")[0] = 1
        for name, weight in weights.items():
            number = spec.classes.index(name)
            network.get_parameter("dense_1.weight")[number] = weight.flatten()
        network.get_parameter("dense_1.bias")[spec.classes.index("left")] = bias
    return network


def answers_left(spec: NetworkParams, weight: torch.Tensor, threshold: float) -> Network:
    """Says left where the mean image, weighted with (size, size), is above the threshold."""
    share = 100 * weight / weight.sum()
    return by_hand(spec, {"left": share}, -100 * threshold, len(weight))


def train(
    spec: NetworkParams,
    *,
    train_part: LabelledImages | None = None,
    watched: LabelledImages | None = None,
    heads: list[Box | None] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    precision: Literal["float32", "mixed"] = "float32",
    checkpoint: Path | None = None,
    stop_after: int | None = None,
) -> tuple[Network, list[Epoch]]:
    """Train, by default on toy faces; `stop_after` raises as a kill between epochs would."""
    history: list[Epoch] = []

    def log(epoch: Epoch) -> None:
        history.append(epoch)
        if epoch.number == stop_after:
            raise KeyboardInterrupt

    configure_torch(1)
    learned = toy_faces(96) if train_part is None else train_part
    network = build_network(spec, 32, learned.images.shape[1], seed=seed)
    fit(
        network,
        learned,
        toy_faces(16, seed=1) if watched is None else watched,
        TrainParams(batch_size=batch_size, precision=precision),
        seed=seed,
        log=log,
        heads=heads,
        checkpoint=checkpoint,
        progress=False,
    )
    return network, history


def random_network(
    spec: NetworkParams, size: int = 32, channels: int = 1, **changes: object
) -> Network:
    torch.manual_seed(0)
    network = Network(spec.model_copy(update=changes), size, channels).eval()
    for parameter in network.parameters():
        # Large enough for a patch to matter in the end, and biases that silence some neurons.
        torch.nn.init.normal_(parameter, std=2 / parameter[0].numel() ** 0.5)
    return network


@torch.no_grad()
def with_patch_everywhere(
    network: Network, image: torch.Tensor, patch: torch.Tensor, stride: int
) -> torch.Tensor:
    """What `perturbation.patch_scores` gives, of one changed image after the other, each whole."""
    side, size = patch.shape[-1], network.image_size
    starts = [0]
    while starts[-1] + side < size and starts[-1] + stride < size:
        starts.append(starts[-1] + stride)
    rows = []
    for row, column in itertools.product(starts, starts):
        changed = image.clone()
        window = changed[:, row : row + side, column : column + side]
        window.copy_(patch[:, : window.shape[1], : window.shape[2]])
        rows.append(network.logits(changed.unsqueeze(0)))
    scores = decision_scores(network, torch.cat(rows), "head")
    return scores.view(len(starts), len(starts), -1)


def same_weights(one: Network, other: Network) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
