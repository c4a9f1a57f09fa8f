"""The README's figures are those of the committed metrics."""

import importlib.util
import re

import pytest

from toys import ROOT

SPEC = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
assert SPEC is not None
assert SPEC.loader is not None
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)

README = (ROOT / "README.md").read_text()


def test_the_tables_are_those_of_the_committed_metrics() -> None:
    """After a change of the results, `python docs/tables.py` writes them anew."""
    assert tables.filled(README) == README


def test_a_figure_that_was_changed_by_hand_is_put_right() -> None:
    figure = re.search(r"(?<=\| `by_person` \| )0\.\d{3}", README)
    assert figure is not None
    wrong = README[: figure.start()] + "0.123" + README[figure.end() :]
    assert tables.filled(wrong) == README


def test_a_table_that_is_gone_is_missed() -> None:
    with pytest.raises(ValueError, match="0 tables"):
        tables.filled(README.replace("| claim | figure |", "| claim | number |"))
