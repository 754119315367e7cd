"""Print the measures of the package; ``-v`` lists the places, and a path prefix shows the old words below it."""

from __future__ import annotations

import sys

from tests.structure.report import report
from tests.structure.words import findings

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Prints to standard output; always 0, because the tests hold the bounds."""
    prefixes = tuple(each for each in arguments if not each.startswith("-"))
    lines = (str(each) for each in findings() if each.path.startswith(prefixes))
    for line in lines if prefixes else report(details="-v" in arguments):
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
