"""Update what is generated of the documentation and for editors; with ``--check`` only name the stale files."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.generator.pages import ROOT, pages, regenerated
from docs.generator.schema_files import SCHEMA_FILES, schema_text

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Returns 0 if every page is up to date, 1 if ``--check`` found a stale one, 2 for wrong usage."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m docs.generator [--check]\n")
        return 2
    fresh = {page: regenerated(page.read_text()) for page in pages()} | {
        path: schema_text(path) for path in SCHEMA_FILES
    }
    stale = [path for path, text in fresh.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if not arguments:
            path.write_text(fresh[path])
        _report("stale" if arguments else "written", path)
    return 1 if arguments and stale else 0


def _report(what: str, page: Path) -> None:
    sys.stdout.write(f"{what}: {page.relative_to(ROOT)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
