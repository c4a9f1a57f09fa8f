"""Maps of the neurons of a layer: this project's beside torch-lucent's and tf-keras-vis'.

This project computes as params say: in bfloat16 where the processor multiplies matrices of it. The
others compute in float32, as their documentation shows.

All climb the same trained network for the same number of steps on images of the same size, on the
CPU with the same number of threads. They take turns, each in a process of its own, and the best of
the rounds counts. Ours draws the whole layer; the others, being slower, some of its neurons.

Both others document a call for one neuron and one for several at once (torch-lucent's
`param.image(..., batch=)` with `objectives.channel(..., batch=)`, tf-keras-vis' `seed_input` of
several images with `CategoricalScore` of several neurons). Several at once is faster, so that is
what counts, with as many at once as this project takes or nearly; one by one is measured too.
All else is what they do by default, but for what grey images between 0 and 1 need:

- torch-lucent: `channels=1`, without ImageNet's normalisation (`preprocess=False`) and without
  enlarging to 224 pixels (`fixed_image_size`). It gets each ReLU as a layer of its own, as in the
  networks of its documentation: a neuron silenced by its ReLU has no gradient, and stays silent.
  As in its documentation nobody freezes the weights, so it computes their gradients too, of which
  the maps have no need.
- tf-keras-vis: `input_range=(0, 1)`. Of the ways to adapt its defaults it reaches the highest
  activations; with the step's size scaled to the range too, or with the image scaled to 0 to 255
  before the network, they are lower.

What each reached is measured alike: its images, clipped to 0 to 1, through the same torch network.
The activation is the median over the same neurons and all rounds.

The floor: the forward pass to the one neuron and the backward pass to its image at the speed of
the machine's matrix product, in the precision in which this project computes, nothing else. The
images' parametrisation, transformations and optimiser are free there, and so is moving memory.

Last, once, all maps of all networks in params: minutes, and the most memory that the process held.
"""

import json
import resource
import statistics
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# This file's name, in the folder where Python looks first, would hide the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measuring import (
    in_own_process,
    keras_network,
    keras_on_tensorflow,
    processor,
    was_one_side,
)
from happymaps.devices import computes_in_bfloat16, configure_torch
from happymaps.networks import Conv2D, Dense, Network, load_network
from happymaps.params import Params
from happymaps.understanding.activation_maximization import happy_maps
from happymaps.understanding.attributions import BeforeRelu
from happymaps.understanding.layers import activations, layer_outputs, neuron_layers

RESULT = Path(__file__).with_suffix(".json")
NETWORK, LAYER = Path("data/models/experiment0.safetensors"), "dense_1"
ROUNDS, WARM_UP = 3, 2
AT_ONCE, ONE_BY_ONE = 32, 2
OTHERS = ("torch_lucent", "tf_keras_vis")
TOLERANCE = 1e-3

Groups = list[list[int]]
Draw = Callable[[int], Tensor]


def main() -> None:
    """Run all, or one of them in this process, and write the result beside this file."""
    params = Params.load()
    if was_one_side(__doc__, RUNS | {"all_networks": _run_all_networks}, params):
        return
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
    for _ in range(ROUNDS):
        for name in RUNS:
            answers[name].append(in_own_process(__file__, name, params.threads))
            print(f"{name}: {answers[name][-1]['maps_per_second']:.3f} maps/s")
    result = _result(answers, params)
    result["all_networks"] = in_own_process(__file__, "all_networks", params.threads)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"ratio {result['ratio']}, written to {RESULT}")


def _result(answers: dict[str, list[dict[str, Any]]], params: Params) -> dict[str, Any]:
    rounds = {name: [run["maps_per_second"] for run in runs] for name, runs in answers.items()}
    best = {name: max(figures) for name, figures in rounds.items()}
    ours = answers["happymaps"]
    gflops = max(run["matrix_product_gflops"] for run in ours)
    gflop_per_map = ours[0]["gflop_per_step"] * params.happymaps.steps
    return {
        "what": f"maps of the neurons of experiment0's {LAYER}, maps per second",
        **{name: round(figure, 3) for name, figure in best.items()},
        "ratio": round(best["happymaps"] / max(best[name] for name in OTHERS), 2),
        "ratio_one_by_one": round(
            best["happymaps"] / max(best[f"{name}_one_by_one"] for name in OTHERS), 2
        ),
        "activation": {
            name: round(statistics.median(_pooled(answers[name], "activations")), 2)
            for name in ("happymaps", *OTHERS)
        },
        "floor_maps_per_second": round(gflops / gflop_per_map, 2),
        "share_of_floor": round(best["happymaps"] * gflop_per_map / gflops, 3),
        "matrix_product_gflops": round(gflops, 1),
        "computed_in": ours[0]["computed_in"],
        "gflop_per_map": round(gflop_per_map, 3),
        "rounds": {name: [round(figure, 3) for figure in rounds[name]] for name in rounds},
        "maps_drawn": {name: answers[name][0]["maps"] for name in answers},
        "neurons_compared": AT_ONCE,
        "steps": params.happymaps.steps,
        "layer": LAYER,
        "image_size": params.crop.size,
        "threads": params.threads,
        "versions": {k: v for runs in answers.values() for k, v in runs[0]["versions"].items()},
        "processor": processor(),
    }


def _pooled(runs: list[dict[str, Any]], key: str) -> list[float]:
    return [figure for run in runs for figure in run[key]]


def _run_happymaps(params: Params) -> dict[str, Any]:
    configure_torch(params.threads)
    network = load_network(NETWORK).network

    def draw(steps: int) -> Tensor:
        settings = params.happymaps.model_copy(update={"steps": steps})
        return happy_maps(network, LAYER, settings, seed=params.seed).images

    images, seconds = _timed(draw, params)
    neurons = _compared(network)
    halved = computes_in_bfloat16(params.happymaps.precision, images.device)
    dtype = torch.bfloat16 if halved else torch.float32
    return {
        "maps_per_second": len(images) / seconds,
        "maps": len(images),
        "activations": _reached(network, images[neurons], neurons, params),
        "computed_in": str(dtype).removeprefix("torch."),
        "matrix_product_gflops": _matrix_product_gflops(dtype),
        "gflop_per_step": _flop_per_step(network) / 1e9,
        "versions": {"torch": torch.__version__},
    }


def _run_all_networks(params: Params) -> dict[str, Any]:
    configure_torch(params.threads)
    start = time.perf_counter()
    count = 0
    for name in params.networks:
        network = load_network(NETWORK.with_stem(name)).network
        for layer in neuron_layers(network):
            count += len(happy_maps(network, layer, params.happymaps, seed=params.seed).images)
    minutes = (time.perf_counter() - start) / 60
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"maps": count, "minutes": round(minutes, 2), "peak_memory_mib": round(peak / 1024)}


def _run_torch_lucent(params: Params, *, one_by_one: bool) -> dict[str, Any]:
    import kornia
    import lucent
    from lucent.optvis import objectives, param, render

    torch.set_num_threads(params.threads)
    network = load_network(NETWORK).network
    model = _with_separate_relus(network)
    # All of it but the softmax.
    _require_same_logits(network, lambda images: model[:-1](images))
    groups = _groups(network, one_by_one)
    size = network.image_size

    def draw_group(neurons: list[int], steps: int) -> Tensor:
        channels = [objectives.channel(LAYER, k, batch=i) for i, k in enumerate(neurons)]
        (images,) = render.render_vis(
            model,
            objectives.Objective.sum(channels),
            lambda: param.image(size, batch=len(neurons), channels=1),
            thresholds=(steps,),
            preprocess=False,
            fixed_image_size=size,
            progress=False,
            show_image=False,
        )
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    versions = {"torch-lucent": lucent.__version__, "kornia": kornia.__version__}
    return _run_in_groups(draw_group, groups, network, params) | {"versions": versions}


def _run_tf_keras_vis(params: Params, *, one_by_one: bool) -> dict[str, Any]:
    keras, versions = keras_on_tensorflow(params.threads)
    import tensorflow as tf
    import tf_keras_vis
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.utils.model_modifiers import (
        ExtractIntermediateLayer,
        ReplaceToLinear,
    )
    from tf_keras_vis.utils.scores import CategoricalScore

    torch.set_num_threads(params.threads)
    network = load_network(NETWORK).network
    model = keras_network(keras, network.spec, network.image_size)
    model.set_weights(_keras_weights(network))
    # The drawn layer is before the head, which only hides the logits.
    model.layers[-1].activation = keras.activations.linear
    _require_same_logits(
        network, lambda images: torch.from_numpy(model(images.permute(0, 2, 3, 1).numpy()).numpy())
    )
    groups = _groups(network, one_by_one)
    size = network.image_size
    modifiers = [ExtractIntermediateLayer(LAYER), ReplaceToLinear()]
    maximize = ActivationMaximization(model, model_modifier=modifiers, clone=False)

    def draw_group(neurons: list[int], steps: int) -> Tensor:
        images = maximize(
            CategoricalScore(neurons),
            seed_input=tf.random.uniform((len(neurons), size, size, 1), 0, 1),
            input_range=(0, 1),
            steps=steps,
        )
        return torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)

    versions |= {"tf-keras-vis": tf_keras_vis.__version__}
    return _run_in_groups(draw_group, groups, network, params) | {"versions": versions}


def _run_in_groups(
    draw_group: Callable[[list[int], int], Tensor], groups: Groups, network: Network, params: Params
) -> dict[str, Any]:
    """Draw group after group of neurons, a call for each."""
    images, seconds = _timed(
        lambda steps: torch.cat([draw_group(group, steps) for group in groups]), params
    )
    neurons = [neuron for group in groups for neuron in group]
    return {
        "maps_per_second": len(images) / seconds,
        "maps": len(images),
        "activations": _reached(network, images, neurons, params),
    }


def _timed(draw: Draw, params: Params) -> tuple[Tensor, float]:
    """The images after all steps, and the seconds they took once warm."""
    draw(WARM_UP)
    start = time.perf_counter()
    images = draw(params.happymaps.steps)
    return images, time.perf_counter() - start


def _compared(network: Network) -> list[int]:
    """Neurons that all three draw, from all over the layer."""
    count = neuron_layers(network)[LAYER]
    return list(range(0, count, count // AT_ONCE))


def _groups(network: Network, one_by_one: bool) -> Groups:
    neurons = _compared(network)
    return [[neuron] for neuron in neurons[:ONE_BY_ONE]] if one_by_one else [neurons]


def _reached(network: Network, images: Tensor, neurons: list[int], params: Params) -> list[float]:
    """Neuron k's answer to image k, after its ReLU."""
    settings = params.happymaps
    clipped = images.float().clamp(0, 1).contiguous()
    outputs = activations(network, clipped, settings.filters, settings.decision)[LAYER]
    return [float(outputs[place, neuron]) for place, neuron in enumerate(neurons)]


def _with_separate_relus(network: Network) -> nn.Sequential:
    """The network with the same weights, its ReLUs as layers of their own."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in network.named_children():
        if isinstance(layer, Conv2D | Dense):
            layers[name] = BeforeRelu(layer)
            layers[f"{name}_relu"] = nn.ReLU()
        else:
            layers[name] = layer
    return nn.Sequential(layers).eval()


def _keras_weights(network: Network) -> list[np.ndarray[Any, Any]]:
    """Kernels and biases in the layers' order, in Keras' layout: channels last, inputs first."""
    weights = []
    channels = network.spec.filters[-1]
    for name, values in network.state_dict().items():
        if values.ndim == 4:
            values = values.permute(2, 3, 1, 0)
        elif name == "dense_1.weight":
            values = values.unflatten(1, (channels, -1)).transpose(1, 2).flatten(1).T
        elif values.ndim == 2:
            values = values.T
        weights.append(values.numpy())
    return weights


@torch.no_grad()
def _require_same_logits(network: Network, logits_of: Callable[[Tensor], Tensor]) -> None:
    """End the process when a copy of the network answers otherwise to random images."""
    size = network.image_size
    images = torch.rand(4, 1, size, size, generator=torch.Generator().manual_seed(0))
    difference = float((logits_of(images) - network.logits(images)).abs().max())
    if not difference <= TOLERANCE:
        sys.exit(f"not the same network: its logits differ by {difference:.2g}")


def _flop_per_step(network: Network) -> int:
    """Of the pass to one neuron and the way back to its image; weights get no gradient."""
    counts = neuron_layers(network)
    flop = 0
    with torch.inference_mode():
        image = torch.zeros(1, 1, network.image_size, network.image_size)
        for name, outputs in layer_outputs(network, image):
            if name in counts:
                neurons = outputs.numel() // (counts[name] if name == LAYER else 1)
                weight = network.get_parameter(f"{name}.weight")
                flop += 2 * neurons * weight[0].numel()
            if name == LAYER:
                break
    return 2 * flop


def _matrix_product_gflops(dtype: torch.dtype, size: int = 2048, repeats: int = 8) -> float:
    matrix = torch.rand(size, size).to(dtype)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


RUNS: dict[str, Callable[[Params], dict[str, Any]]] = {
    "happymaps": _run_happymaps,
    "torch_lucent": partial(_run_torch_lucent, one_by_one=False),
    "tf_keras_vis": partial(_run_tf_keras_vis, one_by_one=False),
    "torch_lucent_one_by_one": partial(_run_torch_lucent, one_by_one=True),
    "tf_keras_vis_one_by_one": partial(_run_tf_keras_vis, one_by_one=True),
}

if __name__ == "__main__":
    main()
