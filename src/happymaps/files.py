"""Files that are written whole or not at all."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd  # which takes long to import


# Where the old folder waits in the draft's until the new one has taken its place.
_PREVIOUS = "previous"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path beside `target` to write to; it takes `target`'s place when the block ends well.

    The body creates a file or a folder there. After an exception, whatever stood at `target`
    before is untouched and the unfinished output is removed; what a killed process leaves in a
    hidden folder `.<name>.<number>.draft`, the next one clears away.
    """
    for litter in target.parent.glob(f".{glob.escape(target.name)}.[0-9]*.draft"):
        number = litter.name.removeprefix(f".{target.name}.").removesuffix(".draft")
        if number.isdigit() and not _is_running(int(number)):
            if (litter / _PREVIOUS).exists() and not target.exists():
                (litter / _PREVIOUS).rename(target)  # killed between moving the old and the new
            shutil.rmtree(litter, ignore_errors=True)
    # Named by process: a child that outlived its killed parent must not write into the new one.
    workshop = target.parent / f".{target.name}.{os.getpid()}.draft"
    workshop.mkdir(parents=True)
    try:
        draft = workshop / target.name
        yield draft
        draft.lstat()  # nothing was written: fail before the old is moved away
        # Nothing takes the place of a folder by itself, and a folder that of nothing else.
        if os.path.lexists(target) and (target.is_dir() or draft.is_dir()):
            _exchange(target, draft, workshop / _PREVIOUS)
        else:
            draft.replace(target)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _is_running(number: int) -> bool:
    """Whether there is another process of this number."""
    if number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except OverflowError:
        return False
    except OSError as error:
        return isinstance(error, PermissionError)  # somebody else's
    return True


def _exchange(old: Path, new: Path, previous: Path) -> None:
    try:
        old.rename(previous)
        new.replace(old)
    except BaseException:
        if os.path.lexists(previous) and not os.path.lexists(old):
            previous.rename(old)
        raise


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Like `replacing`, with the folder already made."""
    with replacing(target) as draft:
        draft.mkdir()
        yield draft


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, keys in the order given, floats as they are."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write `table` as CSV, without its index."""
    with replacing(path) as draft:
        table.to_csv(draft, index=False)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
