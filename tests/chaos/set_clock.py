"""The command line with a clock that is wrong by N seconds: ``python -m tests.chaos.set_clock -3600 run …``."""

from __future__ import annotations

import sys
import time


def main(seconds: float, arguments: list[str]) -> None:
    """Runs the command line with the wrong clock."""
    true_time = time.time
    time.time = lambda: true_time() + seconds
    from orchestrator.__main__ import main as command

    sys.argv[1:] = arguments
    command()


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
