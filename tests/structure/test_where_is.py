"""Each row of "Where is …?" names a file that exists and a name that the file defines."""

from __future__ import annotations

import re

import pytest

from tests.structure.definitions import defined_names
from tests.structure.sources import ROOT

_PAGE = ROOT / "docs/where-is.md"
_ROW = re.compile(
    r"^\| (?P<what>.+?) \| \[(?P<shown>[^]]+)\]\((?P<target>[^)]+)\) \| `(?P<name>[^`]+)` \|$", re.MULTILINE
)
_ROWS = [(row["what"], row["shown"], row["target"], row["name"]) for row in _ROW.finditer(_PAGE.read_text())]


@pytest.mark.parametrize(("shown", "target", "name"), [pytest.param(*row[1:], id=row[0]) for row in _ROWS])
def test_the_file_defines_the_name(shown: str, target: str, name: str) -> None:
    path = (_PAGE.parent / target).resolve()
    assert path == ROOT / "orchestrator" / shown
    assert name in defined_names(path)


def test_the_page_answers_at_least_thirty_questions() -> None:
    assert len(_ROWS) >= 30
    assert len({what for what, *_ in _ROWS}) == len(_ROWS)


def test_every_line_of_its_tables_is_read() -> None:
    lines = [line for line in _PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len([line for line in lines if "](" in line]) == len(_ROWS)
