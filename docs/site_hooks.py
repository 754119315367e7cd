"""Hooks of the documentation site: pages link to files of the repository, which become text files of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

__all__ = ["on_files", "on_page_markdown", "site_markdown", "site_path"]

_ROOT = Path(__file__).parents[1]
_DOCS = "docs/"
# Pages that stand beside the folder of the others.
_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
_HOME = "README.md"
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<before>!?\[(?P<text>[^\]]*)\])\((?P<target>[^)\s]+)\)")


def site_path(path: str) -> str | None:
    """Where the site has a path of the repository; None for a folder, which it does not have."""
    if path in _PAGES:
        return path
    if path == _HOME:
        return "index.md"
    if path.startswith(_DOCS) and not path.endswith(".py"):
        return path.removeprefix(_DOCS)
    return f"files/{path}.txt" if (_ROOT / path).is_file() else None


def site_markdown(text: str, page: str) -> str:
    """The text of a page, named by its path in the repository, with the links of the site."""
    folder, here = posixpath.dirname(page), posixpath.dirname(site_path(page) or page)

    def moved(found: re.Match[str]) -> str:
        path, mark, anchor = found["target"].partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return found[0]
        there = site_path(posixpath.normpath(posixpath.join(folder, path)))
        # What is not there at all stays as it is, and fails the build.
        if there is None:
            exists = (_ROOT / folder / path).exists()
            return found["text"] if exists else found[0]
        return f"{found['before']}({posixpath.relpath(there, here or '.')}{mark}{anchor})"

    # Code in a text of a link is a part of the link, so only whole blocks are left alone.
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(moved, part) for part in parts)


def _linked_files(text: str, page: str) -> Iterator[str]:
    """The files of the repository that a page links to, and that are no pages."""
    for found in _LINK.finditer(_CODE.sub("", text)):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), found["target"].partition("#")[0]))
        if (site_path(path) or "").startswith("files/"):
            yield path


# ── called by MkDocs ──────────────────────────────────────────────────────────────────────────────────────────


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages beside the folder, and each file that a page links to."""
    from mkdocs.structure.files import File

    for name in _PAGES:
        files.append(File.generated(config, name, abs_src_path=str(_ROOT / name)))
    linked: set[str] = set()
    for file in files.documentation_pages():
        page = Path(str(file.abs_src_path)).relative_to(_ROOT).as_posix()
        linked.update(_linked_files((_ROOT / page).read_text(encoding="utf-8"), page))
    for path in sorted(linked):
        target = site_path(path)
        if target is not None:
            files.append(File.generated(config, target, content=(_ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of the repository into those of the site."""
    del config, files
    return site_markdown(markdown, Path(str(page.file.abs_src_path)).relative_to(_ROOT).as_posix())
