"""The code blocks of a page, with what the invisible comment before each says about it.

``<!-- file: NAME -->`` names the file that the reader makes of the block, ``<!-- not run: REASON -->`` says why the
tests only read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Command", "Snippet", "commands_in", "snippets_in"]

_FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_REMARK = re.compile(r"<!-- (?P<kind>file|not run): (?P<words>[^>]+?) -->\s*\Z")
_GENERATED = re.compile(r"<!-- generated: .*?<!-- end of generated -->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Snippet:
    """One block; ``where`` is ``page:line``."""

    where: str
    language: str
    text: str
    file: str | None = None
    not_run: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block, and the lines that the page shows below it."""

    line: str
    output: tuple[str, ...]


def snippets_in(page: Path, name: str) -> Iterator[Snippet]:
    """The blocks that people wrote, in their order; generated ones are true by themselves."""
    text = page.read_text()
    generated = [found.span() for found in _GENERATED.finditer(text)]
    for fence in _FENCE.finditer(text):
        if any(begin <= fence.start() < end for begin, end in generated):
            continue
        remark = _REMARK.search(text, 0, fence.start())
        said = {remark["kind"]: remark["words"]} if remark else {}
        line = text.count("\n", 0, fence.start()) + 1
        yield Snippet(f"{name}:{line}", fence["language"], fence["text"], said.get("file"), said.get("not run"))


def commands_in(snippet: Snippet) -> list[Command]:
    """The lines that begin with ``$``, those that continue them, and what is shown below."""
    commands: list[Command] = []
    for line in snippet.text.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line.removeprefix("$ "), ()))
        elif commands and commands[-1].line.endswith("\\"):
            commands[-1] = Command(f"{commands[-1].line}\n{line}", ())
        else:
            assert commands, f"{snippet.where} shows output before any command"
            commands[-1] = Command(commands[-1].line, (*commands[-1].output, line))
    return commands
