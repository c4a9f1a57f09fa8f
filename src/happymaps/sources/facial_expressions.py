"""Faces of the Facial Expressions set (muxspace), most of them cut out of photographs of the news.

Over a thousand people, in light, at ages and with faces as life has them; nearly all look ahead.
"""

from pathlib import Path

from happymaps.sources import manifests
from happymaps.sources.download import Place, located
from happymaps.sources.face_names import in_images

MIRROR_NAMES = (
    "facial_expressions_5class", "facial_expressions_5class.tar",
    "facial_expressions_5class.tar.gz", "facial_expressions_5class.zip",
)  # fmt: skip
_MAX_DOWNLOAD = 1 << 30


def fetch(path: Path | None, url: str, manifest: dict[str, str], destination: Path) -> Place:
    """Bring the pictures of the manifest to `destination/images/<file>`.

    They are looked for at `path`, else in the mirror, else at `url`. Members count by their file's
    name; other files are passed over.

    Raises:
        InputError: source unreachable, or as `manifests.collect`.
    """
    with located(path, MIRROR_NAMES, url, max_bytes=_MAX_DOWNLOAD) as (source, place):
        manifests.collect(source, manifest, destination, in_images)
    return place
