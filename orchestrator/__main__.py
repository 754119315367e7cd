"""``orchestrator``, and ``python -m orchestrator``."""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Hardly anything here is part of a cycle: the garbage collector's default pace takes a tenth of all CPU time, of
    # imports too. A program that uses the package sets its own pace.
    gc.set_threshold(50_000, 20, 20)
    from orchestrator.cli.app import invoke
    from orchestrator.cli.output import hold_standard_streams

    hold_standard_streams()
    code = invoke(sys.argv[1:])
    # Python would collect once more at exit, for a tenth of a second, although the memory is freed right after.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
