"""Doubles and halves each constant of the pace, and prints the tests of the limiter that fail: a quarter of an hour.

``python -m tests.policy.pace_sensitivity [CONSTANT …]``; the comments in ``pace.py`` state the results.
"""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from io import StringIO

import pytest

from orchestrator.policy.rate_limits import pace

__all__ = ["main"]

_TESTS = ["tests/policy/test_limits_simulated.py", "tests/policy/test_limits.py"]
_OPTIONS = ["-q", "--tb=no", "-p", "no:cacheprovider"]


def main(names: list[str]) -> int:
    """Prints one line per constant and factor; returns 0."""
    known = [name for name, value in vars(pace).items() if name.startswith("_") and isinstance(value, int | float)]
    for name in names or known:
        value = getattr(pace, name)
        for factor in (2.0, 0.5):
            setattr(pace, name, type(value)(value * factor))
            sys.stdout.write(f"{name} x {factor}: {', '.join(_failures()) or '-'}\n")
            sys.stdout.flush()
        setattr(pace, name, value)
    return 0


def _failures() -> list[str]:
    with redirect_stdout(StringIO()) as printed:
        pytest.main([*_OPTIONS, *_TESTS])
    return sorted(set(re.findall(r"^FAILED \S+::(test_\w+)", printed.getvalue(), re.MULTILINE)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
