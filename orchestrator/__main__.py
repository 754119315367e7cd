"""``orchestrator``, and ``python -m orchestrator``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from orchestrator.cli.app import invoke
    from orchestrator.cli.output import hold_standard_streams

    hold_standard_streams()
    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
