"""Bring CIFAR-10 here and check every image."""

from happymaps.errors import exit_on_error
from happymaps.files import replacing_folder, write_json
from happymaps.labelling import read_objects
from happymaps.params import Cifar10Params
from happymaps.sources import cifar10
from happymaps.stages.layout import CIFAR10, METRICS


def main() -> None:
    """Write data/raw/cifar10 and its counts."""
    params = Cifar10Params.load().cifar10
    with replacing_folder(CIFAR10) as folder:
        origin = cifar10.fetch(params.path, params.url, folder)
    parts = read_objects(CIFAR10 / "truth.csv")["part"]
    lossless = origin.kind == "official"
    kind = "as published" if lossless else "as JPEG, which is lossy"
    print(f"{len(parts)} images, {kind}, from the {origin.place}")
    write_json(
        METRICS / "fetch_cifar10.json",
        {"kind": origin.kind, "lossless": lossless, **parts.value_counts(sort=False).to_dict()},
    )


if __name__ == "__main__":
    exit_on_error(main)
