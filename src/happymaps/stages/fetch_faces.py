"""Bring the CMU Face Images here and check every one of them."""

from pathlib import PurePath

from happymaps.errors import exit_on_error
from happymaps.files import replacing_folder, write_json
from happymaps.params import Params
from happymaps.sources import cmu_faces
from happymaps.sources.manifests import read_manifest
from happymaps.stages.layout import METRICS, RAW


def main() -> None:
    """Write data/raw/cmu_faces and its counts."""
    faces = Params.load().faces
    manifest = read_manifest(faces.manifest)
    with replacing_folder(RAW / "cmu_faces") as folder:
        origin = cmu_faces.fetch(faces.path, faces.url, manifest, folder)
    print(f"{len(manifest)} images, all as published, from the {origin}")
    bad = sum(name.endswith(".bad") for name in manifest)
    people = len({PurePath(name).parts[0] for name in manifest})
    write_json(
        METRICS / "fetch_faces.json",
        {"files": len(manifest), "images": len(manifest) - bad, "bad": bad, "people": people},
    )


if __name__ == "__main__":
    exit_on_error(main)
