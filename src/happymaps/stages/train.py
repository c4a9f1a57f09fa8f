"""Train one network on the training part of the faces."""

import sys
from dataclasses import asdict

from dvclive import Live

from happymaps.datasets import load_parts, load_training
from happymaps.errors import exit_on_error
from happymaps.files import write_json
from happymaps.networks import SavedNetwork, build_network, parameter_count, save_network
from happymaps.params import Params
from happymaps.stages.layout import CHECKPOINTS, HEADS, METRICS, MODELS, PLOTS, PROCESSED, SPLIT
from happymaps.training import Epoch, configure_torch, fit


def main() -> None:
    """Write data/models/<network>.safetensors, its learning curves and its last figures."""
    name = sys.argv[1]
    params = Params.load()
    configure_torch(params.threads)
    spec = params.network(name)
    faces = PROCESSED / "cmu_faces"
    train, heads = load_training(faces, SPLIT, HEADS, spec.views)
    test = load_parts(faces, SPLIT, spec.crop)["test"]
    checkpoint = CHECKPOINTS / f"{name}.safetensors"
    network = build_network(spec, params.crop.size, seed=params.seed)
    with Live(str(PLOTS / "train" / name), save_dvc_exp=False, dvcyaml=None) as live:
        history: list[Epoch] = []

        def log(epoch: Epoch) -> None:
            history.append(epoch)
            live.step = epoch.number
            for part in ("train", "test"):
                for figure in ("loss", "accuracy"):
                    live.log_metric(f"{part}/{figure}", getattr(epoch, f"{part}_{figure}"))
            live.make_summary()

        fit(
            network,
            train,
            test,
            params.train,
            seed=params.seed,
            log=log,
            heads=heads,
            checkpoint=checkpoint,
        )
    saved = SavedNetwork(name, network.cpu(), params.crop.of_training())
    save_network(saved, MODELS / f"{name}.safetensors")
    figures = asdict(history[-1])
    epochs = figures.pop("number")
    write_json(
        METRICS / "train" / f"{name}.json",
        {"images": len(train), "parameters": parameter_count(network), "epochs": epochs, **figures},
    )
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    exit_on_error(main)
