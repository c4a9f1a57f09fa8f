import gzip
import random
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from happymaps.errors import InputError
from happymaps.sources import download as module
from happymaps.sources import facial_expressions, youtube_faces
from happymaps.sources.download import Place, download, in_mirror
from packing import contents

BODY = random.Random(0).randbytes(300_000)
HALF = len(BODY) // 2


class Server(ThreadingHTTPServer):
    """Answers its requests by a script, one word each, and notes the ranges asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[str] = []
        self.ranges: list[str | None] = []
        self.done = threading.Event()

    def serves(self, *script: str) -> str:
        self.script = list(script)
        return f"http://127.0.0.1:{self.server_port}/faces.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.ranges.append(asked)
        word = self.server.script.pop(0)
        if word.isdigit():
            self.send_error(int(word))
            return
        if word == "silent":
            self.server.done.wait(5)
            return
        asked_for = "gzip" in self.headers["Accept-Encoding"] or "stubbornly" in word
        packed = "packed" in word and asked_for
        body = gzip.compress(BODY) if packed else BODY
        start = int(asked[6:-1]) if asked and "rangeless" not in word else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if packed:
            self.send_header("Content-Encoding", "gzip")
        if "nonsense" in word:
            self.send_header("Content-Length", "nonsense")
        elif "unsized" not in word:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        broken = "cut" in word or "stalls" in word
        self.wfile.write(body[start : start + HALF if broken and start < HALF else None])
        if "stalls" in word:
            self.wfile.flush()
            self.server.done.wait(5)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield http
        http.done.set()
        http.shutdown()


def fetch(url: str, target: Path, max_bytes: int = 1 << 20) -> None:
    download(url, target, max_bytes=max_bytes, wait_seconds=0)


@pytest.mark.parametrize(
    ("script", "resumes"),
    [
        (["whole"], [False]),
        (["unsized"], [False]),
        (["500", "whole"], [False, False]),
        (["429", "503", "whole"], [False, False, False]),
        (["cut", "whole"], [False, True]),
        (["cut", "500", "whole"], [False, True, True]),
        (["cut", "rangeless whole"], [False, True]),
        (["cut", "416", "whole"], [False, True, False]),
        (["packed cut", "packed"], [False, True]),
        (["packed"], [False]),
        (["stubbornly packed"], [False]),
    ],
)
def test_what_arrives_is_what_was_served(
    server: Server, tmp_path: Path, script: list[str], resumes: list[bool]
) -> None:
    target = tmp_path / "faces.zip"
    fetch(server.serves(*script), target)
    assert target.read_bytes() == BODY
    assert [asked is not None for asked in server.ranges] == resumes


def test_what_stood_there_before_is_not_continued(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "faces.zip"
    target.write_bytes(b"something older")
    fetch(server.serves("whole"), target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    ("word", "reason", "attempts"),
    [
        ("404", "HTTP status 404", 1),
        ("403", "HTTP status 403", 1),
        ("416", "HTTP status 416", 1),
        ("500", "HTTP status 500", 3),
        ("429", "HTTP status 429", 3),
        ("rangeless cut", "broke", 3),
        ("silent", "no answer in time", 3),
        ("rangeless stalls", "no answer in time", 3),
        ("nonsense", "nonsense", 1),
    ],
)
def test_giving_up(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    word: str,
    reason: str,
    attempts: int,
) -> None:
    if reason == "no answer in time":
        monkeypatch.setattr(module, "_SILENT_SECONDS", 0.1)
    url = server.serves(*[word] * 4)
    with pytest.raises(InputError) as caught:
        fetch(url, tmp_path / "faces.zip")
    message = str(caught.value)
    assert message.startswith(f"{url}: cannot be fetched")
    assert reason in message
    assert "params.yaml" in message
    assert "HAPPYMAPS_MIRROR" in message
    assert len(server.ranges) == attempts
    assert list(tmp_path.iterdir()) == []


def test_every_pause_is_twice_as_long_as_the_one_before(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("happymaps.sources.download.time.sleep", pauses.append)
    with pytest.raises(InputError, match="HTTP status 500"):
        download(server.serves(*["500"] * 3), tmp_path / "faces.zip", max_bytes=1, wait_seconds=3)
    assert pauses == [3, 6]


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/faces.zip"
        with pytest.raises(InputError, match=f"{url}: .*no connection"):
            fetch(url, tmp_path / "faces.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["whole", "unsized"])
def test_too_large(server: Server, tmp_path: Path, word: str) -> None:
    target = tmp_path / "faces.zip"
    fetch(server.serves(word), target, max_bytes=len(BODY))
    target.unlink()
    with pytest.raises(InputError, match="refused"):
        fetch(server.serves(word), target, max_bytes=len(BODY) - 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "file:///etc/passwd",
        "/etc/passwd",
        "",
        "http://",
        "http://[::1",
        "http://a..b/",
    ],
)
def test_addresses_that_are_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError) as caught:
        fetch(url, tmp_path / "faces.zip")
    assert str(caught.value).startswith(f"{url}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [None, ""])
def test_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces.zip").touch()  # what lies about is no mirror
    monkeypatch.delenv("HAPPYMAPS_MIRROR", raising=False)
    if value is not None:
        monkeypatch.setenv("HAPPYMAPS_MIRROR", value)
    assert in_mirror(["faces.zip"]) is None


def test_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path))
    (tmp_path / "recordings").mkdir()
    for name in ("b.zip", "c.zip", "recordings/a.zip"):
        (tmp_path / name).touch()
    assert in_mirror(["a.zip", "b.zip", "c.zip"]) == tmp_path / "b.zip"
    assert in_mirror(["a.zip"]) is None
    assert in_mirror(["b.zip", "a.zip"], folder="recordings") == tmp_path / "recordings/a.zip"


def test_a_relative_mirror_begins_at_the_project_wherever_dvc_runs_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.zip").touch()
    (tmp_path / "project/study").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project/study")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    monkeypatch.setenv("HAPPYMAPS_MIRROR", "../mirror")
    found = in_mirror(["a.zip"])
    assert found is not None
    assert found.samefile(tmp_path / "mirror/a.zip")


def test_a_mirror_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAPPYMAPS_MIRROR", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"HAPPYMAPS_MIRROR=.*none: no such folder"):
        in_mirror(["faces.zip"])


@pytest.mark.usefixtures("no_mirror", "impatient")
@pytest.mark.parametrize("fetch", [facial_expressions.fetch, youtube_faces.fetch])
def test_an_unreachable_network_is_an_error(
    destination: Path, fetch: Callable[[None, str, dict[str, str], Path], Place]
) -> None:
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch(None, "http://127.0.0.1:1/faces.zip", {"images/Bo_10.jpg": "0" * 64}, destination)
    assert contents(destination) == {}
