"""Whole training steps of experiment0: this project's loop beside Keras 3 on TensorFlow.

Keras compiles with XLA by default, which is what counts; without it is measured too, for both are
found in the field. All train the same architecture with the same loss, optimiser, batch size and
random images, on the CPU with the same number of threads. They take turns, each in a process of
its own, and the best of the rounds counts: what else the machine does can only slow a round down.
The medians stand beside it, for a framework may be fast in some processes only. Ours also brings
bytes to [0, 1] in each step, and shows its progress; Keras gets what is in [0, 1] and is silent.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

# `happymaps.py` in this folder, where Python looks first, would hide the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import (
    in_own_process,
    keras_network,
    keras_on_tensorflow,
    processor,
    was_one_side,
)
from happymaps.params import Params

RESULT = Path(__file__).with_suffix(".json")
WARM_UP, STEPS, ROUNDS = 10, 60, 7


def main() -> None:
    """Run both, or one of them in this process, and write the result beside this file."""
    params = Params.load()
    if was_one_side(__doc__, RUNS, params):
        return
    rounds: dict[str, list[float]] = {name: [] for name in RUNS}
    versions: dict[str, str] = {}
    for _ in range(ROUNDS):
        for name in RUNS:
            answer = in_own_process(__file__, name, params.threads)
            rounds[name].append(answer["images_per_second"])
            versions |= answer["versions"]
            print(f"{name}: {answer['images_per_second']:.1f} images/s")
    best = {name: max(figures) for name, figures in rounds.items()}
    median = {name: statistics.median(figures) for name, figures in rounds.items()}
    result = {
        "what": "whole training steps of experiment0, images per second",
        **{name: round(figure, 1) for name, figure in best.items()},
        "ratio": round(best["happymaps"] / best["keras_tensorflow"], 2),
        "ratio_without_xla": round(best["happymaps"] / best["keras_tensorflow_without_xla"], 2),
        "ratio_of_medians": round(median["happymaps"] / median["keras_tensorflow"], 2),
        "rounds": {name: [round(figure, 1) for figure in rounds[name]] for name in RUNS},
        "threads": params.threads,
        "batch_size": params.train.batch_size,
        "versions": versions,
        "processor": processor(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"ratio {result['ratio']}, written to {RESULT}")


def _images(params: Params) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """(N, H, W) uint8 images for the steps of one run, and a class for each."""
    generator = np.random.default_rng(params.seed)
    count = params.train.batch_size * STEPS
    size = params.crop.size
    images = generator.integers(0, 256, (count, size, size), dtype=np.uint8)
    return images, generator.integers(0, 2, count)


def _run_happymaps(params: Params) -> dict[str, Any]:
    import pandas as pd
    import torch

    from happymaps.datasets import LabelledImages
    from happymaps.devices import configure_torch
    from happymaps.networks import build_network
    from happymaps.training import fit

    configure_torch(params.threads)
    pixels, labels = _images(params)
    poses = np.where(labels, "left", "straight")
    truth = pd.DataFrame({"image": "", "left": labels, "pose": poses, "subject": ""})
    faces = LabelledImages(torch.from_numpy(pixels).unsqueeze(1), truth)
    warm_up = faces.subset(truth.index.to_series() < WARM_UP * params.train.batch_size)
    spec = params.networks["experiment0"].model_copy(update={"epochs": 1})
    network = build_network(spec, params.crop.size, seed=params.seed)
    # An epoch's look at the test part is no training step: one image keeps it out of the figure.
    watched = faces.subset(truth.index.to_series() < 1)
    for part in (warm_up, faces):
        start = time.perf_counter()
        fit(network, part, watched, params.train, seed=params.seed, log=lambda _: None)
        seconds = time.perf_counter() - start
    return {"images_per_second": len(faces) / seconds, "versions": {"torch": torch.__version__}}


def _run_keras(params: Params, jit_compile: str | bool = "auto") -> dict[str, Any]:
    keras, versions = keras_on_tensorflow(params.threads)
    keras.utils.set_random_seed(params.seed)
    spec = params.networks["experiment0"]
    model = keras_network(keras, spec, params.crop.size)
    optimizer = keras.optimizers.SGD(spec.learning_rate, momentum=spec.momentum)
    model.compile(
        optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit_compile
    )
    pixels, labels = _images(params)
    images = pixels[..., None].astype(np.float32) / 255
    batch = params.train.batch_size
    model.fit(images[: WARM_UP * batch], labels[: WARM_UP * batch], batch_size=batch, verbose=0)
    start = time.perf_counter()
    model.fit(images, labels, batch_size=batch, epochs=1, verbose=0)
    seconds = time.perf_counter() - start
    return {"images_per_second": len(images) / seconds, "versions": versions}


def _run_keras_without_xla(params: Params) -> dict[str, Any]:
    return _run_keras(params, jit_compile=False)


RUNS = {
    "happymaps": _run_happymaps,
    "keras_tensorflow": _run_keras,
    "keras_tensorflow_without_xla": _run_keras_without_xla,
}

if __name__ == "__main__":
    main()
