"""Bring the YouTube Faces here and check every frame."""

from happymaps.errors import exit_on_error
from happymaps.files import replacing_folder, write_json
from happymaps.params import Params
from happymaps.sources import youtube_faces
from happymaps.sources.face_names import person_of
from happymaps.sources.manifests import read_manifest
from happymaps.stages.layout import METRICS, RAW


def main() -> None:
    """Write data/raw/youtube_faces and its counts."""
    params = Params.load().youtube_faces
    manifest = read_manifest(params.manifest)
    with replacing_folder(RAW / "youtube_faces") as folder:
        origin = youtube_faces.fetch(params.path, params.url, manifest, folder)
    frames = [name for name in manifest if name != youtube_faces.LANDMARKS]
    people = len({person_of(name) for name in frames})
    print(f"{len(frames)} frames of {people} people, all as published, from the {origin}")
    write_json(METRICS / "fetch_youtube_faces.json", {"images": len(frames), "people": people})


if __name__ == "__main__":
    exit_on_error(main)
