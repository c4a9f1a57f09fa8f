"""CMU Face Images (Tom Mitchell, UCI Machine Learning Repository 124).

20 people in 4 poses, 4 expressions, with and without sunglasses, at 3 scales.
"""

import hashlib
import re
import tempfile
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from happymaps.errors import InputError
from happymaps.sources.archives import iter_members
from happymaps.sources.download import download, in_mirror
from happymaps.sources.face_names import parse_name

MIRROR_NAMES = (
    "cmu_faces", "cmu_faces.tar.gz", "cmu_faces.tar", "cmu_faces.zip", "cmu+face+images.zip",
)  # fmt: skip
_MAX_DOWNLOAD = 256 << 20


def read_manifest(path: Path) -> dict[str, str]:
    """Read `sha256sum` lines: `<user>/<file>` -> hexadecimal SHA-256.

    Raises:
        InputError: naming the line that is not of that form.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such manifest of SHA-256 sums")
    manifest = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\s]+/[^/\s]+)", line)
        if match is None:
            raise InputError(f"{path}, line {number}: should be '<sha256>  <user>/<file>'")
        manifest[match[2]] = match[1]
    return manifest


def fetch(path: Path | None, url: str, manifest: dict[str, str], destination: Path) -> str:
    """Bring all images of the manifest to `destination/<user>/<file>`.

    They are looked for at `path`, else in the mirror, else at `url`.

    Returns:
        Where they came from: `path`, `mirror` or `network`.

    Raises:
        InputError: source unreachable or damaged, or images missing or with another hash.
    """
    if path is not None:
        collect(path, manifest, destination)
        return "path"
    mirrored = in_mirror(MIRROR_NAMES)
    if mirrored is not None:
        collect(mirrored, manifest, destination)
        return "mirror"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "cmu_faces.zip"
        download(url, archive, max_bytes=_MAX_DOWNLOAD)
        collect(archive, manifest, destination)
    return "network"


def collect(source: Path, manifest: dict[str, str], destination: Path) -> None:
    """Write the images of `manifest` found in a folder or archive to `destination/<user>/<file>`.

    A member counts by its last two path parts. Members outside the name grammar or the manifest
    are passed over; of a member that comes twice, the copy with the right hash is taken.

    Raises:
        InputError: when images are missing or damaged (naming the first), and nothing is written
            that was not checked.
    """
    wanted = dict(manifest)
    damaged: dict[str, str] = {}
    with tqdm(total=len(manifest), unit="image", desc="checking faces") as bar:
        for member, content in iter_members(source):
            key = "/".join(PurePosixPath(member).parts[-2:])
            if key not in wanted or parse_name(key.rpartition("/")[2]) is None:
                continue
            found = hashlib.sha256(content).hexdigest()
            if found != wanted[key]:
                damaged[key] = found
                continue
            target = destination / key
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            del wanted[key]
            bar.update()
    wrong = [key for key in damaged if key in wanted]
    if wrong:
        raise InputError(
            f"{source}: {wrong[0]} has SHA-256 {damaged[wrong[0]]}, should be"
            f" {manifest[wrong[0]]} ({len(wrong)} such); fetch the source again"
        )
    if wanted:
        raise InputError(
            f"{source}: {len(wanted)} of {len(manifest)} images are missing, the first is"
            f" {min(wanted)}; fetch the source again"
        )
