"""Update every generated part of the documentation; with ``--check`` only name the stale pages."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.generator.pages import ROOT, pages, regenerated

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Returns 0 if every page is up to date, 1 if ``--check`` found a stale one, 2 for wrong usage."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m docs.generator [--check]\n")
        return 2
    stale = [page for page in pages() if regenerated(page.read_text()) != page.read_text()]
    for page in stale:
        if not arguments:
            page.write_text(regenerated(page.read_text()))
        _report("stale" if arguments else "written", page)
    return 1 if arguments and stale else 0


def _report(what: str, page: Path) -> None:
    sys.stdout.write(f"{what}: {page.relative_to(ROOT)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
