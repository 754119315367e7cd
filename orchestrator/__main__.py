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
    code = invoke(sys.argv[1:])
    # At its end Python looks for them once more, for a tenth of a second; the memory is free a moment later anyway.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
