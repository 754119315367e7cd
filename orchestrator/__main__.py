"""``orchestrator``, and ``python -m orchestrator``."""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from orchestrator.cli.app import invoke
    from orchestrator.cli.output import hold_standard_streams

    # Hardly anything here is part of a cycle: to look for them as often as Python does by default takes a tenth of
    # all CPU time. A program that uses the package decides that for itself.
    gc.set_threshold(50_000, 20, 20)
    hold_standard_streams()
    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
