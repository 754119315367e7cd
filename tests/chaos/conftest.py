"""Prints the figures that tests measure below their results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

__all__ = ["Note"]

Note: TypeAlias = Callable[[str], None]

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Stores a line of figures, which is printed after all tests."""
    name, lines = request.node.name, request.config.stash.setdefault(_FIGURES, [])
    return lambda figures: lines.append(f"{name}: {figures}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = terminalreporter.config.stash.get(_FIGURES, [])
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
