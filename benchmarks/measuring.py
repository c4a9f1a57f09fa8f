"""What the benchmarks share: a process for each side, the machine's name, the network in Keras."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from happymaps.params import NetworkParams, Params

Runs = Mapping[str, Callable[[Params], dict[str, Any]]]


def was_one_side(description: str | None, runs: Runs, params: Params) -> bool:
    """Whether the command line asks for one side alone; it has then been run, for `in_own_process`.

    Args:
        description: of the benchmark, for `--help`.
        runs: its sides by name.
        params: what each side is run with.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", choices=sorted(runs), help="one of them, in this process")
    only = parser.parse_args().only
    if only:
        print(json.dumps(runs[only](params)))
    return only is not None


def in_own_process(script: str, name: str, threads: int) -> dict[str, Any]:
    """What `script --only name` prints last, as JSON; ends this process too when it fails.

    Args:
        script: path of the benchmark.
        name: which of its sides.
        threads: for the libraries that ask the environment.
    """
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, script, "--only", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{name} failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def peak_memory(process: "subprocess.Popen[Any]", *, every: float) -> int:
    """The most memory in KiB that a process and all below it held at once, until it ends.

    Looked at `every` so many seconds, in /proc. What a system remembers of its children's memory
    would not do: there, one begins with its parent's.
    """
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory_of_tree(process.pid))
        time.sleep(every)
    return peak


def _memory_of_tree(root: int) -> int:
    """Proportional set size in KiB of a process and all below it; pages shared count once."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _field(entry / "status", "PPid")
            children.setdefault(parent, []).append(int(entry.name))
    todo, total = [root], 0
    while todo:
        pid = todo.pop()
        total += _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
        todo += children.get(pid, [])
    return total


def _field(file: Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:  # ended meanwhile
        return 0
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(next(found, "0"))


def processor() -> str:
    """The processor's model, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "")


def keras_on_tensorflow(threads: int) -> tuple[Any, dict[str, str]]:
    """The Keras module and both versions, with TensorFlow set to so many threads."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return keras, {"keras": keras.__version__, "tensorflow": tf.__version__}


def keras_network(keras: Any, spec: NetworkParams, image_size: int) -> Any:
    """The same architecture as a `keras.Sequential`, its layers named as ours are."""
    layers: list[Any] = [keras.Input((image_size, image_size, 1))]
    for number, filters in enumerate(spec.filters, start=1):
        if number > 1:
            layers.append(keras.layers.MaxPooling2D(2, name=f"max_pooling2d_{number - 1}"))
        name = f"conv2d_{number}"
        layers.append(keras.layers.Conv2D(filters, spec.kernel, activation="relu", name=name))
    layers.append(keras.layers.Flatten(name="flatten"))
    for number, neurons in enumerate(spec.dense, start=1):
        layers.append(keras.layers.Dense(neurons, activation="relu", name=f"dense_{number}"))
    layers.append(keras.layers.Dropout(spec.dropout, name="dropout"))
    name = f"dense_{len(spec.dense) + 1}"
    layers.append(keras.layers.Dense(len(spec.classes), activation="softmax", name=name))
    return keras.Sequential(layers)
