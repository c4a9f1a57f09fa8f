"""What several rooms need: the real params, as they are and made small, and a web server."""

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from happymaps.params import Cifar10Params, NetworkParams, Params
from happymaps.sources import sample
from happymaps.sources.sample import Footage
from projects import changeable, project
from toys import ROOT

__all__ = [
    "address",
    "changeable",
    "destination",
    "impatient",
    "no_mirror",
    "objects",
    "one_thread",
    "params",
    "project",
    "short_footage",
    "spec",
]


def pytest_configure(config: pytest.Config) -> None:
    """Of several workers each has one processor; no proxy is asked for this machine's own pages."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The project is made by the first file that needs it, and the others of these come last.

    So no worker waits for it, and none is left alone with the longest files.
    """
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.path.name == "test_pipeline.py":
        return 0
    return 2 if "project" in getattr(item, "fixturenames", []) else 1


@pytest.fixture(scope="session")
def params() -> Params:
    """The params that the project is committed with."""
    return Params.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def objects() -> Cifar10Params:
    """The params that the CIFAR-10 study is committed with."""
    return Cifar10Params.load(ROOT / "studies/cifar10/params.yaml")


@pytest.fixture
def spec(params: Params) -> NetworkParams:
    """experiment0 with fewer filters and neurons, for images of 32 pixels."""
    return params.networks["experiment0"].model_copy(update={"filters": [4, 6, 6], "dense": [8]})


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Toys are too small to be shared: on a busy machine two threads mostly wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def short_footage() -> Iterator[None]:
    """Two people are recorded for a few small frames: drawing all three takes half a minute."""
    footage = (
        Footage("umo", 96, 72, 12, 2.5, False, "neutral"),
        Footage("velu", 72, 96, 15, 3.0, True, "happy"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "FOOTAGE", footage)
        yield


@pytest.fixture
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAPPYMAPS_MIRROR", raising=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two attempts to fetch something."""
    monkeypatch.setattr("happymaps.sources.download.time.sleep", lambda seconds: None)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    path = tmp_path / "raw"
    path.mkdir()
    return path


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """An address that serves tmp_path."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
