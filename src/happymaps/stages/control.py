"""Train one network on shuffled labels: what the same network is when it has learned nothing."""

import sys
from dataclasses import asdict

from happymaps.datasets import load_parts, load_training
from happymaps.errors import exit_on_error
from happymaps.files import write_json
from happymaps.networks import SavedNetwork, build_network, save_network
from happymaps.params import Params
from happymaps.stages.layout import CHECKPOINTS, CONTROLS, HEADS, METRICS, PROCESSED, SPLIT
from happymaps.training import Epoch, configure_torch, fit


def main() -> None:
    """Write data/controls/<network>.safetensors and its last figures."""
    name = sys.argv[1]
    params = Params.load()
    configure_torch(params.threads)
    spec = params.network(name)
    faces = PROCESSED / "cmu_faces"
    train, heads = load_training(faces, SPLIT, HEADS, spec.views)
    network = build_network(spec, params.crop.size, seed=params.seed)
    checkpoint = CHECKPOINTS / f"control_{name}.safetensors"
    history: list[Epoch] = []
    fit(
        network,
        train.shuffled(params.seed),
        load_parts(faces, SPLIT, spec.crop)["test"],
        params.train,
        seed=params.seed,
        log=history.append,
        heads=heads,
        checkpoint=checkpoint,
    )
    saved = SavedNetwork(name, network.cpu(), params.crop.of_training())
    save_network(saved, CONTROLS / f"{name}.safetensors")
    figures = asdict(history[-1])
    del figures["number"]
    write_json(METRICS / "control" / f"{name}.json", figures)
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    exit_on_error(main)
