"""The generated parts of the documentation say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from docs.generator.blocks import BLOCKS
from docs.generator.pages import ROOT, block_names, pages, regenerated
from docs.generator.schema_files import SCHEMA_FILES, schema_text


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()])
def test_a_page_is_as_the_code_has_it(page: Path) -> None:
    text = page.read_text()
    assert regenerated(text) == text, "stale: run python -m docs.generator"


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in SCHEMA_FILES])
def test_a_schema_for_editors_is_as_the_code_has_it(path: Path) -> None:
    assert path.read_text() == schema_text(path), "stale: run python -m docs.generator"


def test_every_generated_part_is_on_a_page() -> None:
    assert {name for page in pages() for name in block_names(page.read_text())} == set(BLOCKS)


def test_what_a_generated_part_says_is_replaced() -> None:
    text = "before\n<!-- generated: events -->\nof yesterday\n<!-- end of generated -->\nafter\n"
    fresh = regenerated(text)
    assert "of yesterday" not in fresh
    assert BLOCKS["events"]() in fresh
    assert fresh.startswith("before\n")
    assert fresh.endswith("after\n")


def test_the_check_reports_by_its_exit_code() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "docs.generator", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
