"""The code blocks of README and documentation work as the page says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from docs.generator.pages import pages
from orchestrator.cli.app import build_app
from tests.docs.snippets import Snippet, commands_in, snippets_in
from tests.docs.workshop import ROOT, Workshop, orchestrator_arguments

_SNIPPETS: dict[str, list[Snippet]] = {
    name: found for page in pages() if (found := list(snippets_in(page, name := str(page.relative_to(ROOT)))))
}

# What these pages show has end-to-end tests of its own, which run at each change.
_LONG = {
    f"docs/how-to/{page}.md"
    for page in (
        "audit-and-retention",
        "chains",
        "costs",
        "duplicates",
        "estimate",
        "failures",
        "follow-a-long-task",
        "function-tools",
        "images-and-files",
        "pipelines",
        "rehearse-faults",
        "typed-records",
    )
}


# A page runs up to two dozen commands, each a process of its own.
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.long] if page in _LONG else [])
        for page, found in _SNIPPETS.items()
        if any(not each.not_run for each in found)
    ],
)
def test_the_code_of_a_page_works_from_top_to_bottom(page: str, tmp_path: Path, provider_url: str) -> None:
    workshop = Workshop(tmp_path, base_url=provider_url)
    for snippet in _SNIPPETS[page]:
        if not snippet.not_run:
            workshop.use(snippet)


def test_commands_that_are_not_run_could_be() -> None:
    consoles = [each for found in _SNIPPETS.values() for each in found if each.language == "console"]
    for snippet in consoles:
        for command in commands_in(snippet):
            if (arguments := orchestrator_arguments(command.line)) is not None:
                build_app().parse_args(arguments, exit_on_error=False, print_error=False)


def test_python_that_is_not_run_is_python() -> None:
    for found in _SNIPPETS.values():
        for snippet in found:
            if snippet.not_run and snippet.language == "python":
                compile(snippet.text, snippet.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_most_of_the_code_is_run() -> None:
    every = [snippet for found in _SNIPPETS.values() for snippet in found if snippet.language not in ("json", "text")]
    assert sum(not snippet.not_run for snippet in every) > 0.7 * len(every)
