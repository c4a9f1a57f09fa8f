"""Finding a file: a path of the user's own, a mirror folder, then the network."""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from happymaps.errors import InputError

MIRROR_VARIABLE = "HAPPYMAPS_MIRROR"

Place = Literal["path", "mirror", "network"]

_CONNECT_SECONDS, _SILENT_SECONDS = 10, 30
_ATTEMPTS = 3


@contextmanager
def located(
    path: Path | None, names: Sequence[str], url: str, *, max_bytes: int
) -> Iterator[tuple[Path, Place]]:
    """Give a source to read, and where it was found; what was downloaded is removed afterwards.

    Args:
        path: of the user's own; with None it is looked for elsewhere.
        names: by which the mirror may have it.
        url: where it is if not in the mirror.
        max_bytes: refuse to download more.

    Raises:
        InputError: as `in_mirror` and `download`; what is wrong with a download is said of its
            address.
    """
    mirrored = in_mirror(names) if path is None else None
    if path is not None:
        yield path, "path"
    elif mirrored is not None:
        yield mirrored, "mirror"
    else:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / (PurePosixPath(urlsplit(url).path).name or "archive")
            download(url, archive, max_bytes=max_bytes)
            try:
                yield archive, "network"
            except InputError as error:
                # The file is gone when this is read.
                raise InputError(str(error).replace(str(archive), url)) from error


def in_mirror(names: Sequence[str], folder: str = "") -> Path | None:
    """The first of `names` that lies in the mirror's `folder`; None without a mirror.

    The mirror is the folder named by the environment variable HAPPYMAPS_MIRROR; as DVC runs the
    studies' stages in folders of their own, a relative name begins at the project's.

    Raises:
        InputError: when the variable names something that is not a folder.
    """
    value = os.environ.get(MIRROR_VARIABLE)
    if not value:
        return None
    mirror = Path(os.environ.get("DVC_ROOT", "")) / value
    if not mirror.is_dir():
        raise InputError(f"{MIRROR_VARIABLE}={value}: no such folder; set it right or unset it")
    candidates = (mirror / folder / name for name in names)
    return next((path for path in candidates if path.exists()), None)


def download(url: str, target: Path, *, max_bytes: int, wait_seconds: float = 2) -> None:
    """Fetch `url` into `target`, with a progress bar, time-outs and three attempts.

    A failed attempt goes on where it broke off if the server can; a half-fetched file is removed.

    Args:
        url: http or https.
        target: the file to write; its folder exists.
        max_bytes: refuse more.
        wait_seconds: pause before the second attempt, doubled before the third.

    Raises:
        InputError: naming the URL, the reason, and the ways around.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise InputError(f"{url}: only http and https addresses are fetched")
    target.unlink(missing_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fetch(url, target, max_bytes)
            return
        except (requests.RequestException, ValueError) as error:
            if attempt == _ATTEMPTS or _is_final(error):
                target.unlink(missing_ok=True)
                raise InputError(
                    f"{url}: cannot be fetched ({_short(error)}); set a path in params.yaml, or"
                    f" put the file in a folder and name the folder in {MIRROR_VARIABLE}"
                ) from error
            time.sleep(wait_seconds * 2 ** (attempt - 1))
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _fetch(url: str, target: Path, max_bytes: int) -> None:
    have = target.stat().st_size if target.exists() else 0
    # A range counts packed bytes and the file holds unpacked ones: ask for them as they are.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    timeout = (_CONNECT_SECONDS, _SILENT_SECONDS)
    with requests.get(url, stream=True, timeout=timeout, headers=headers) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable and have:
            target.unlink()
            raise requests.ConnectionError("cannot go on where it broke off")
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial
        length = answer.headers.get("Content-Length")
        whole = int(length) + (have if resumed else 0) if length else None
        name = target.name
        with (
            target.open("ab" if resumed else "wb") as file,
            tqdm(total=whole, initial=file.tell(), unit="B", unit_scale=True, desc=name) as bar,
        ):
            for chunk in answer.iter_content(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
                if file.tell() > max_bytes:
                    raise InputError(f"{url}: sends more than {max_bytes >> 20} MiB; refused")
            received = file.tell()
    plain = answer.headers.get("Content-Encoding", "identity") == "identity"
    if plain and whole is not None and received < whole:
        raise requests.ConnectionError(f"broke off after {received} of {whole} bytes")


def _is_final(error: requests.RequestException | ValueError) -> bool:
    if isinstance(error, ValueError):  # an address or a header that makes no sense
        return True
    answer = error.response
    return answer is not None and 400 <= answer.status_code < 500 and answer.status_code != 429


def _short(error: requests.RequestException | ValueError) -> str:
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "no answer in time"
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.ConnectionError) and "broke off" not in str(error):
        return "no connection"
    return str(error)
