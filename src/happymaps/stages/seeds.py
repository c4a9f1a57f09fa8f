"""Train one network again from several seeds, each with its own split, weights and order."""

import statistics
import sys

from happymaps.datasets import load_faces
from happymaps.errors import exit_on_error
from happymaps.files import write_json
from happymaps.networks import build_network
from happymaps.params import Params
from happymaps.splitting import split
from happymaps.stages.layout import CHECKPOINTS, METRICS, PROCESSED
from happymaps.training import Epoch, configure_torch, fit

PUBLISHED_ACCURACY = 0.9947


def main() -> None:
    """Write metrics/seeds.json: the spread of the test accuracy beside the published figure."""
    name = sys.argv[1]
    params = Params.load()
    configure_torch(params.threads)
    faces = load_faces(PROCESSED / "cmu_faces")
    spec = params.network(name)
    accuracies: dict[str, float] = {}
    seeds = range(params.seed, params.seed + params.seeds.runs)
    checkpoints = {seed: CHECKPOINTS / f"{name}_{seed}.safetensors" for seed in seeds}
    for seed, checkpoint in checkpoints.items():

        def log(epoch: Epoch, seed: int = seed) -> None:
            accuracies[str(seed)] = epoch.test_accuracy

        test = split(faces.truth, params.split, seed)["part"] == "test"
        fit(
            build_network(spec, params.crop.size, seed=seed),
            faces.subset(~test),
            faces.subset(test),
            params.train,
            seed=seed,
            log=log,
            checkpoint=checkpoint,
        )
    write_json(
        METRICS / "seeds.json",
        {
            "network": name,
            "test_accuracy": {
                "mean": statistics.mean(accuracies.values()),
                "std": statistics.stdev(accuracies.values()),
                "published": PUBLISHED_ACCURACY,
                "by_seed": accuracies,
            },
        },
    )
    for checkpoint in checkpoints.values():
        checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    exit_on_error(main)
