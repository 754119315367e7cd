"""Figures for people: what a rehearsal measured is printed below its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

__all__ = ["Tell"]

Tell: TypeAlias = Callable[[str], None]

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Notes a line of figures, which is printed when all tests are over."""
    name, lines = request.node.name, request.config.stash.setdefault(_FIGURES, [])
    return lambda figures: lines.append(f"{name}: {figures}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = terminalreporter.config.stash.get(_FIGURES, [])
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
