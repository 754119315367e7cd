"""What people copy names no model that is shut down, or will be soon."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from orchestrator.policy.shutdowns import ANNOUNCED
from tests.structure.sources import ROOT

# Models that are shut down until then are not fit for an example.
SOON = date(2027, 2, 28)
_NAME = re.compile(r"\b(?:gpt-[0-9][a-z0-9.]*(?:-[a-z]+)*|o[1-9](?:-[a-z]+)*)\b")


def _pages() -> list[Path]:
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for folder in ("jobs", "configs", "orchestrator/templates"):
        found += sorted((ROOT / folder).rglob("*.yaml"))
    return found


def test_no_example_uses_a_model_that_is_shut_down_soon() -> None:
    found = {
        (str(page.relative_to(ROOT)), name)
        for page in _pages()
        for name in _NAME.findall(page.read_text())
        if (until := ANNOUNCED.get(name)) is not None and until <= SOON
    }
    assert sorted(found) == []


def test_the_search_finds_names() -> None:
    names = ["gpt-5-mini", "o3", "gpt-6.1-terra", "gpt-4o"]
    assert _NAME.findall("model: gpt-5-mini, o3 or gpt-6.1-terra; gpt-4o") == names
