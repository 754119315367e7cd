"""The names that ``import orchestrator`` offers to scripts."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import orchestrator


def test_every_public_name_can_be_imported_from_its_home() -> None:
    for name in orchestrator.__all__:
        value = getattr(orchestrator, name)
        assert getattr(import_module(value.__module__), name) is value


def test_a_former_name_still_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match="Story is now called RequestHistory"):
        from orchestrator import Story
    assert Story is orchestrator.RequestHistory


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        orchestrator.Nothing  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, orchestrator; print(sorted({'pydantic', 'rich', 'anyio', 'cyclopts'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
