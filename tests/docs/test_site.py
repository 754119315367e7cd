"""The documentation site: links of the repository become those of the site, and a broken one is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.generator.pages import ROOT
from docs.site_check import broken_links
from docs.site_hooks import site_markdown, site_path


@pytest.mark.parametrize(
    ("page", "text", "moved"),
    [
        ("docs/how-to/view.md", "[a](nightly.md#times)", "[a](nightly.md#times)"),
        ("docs/how-to/view.md", "![a](../pictures/view.png)", "![a](../pictures/view.png)"),
        ("docs/architecture.md", "[a](../CONTRIBUTING.md)", "[a](CONTRIBUTING.md)"),
        ("docs/how-to/view.md", "[a](../../README.md)", "[a](../index.md)"),
        ("CONTRIBUTING.md", "[a](docs/architecture.md)", "[a](architecture.md)"),
        ("docs/where-is.md", "[a](../pyproject.toml)", "[a](files/pyproject.toml.txt)"),
        ("docs/how-to/view.md", "[`a`](../../pyproject.toml)", "[`a`](../files/pyproject.toml.txt)"),
        ("docs/where-is.md", "the [folder](../orchestrator) there", "the folder there"),
        ("docs/where-is.md", "[a](https://example.org/x.md) [b](#here)", "[a](https://example.org/x.md) [b](#here)"),
        ("docs/where-is.md", "```\n[a](../pyproject.toml)\n```", "```\n[a](../pyproject.toml)\n```"),
        # It stays, and fails the build.
        ("docs/where-is.md", "[a](../not-there.md)", "[a](../not-there.md)"),
    ],
)
def test_links_of_the_repository_become_those_of_the_site(page: str, text: str, moved: str) -> None:
    assert site_markdown(text, page) == moved


def test_a_program_of_the_documentation_is_a_file_of_the_site() -> None:
    assert site_path("docs/screenshots.py") == "files/docs/screenshots.py.txt"
    assert site_path("docs/index.md") == "index.md"
    assert site_path("docs/none") == "none"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in navigation] == []


def test_what_leads_nowhere_and_what_is_loaded_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "how-to").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">x</h1><a href="how-to/a.html#there">good</a><a href="#top">good</a><a href="https://example.org">'
        'good</a><a href="how-to/a.html#gone">bad</a><a href="b.html">bad</a><a href="../x.html">bad</a>'
        '<script src="https://cdn.example.org/x.js"></script><img src="picture.png"><a href="how-to">bad</a>'
    )
    (tmp_path / "how-to" / "a.html").write_text(
        '<h2 id="there">x</h2><a href="../index.html">good</a><a href="/">good</a>'
    )
    assert sorted(broken_links(tmp_path)) == [
        "index.html: ../x.html: no such file",
        "index.html: b.html: no such file",
        "index.html: how-to/a.html#gone: no such heading",
        "index.html: how-to: no such file",
        "index.html: https://cdn.example.org/x.js is loaded from elsewhere",
        "index.html: picture.png: no such file",
    ]
