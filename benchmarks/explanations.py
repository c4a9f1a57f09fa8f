"""Explanations by hiding parts of an image: this project's beside Captum's and the lime package's.

All explain the same trained network's decisions on the same test images, on the CPU with the same
number of threads. They take turns, each in a process of its own, and the best of the rounds counts.

- Occlusion: the grey patch and the stride of params, the same for both. Captum's own default is
  one changed image at a time (`perturbations_per_eval=1`).
- Pixel importance: the small patch of noise of params. Captum knows no patch that takes its noise
  along, so it gets the noise tiled over the image: the same work, and nearly the same question.
- LIME: the same superpixels for all three, and samples for equally stable maps: 1000, the lime
  package's default, where they are drawn independently; ours, a balanced design, as in params.
  Captum's `Lime` (whose default of 25 samples gives maps that hardly agree between two seeds) and
  the package's `LimeImageExplainer` keep their defaults otherwise; among them are Captum's black
  baseline, its wider kernel and its Lasso, and the package's batches of 10. The package is asked
  for the one class that the others explain. It takes grey images as RGB, of which the network then
  gets one channel. Making the superpixels is in our time, and in no one else's.

Maps are compared by Pearson's correlation: those of two sides on the same image, and, as
stability, those of one side's LIME from several seeds. `stability_by_samples` is ours with other
numbers of samples, and what they cost.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# `happymaps.py` in this folder, where Python looks first, would hide the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import in_own_process, processor, was_one_side
from happymaps.datasets import load_parts, to_input
from happymaps.devices import configure_torch
from happymaps.networks import Network, load_network
from happymaps.params import Params
from happymaps.understanding.attributions import attribute, class_scores, superpixels

RESULT = Path(__file__).with_suffix(".json")
NETWORK = Path("data/models/experiment0.safetensors")
FACES, SPLIT = Path("data/processed/cmu_faces"), Path("data/processed/split.csv")
ROUNDS = 3
IMAGES, LIME_IMAGES, LIME_SEEDS = 4, 2, 3
SAMPLES_OF_OTHERS = 1000
SAMPLES, SAMPLES_IMAGES, SAMPLES_SEEDS = (64, 128, 256, 512), 4, 4
GREY = 0.5

SEEDS = {"occlusion": 1, "pixel_importance": 1, "lime": LIME_SEEDS}
COUNTS = {"occlusion": IMAGES, "pixel_importance": 1, "lime": LIME_IMAGES}

# An image (1, C, H, W), its class and a seed -> its map (H, W).
Explain = Callable[[Tensor, int, int], Tensor]


def main() -> None:
    """Run all, or one of them in this process, and write the result beside this file."""
    params = Params.load()
    if was_one_side(__doc__, RUNS | {"stability_by_samples": _run_by_samples}, params):
        return
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
    for _ in range(ROUNDS):
        for name in RUNS:
            answers[name].append(in_own_process(__file__, name, params.threads))
            print(f"{name}: {answers[name][-1]['images_per_second']:.4f} images/s")
    result = _result(answers, params)
    by_samples = in_own_process(__file__, "stability_by_samples", params.threads)
    result["lime"]["stability_by_samples"] = by_samples
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"ratio {result['occlusion']['ratio']}, written to {RESULT}")


def _result(answers: dict[str, list[dict[str, Any]]], params: Params) -> dict[str, Any]:
    explain = params.attributions
    occlusion = _compared("occlusion", answers) | explain.occlusion.model_dump()
    importance = _compared("pixel_importance", answers) | explain.pixel_importance.model_dump()
    lime = _compared("lime", answers)
    lime["stability"] = {
        side: answers[f"lime_{side}"][0]["stability"]
        for side in ("happymaps", "captum", "lime_package")
    }
    return {
        "what": "explanations of experiment0's decisions, images per second",
        "occlusion": occlusion,
        "pixel_importance": importance,
        "lime": lime | explain.lime.model_dump() | {"samples_of_others": SAMPLES_OF_OTHERS},
        "image_size": params.crop.size,
        "threads": params.threads,
        "versions": {k: v for runs in answers.values() for k, v in runs[0]["versions"].items()},
        "processor": processor(),
    }


def _compared(method: str, answers: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Images per second of each side, ours over the best other's, and how alike the maps are."""
    sides = {
        name.removeprefix(f"{method}_"): runs
        for name, runs in answers.items()
        if name.startswith(method)
    }
    rounds = {side: [run["images_per_second"] for run in runs] for side, runs in sides.items()}
    best = {side: max(figures) for side, figures in rounds.items()}
    maps = {side: torch.tensor(runs[0]["maps"]) for side, runs in sides.items()}
    others = [side for side in sides if side != "happymaps"]
    alike = {side: round(_correlation(maps["happymaps"], maps[side]), 5) for side in others}
    return {
        **{side: round(figure, 4) for side, figure in best.items()},
        "ratio": round(best["happymaps"] / max(best[side] for side in others), 2),
        "correlation": alike[others[0]] if len(others) == 1 else alike,
        "rounds": {side: [round(figure, 4) for figure in rounds[side]] for side in sides},
        "images": len(maps["happymaps"]),
    }


def _correlation(some: Tensor, others: Tensor) -> float:
    """The mean over the images of Pearson's correlation of two sets of maps (N, H, W)."""
    pairs = zip(some.flatten(1), others.flatten(1), strict=True)
    return float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs]))


def _stability(maps: Tensor) -> float:
    """(seeds, N, H, W) -> the mean correlation of two seeds' maps of an image."""
    return float(np.mean([_correlation(*pair) for pair in combinations(maps, 2)]))


def _decisions(params: Params, count: int) -> tuple[Network, Tensor, list[int]]:
    """The network, (count, 1, H, W) images of the test part, and the classes that it answers."""
    configure_torch(params.threads)
    network = load_network(NETWORK).network
    test = load_parts(FACES, SPLIT, network.spec.crop)["test"].images
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(params.seed))
    images = to_input(test[order[:count]])
    with torch.inference_mode():
        # Both sizes of batch that are used: what a network does for the first time takes longer.
        class_scores(network, images[:1].expand(64, -1, -1, -1))
        class_scores(network, images[:1])
        classes = class_scores(network, images).argmax(dim=1).tolist()
    return network, images, classes


def _timed(
    explain: Explain, images: Tensor, classes: list[int], seeds: Sequence[int]
) -> dict[str, Any]:
    """Maps from the first seed, their stability over the seeds, and images per second."""
    start = time.perf_counter()
    asked = list(zip(images.split(1), classes, strict=True))
    maps = [[explain(image, number, seed) for image, number in asked] for seed in seeds]
    seconds = time.perf_counter() - start
    stacked = torch.stack([torch.stack(row) for row in maps]).float()
    return {
        "images_per_second": stacked.shape[0] * stacked.shape[1] / seconds,
        "maps": stacked[0].tolist(),
        "stability": round(_stability(stacked), 4) if len(seeds) > 1 else None,
    }


def _run_happymaps(params: Params, method: str) -> dict[str, Any]:
    network, images, classes = _decisions(params, COUNTS[method])

    def explain(image: Tensor, number: int, seed: int) -> Tensor:
        wanted = torch.tensor([number])
        return attribute(method, network, image, wanted, params.attributions, seed=seed)[0]

    # So that what it needs is imported.
    superpixels(images[0], params.attributions.lime.superpixels)
    answer = _timed(explain, images, classes, _seeds(params, SEEDS[method]))
    return answer | {"versions": {"torch": torch.__version__}}


def _run_captum_hiding(params: Params, method: str) -> dict[str, Any]:
    import captum
    from captum.attr import Occlusion

    network, images, classes = _decisions(params, COUNTS[method])
    settings = params.attributions.occlusion
    hidden: Tensor | float = GREY
    if method == "pixel_importance":
        settings = params.attributions.pixel_importance
        hidden = _tiled_noise(params, settings.patch)
    occlusion = Occlusion(lambda given: class_scores(network, given))

    def explain(image: Tensor, number: int, seed: int) -> Tensor:
        found: Tensor = occlusion.attribute(
            image,
            sliding_window_shapes=(1, settings.patch, settings.patch),
            strides=(1, settings.stride, settings.stride),
            baselines=hidden,
            target=number,
        )
        return found[0, 0]

    answer = _timed(explain, images, classes, _seeds(params, SEEDS[method]))
    return answer | {"versions": {"captum": captum.__version__}}


def _tiled_noise(params: Params, side: int) -> Tensor:
    """(1, 1, H, W): this project's patch of noise, over and over."""
    noise = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(params.seed))
    size = params.crop.size
    return noise.repeat(1, 1, size // side + 1, size // side + 1)[..., :size, :size]


def _run_captum_lime(params: Params) -> dict[str, Any]:
    import captum
    from captum.attr import Lime

    network, images, classes = _decisions(params, LIME_IMAGES)
    parts = _parts(params, images)
    method = Lime(lambda given: class_scores(network, given))

    def explain(image: Tensor, number: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        found: Tensor = method.attribute(
            image,
            target=number,
            feature_mask=parts[image.data_ptr()],
            n_samples=SAMPLES_OF_OTHERS,
        )
        return found[0, 0]

    answer = _timed(explain, images, classes, _seeds(params, LIME_SEEDS))
    return answer | {"versions": {"captum": captum.__version__}}


def _run_lime_package(params: Params) -> dict[str, Any]:
    from importlib.metadata import version

    from lime.lime_image import LimeImageExplainer

    network, images, classes = _decisions(params, LIME_IMAGES)
    parts = _parts(params, images)

    @torch.inference_mode()
    def scores_of(rgb: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        return class_scores(network, torch.from_numpy(rgb[..., 0]).unsqueeze(1)).numpy()

    def explain(image: Tensor, number: int, seed: int) -> Tensor:
        segments = parts[image.data_ptr()]
        explanation = LimeImageExplainer(random_state=seed).explain_instance(
            image[0, 0].numpy(),
            scores_of,
            labels=(number,),
            top_labels=None,
            num_samples=SAMPLES_OF_OTHERS,
            segmentation_fn=lambda _: segments.numpy(),
        )
        weights = torch.zeros(int(segments.max()) + 1, dtype=torch.float64)
        for part, weight in explanation.local_exp[number]:
            weights[part] = weight
        return weights[segments]

    answer = _timed(explain, images, classes, _seeds(params, LIME_SEEDS))
    return answer | {"versions": {"lime": version("lime")}}


def _parts(params: Params, images: Tensor) -> dict[int, Tensor]:
    """The superpixels of each image, by where it lies in memory."""
    count = params.attributions.lime.superpixels
    return {image.data_ptr(): superpixels(image, count) for image in images}


def _run_by_samples(params: Params) -> dict[str, Any]:
    network, images, classes = _decisions(params, SAMPLES_IMAGES)
    found = {}
    for samples in SAMPLES:
        lime = params.attributions.lime.model_copy(update={"samples": samples})
        settings = params.attributions.model_copy(update={"lime": lime})
        start = time.perf_counter()
        maps = [
            attribute("lime", network, images, torch.tensor(classes), settings, seed=seed)
            for seed in _seeds(params, SAMPLES_SEEDS)
        ]
        seconds = time.perf_counter() - start
        found[str(samples)] = {
            "stability": round(_stability(torch.stack(maps)), 4),
            "images_per_second": round(SAMPLES_IMAGES * SAMPLES_SEEDS / seconds, 4),
        }
    return found


def _seeds(params: Params, count: int) -> range:
    return range(params.seed, params.seed + count)


RUNS: dict[str, Callable[[Params], dict[str, Any]]] = {
    "occlusion_happymaps": partial(_run_happymaps, method="occlusion"),
    "occlusion_captum": partial(_run_captum_hiding, method="occlusion"),
    "pixel_importance_happymaps": partial(_run_happymaps, method="pixel_importance"),
    "pixel_importance_captum": partial(_run_captum_hiding, method="pixel_importance"),
    "lime_happymaps": partial(_run_happymaps, method="lime"),
    "lime_captum": _run_captum_lime,
    "lime_lime_package": _run_lime_package,
}

if __name__ == "__main__":
    main()
