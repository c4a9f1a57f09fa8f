"""Train one network on the training part."""

import sys

from dvclive import Live

from happymaps.devices import configure_torch
from happymaps.errors import exit_on_error
from happymaps.files import replacing_folder, write_json
from happymaps.networks import SavedNetwork, build_network, parameter_count, save_network
from happymaps.params import load_study
from happymaps.stages.layout import CHECKPOINTS, METRICS, MODELS, PLOTS
from happymaps.stages.sets import learned_from, parts, watched_part
from happymaps.training import Epoch, fit, named_figures


def main() -> None:
    """Write data/models/<network>.safetensors, its learning curves and its last figures."""
    name = sys.argv[1]
    params = load_study()
    configure_torch(params.threads)
    spec = params.network(name)
    split = parts(params, spec)
    train, heads = learned_from(params, spec, split)
    watched = watched_part(split)
    checkpoint = CHECKPOINTS / f"{name}.safetensors"
    network = build_network(spec, params.crop.size, params.crop.channels, seed=params.seed)
    with (
        replacing_folder(PLOTS / "train" / name) as draft,
        Live(str(draft), save_dvc_exp=False, dvcyaml=None) as live,
    ):
        history: list[Epoch] = []

        def log(epoch: Epoch) -> None:
            history.append(epoch)
            live.step = epoch.number
            for part, figures in epoch.figures(watched).items():
                for figure, value in figures.items():
                    live.log_metric(f"{part}/{figure}", value)
            live.make_summary()

        fit(
            network,
            train,
            split[watched],
            params.train,
            seed=params.seed,
            log=log,
            heads=heads,
            checkpoint=checkpoint,
        )
    saved = SavedNetwork(name, network.cpu(), params.crop.of_training())
    save_network(saved, MODELS / f"{name}.safetensors")
    write_json(
        METRICS / "train" / f"{name}.json",
        {
            "images": len(train),
            "parameters": parameter_count(network),
            "epochs": len(history),
            **named_figures(history[-1], watched),
        },
    )
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    exit_on_error(main)
