"""CMU Face Images (Tom Mitchell, UCI Machine Learning Repository 124).

20 people in 4 poses, 4 expressions, with and without sunglasses, at 3 scales.
"""

from pathlib import Path, PurePosixPath

from happymaps.sources import manifests
from happymaps.sources.download import Place, located
from happymaps.sources.face_names import parse_name

MIRROR_NAMES = (
    "cmu_faces", "cmu_faces.tar.gz", "cmu_faces.tar", "cmu_faces.zip", "cmu+face+images.zip",
)  # fmt: skip
_MAX_DOWNLOAD = 256 << 20


def fetch(path: Path | None, url: str, manifest: dict[str, str], destination: Path) -> Place:
    """Bring all images of the manifest to `destination/<user>/<file>`.

    They are looked for at `path`, else in the mirror, else at `url`.

    Raises:
        InputError: source unreachable or damaged, or images missing or with another hash.
    """
    with located(path, MIRROR_NAMES, url, max_bytes=_MAX_DOWNLOAD) as (source, place):
        collect(source, manifest, destination)
    return place


def collect(source: Path, manifest: dict[str, str], destination: Path) -> None:
    """Write the images of `manifest` found in a folder or archive to `destination/<user>/<file>`.

    A member counts by its last two path parts; those outside the name grammar are passed over.

    Raises:
        InputError: as `manifests.collect`.
    """
    manifests.collect(source, manifest, destination, _name_of)


def _name_of(member: str) -> str | None:
    *_, file_name = parts = PurePosixPath(member).parts[-2:]
    return "/".join(parts) if parse_name(file_name) else None
