"""Files that are taken out of a source by the SHA-256 sums that they must have."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from happymaps.errors import InputError
from happymaps.sources.archives import iter_members


def read_manifest(path: Path) -> dict[str, str]:
    """Read `sha256sum` lines: `<folder>/<file>` -> hexadecimal SHA-256.

    Raises:
        InputError: naming the line that is not of that form.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such manifest of SHA-256 sums")
    manifest = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\s]+/[^/\s]+)", line)
        if match is None:
            raise InputError(f"{path}, line {number}: should be '<sha256>  <folder>/<file>'")
        manifest[match[2]] = match[1]
    return manifest


def collect(
    source: Path,
    manifest: dict[str, str],
    destination: Path,
    name_of: Callable[[str], str | None],
) -> None:
    """Write the images of `manifest` found in a folder or archive to `destination`.

    Of a member that comes twice, the copy with the right hash is taken.

    Args:
        source: the folder or the archive.
        manifest: `<folder>/<file>` -> SHA-256, of all that must be there.
        destination: the folder to write to; it exists.
        name_of: from a member's path to its name in the manifest; None passes it over, as does a
            name that is not in the manifest.

    Raises:
        InputError: when images are missing or damaged (naming the first), and nothing is written
            that was not checked.
    """
    wanted = dict(manifest)
    damaged: dict[str, str] = {}
    with tqdm(total=len(manifest), unit="image", desc="checking images") as bar:
        for member, content in iter_members(source):
            name = name_of(member)
            if name is None or name not in wanted:
                continue
            found = hashlib.sha256(content).hexdigest()
            if found != wanted[name]:
                damaged[name] = found
                continue
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            del wanted[name]
            bar.update()
    wrong = [name for name in damaged if name in wanted]
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
