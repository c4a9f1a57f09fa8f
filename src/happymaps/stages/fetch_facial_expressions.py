"""Bring the faces of the Facial Expressions set here and check every one of them."""

from happymaps.errors import exit_on_error
from happymaps.files import replacing_folder, write_json
from happymaps.params import Params
from happymaps.sources import facial_expressions
from happymaps.sources.face_names import person_of
from happymaps.sources.manifests import read_manifest
from happymaps.stages.layout import METRICS, RAW


def main() -> None:
    """Write data/raw/facial_expressions and its counts."""
    params = Params.load().facial_expressions
    manifest = read_manifest(params.manifest)
    with replacing_folder(RAW / "facial_expressions") as folder:
        origin = facial_expressions.fetch(params.path, params.url, manifest, folder)
    people = len({person_of(name) for name in manifest})
    print(f"{len(manifest)} faces of {people} people, all as published, from the {origin}")
    counts = {"images": len(manifest), "people": people}
    write_json(METRICS / "fetch_facial_expressions.json", counts)


if __name__ == "__main__":
    exit_on_error(main)
