"""Finds the generated parts of pages: each stands between two comments that a page does not show.

``<!-- generated: NAME -->``, whatever ``BLOCKS[NAME]`` returns, ``<!-- end of generated -->``.
"""

from __future__ import annotations

import re
from pathlib import Path

from docs.generator.blocks import BLOCKS

__all__ = ["ROOT", "block_names", "pages", "regenerated"]

ROOT = Path(__file__).resolve().parents[2]

_END = "<!-- end of generated -->"
_GENERATED = re.compile(rf"(?P<begin><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end>{_END})", re.DOTALL)


def pages() -> list[Path]:
    """Every page of the documentation, README and CONTRIBUTING included."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def block_names(text: str) -> list[str]:
    """The names of the generated parts of a page."""
    return [found["name"] for found in _GENERATED.finditer(text)]


def regenerated(text: str) -> str:
    """The page with fresh generated parts; raises ``KeyError`` for an unknown name."""
    return _GENERATED.sub(lambda found: f"{found['begin']}\n{BLOCKS[found['name']]()}\n\n{found['end']}", text)
