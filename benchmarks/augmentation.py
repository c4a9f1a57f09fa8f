"""What changing training images costs: a part of the generalist's training steps.

Images are random, of the real size, with a head in the middle of each. All of them look straight
ahead, so all may be turned, which costs most; OpenCV, which turns them, takes all cores. As many
batches are changed as steps are trained. The two take turns, and the best of the rounds counts:
what else the machine does can only slow a round down.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

# `happymaps.py` in this folder, where Python looks first, would hide the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import processor
from happymaps.augmentation import Augmenter
from happymaps.datasets import LabelledImages, to_input
from happymaps.devices import configure_torch
from happymaps.images.boxes import Box
from happymaps.networks import add_batch_norm, build_network
from happymaps.params import NetworkParams, Params

RESULT = Path(__file__).with_suffix(".json")
IMAGES, STEPS, ROUNDS = 512, 40, 7


def main() -> None:
    """Measure, and write the result beside this file."""
    params = Params.load()
    configure_torch(params.threads)
    spec, size, batch = params.networks["generalist"], params.crop.size, params.train.batch_size
    rng = np.random.default_rng(params.seed)
    pixels = torch.from_numpy(rng.integers(0, 256, (IMAGES, 1, size, size), dtype=np.uint8))
    truth = pd.DataFrame({"image": "", "left": 0, "pose": "straight", "subject": ""}, range(IMAGES))
    head = Box(size // 4, size // 4, 3 * size // 4, 3 * size // 4)
    augment = Augmenter(LabelledImages(pixels, truth), [head] * IMAGES, spec.augment, params.seed)
    rows = torch.arange(batch)
    step = _training_step(spec, pixels[:batch], params)
    sides = {"augmentation": lambda: augment(rows, rng), "training_step": step}
    rounds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            rounds[name].append(_milliseconds(side))
            print(f"{name}: {rounds[name][-1]:.1f} ms a batch")
    best = {name: round(min(figures), 2) for name, figures in rounds.items()}
    result = {
        "what": f"milliseconds for {batch} images",
        **best,
        "ratio": round(best["augmentation"] / best["training_step"], 3),
        "rounds": {name: [round(one, 2) for one in figures] for name, figures in rounds.items()},
        "threads": params.threads,
        "processor": processor(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"ratio {result['ratio']}, written to {RESULT}")


def _training_step(spec: NetworkParams, pixels: Tensor, params: Params) -> Callable[[], object]:
    """A step of the generalist's training on images that are not changed."""
    network = build_network(spec, params.crop.size, seed=params.seed)
    add_batch_norm(network)
    optimizer = torch.optim.SGD(network.parameters(), spec.learning_rate, spec.momentum)
    labels = torch.arange(len(pixels)) % len(spec.classes)

    def step() -> None:
        loss = nn.functional.cross_entropy(network.logits(to_input(pixels)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _milliseconds(side: Callable[[], object]) -> float:
    side()
    start = time.perf_counter()
    for _ in range(STEPS):
        side()
    return (time.perf_counter() - start) / STEPS * 1000


if __name__ == "__main__":
    main()
