"""Train one network on shuffled labels: what the same network is when it has learned nothing."""

import sys

from happymaps.devices import configure_torch
from happymaps.errors import exit_on_error
from happymaps.files import write_json
from happymaps.networks import SavedNetwork, build_network, load_network, save_network
from happymaps.params import NetworkParams, Params
from happymaps.stages.layout import CHECKPOINTS, CONTROLS, METRICS, MODELS
from happymaps.stages.sets import learned_from, parts, watched_part
from happymaps.training import Epoch, fit, named_figures


def main() -> None:
    """Write data/controls/<network>.safetensors and its last figures."""
    name = sys.argv[1]
    params = Params.load()
    configure_torch(params.threads)
    trained = load_network(MODELS / f"{name}.safetensors")
    spec = _without_turns(trained.network.spec)
    split = parts(params, spec)
    train, heads = learned_from(params, spec, split)
    watched = watched_part(split)
    network = build_network(spec, trained.crop.size, seed=params.seed)
    checkpoint = CHECKPOINTS / f"control_{name}.safetensors"
    history: list[Epoch] = []
    fit(
        network,
        train.shuffled(params.seed),
        split[watched],
        params.train,
        seed=params.seed,
        log=history.append,
        heads=heads,
        checkpoint=checkpoint,
    )
    control = SavedNetwork(name, network.cpu(), trained.crop)
    save_network(control, CONTROLS / f"{name}.safetensors")
    write_json(METRICS / "control" / f"{name}.json", named_figures(history[-1], watched))
    checkpoint.unlink(missing_ok=True)


def _without_turns(spec: NetworkParams) -> NetworkParams:
    """The same, but that no head is turned while it learns: what it is said to be would be true."""
    augment = spec.augment.model_copy(update={"turn": 0.0, "nod": 0.0})
    return spec.model_copy(update={"augment": augment})


if __name__ == "__main__":
    exit_on_error(main)
