"""The pages' figures are those of the committed metrics, and their links lead somewhere."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

from toys import ROOT

SPEC = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
assert SPEC is not None
assert SPEC.loader is not None
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)

PAGES = list(tables.PAGES)
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_are_those_of_the_committed_metrics(page: Path) -> None:
    """After a change of the results, `python docs/tables.py` writes them anew."""
    text = page.read_text()
    assert tables.filled(text, tables.PAGES[page]) == text


def test_a_figure_that_was_changed_by_hand_is_put_right() -> None:
    figure = re.search(r"(?<=\| `by_person` \| )0\.\d{3}", README)
    assert figure is not None
    wrong = README[: figure.start()] + "0.123" + README[figure.end() :]
    assert tables.filled(wrong, tables.FACES) == README


def test_a_table_that_is_gone_is_missed() -> None:
    changed = README.replace("| claim | figure |", "| claim | number |")
    with pytest.raises(ValueError, match="0 tables"):
        tables.filled(changed, tables.FACES)


def test_the_pictures_are_those_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are copies; after a change of the results, `python docs/draw.py` draws all."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    copies = importlib.import_module("draw").COPIES
    assert len(copies) == 3
    sums = {}
    for folder in (ROOT, ROOT / "studies/cifar10"):
        lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
        for out in (out for stage in lock.values() for out in stage.get("outs", [])):
            sums[folder / out["path"]] = out["md5"]
    for source, picture in copies.items():
        assert (
            hashlib.md5((ROOT / "docs" / picture).read_bytes()).hexdigest() == sums[ROOT / source]
        )


def test_what_is_said_of_strangers_was_measured() -> None:
    found = json.loads((ROOT / "benchmarks/strangers.json").read_text())
    said = README.split("**Strangers.**")[1].split("**What explanations")[0]
    assert f"right in {found['experiment0']['accuracy']:.3f} of them" in " ".join(said.split())
    figures = {float(figure) for figure in re.findall(r"\d\.\d+", said)}
    for way in found["generalist"]["ways"].values():
        assert round(way["accuracy"], 3) in figures


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    inner = [link for link in links if "://" not in link]
    assert inner
    for link in inner:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Those that a forge makes of a page's headings: lower case, no punctuation, hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
