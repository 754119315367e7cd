"""Where an old word still stands: in identifiers, docstrings, comments, messages, SQL, pages and file names.

String literals of tests are data (a prompt may say anything) and are not read, but their docstrings and comments are.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from tests.structure.old_words import OLD_WORDS
from tests.structure.sources import ROOT, repository_files

__all__ = ["Allowed", "Finding", "allowed", "findings", "findings_in", "unused_allowances"]

_ALLOWED = Path(__file__).with_name("allowed_words.toml")
# These name the old words themselves.
_NOT_READ = ("tests/structure/*",)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ANY_OLD_WORD = re.compile("|".join(word.pattern.pattern for word in OLD_WORDS), re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """An old word at a place, and what to write instead."""

    path: str
    line: int
    found: str
    instead: str

    @property
    def folder(self) -> str:
        """The folder that owns the file: two levels for the package and the tests, one for everything else."""
        parts = self.path.split("/")
        depth = 2 if parts[0] in ("orchestrator", "tests", "docs") and len(parts) > 2 else 1
        return "/".join(parts[:depth])

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}: {self.instead}"


@dataclass(frozen=True)
class Allowed:
    """A text that must stay, in the files that match ``where``, and why."""

    text: str
    where: tuple[str, ...]
    reason: str

    def covers(self, path: str) -> bool:
        return any(fnmatch(path, pattern) for pattern in self.where)


@dataclass(frozen=True)
class _Passage:
    """A stretch of text with its first line; a name is matched by its words."""

    text: str
    line: int
    is_name: bool = False


@cache
def allowed() -> tuple[Allowed, ...]:
    """The texts that must stay."""
    entries = tomllib.loads(_ALLOWED.read_text())["allowed"]
    return tuple(Allowed(entry["text"], tuple(entry["where"]), entry["reason"]) for entry in entries)


@cache
def findings() -> tuple[Finding, ...]:
    """Every old word of the repository."""
    read = (path for path in repository_files() if not any(fnmatch(path, pattern) for pattern in _NOT_READ))
    return tuple(finding for path in read for finding in findings_in(path, (ROOT / path).read_text()))


def findings_in(path: str, text: str, exceptions: Sequence[Allowed] | None = None) -> Iterator[Finding]:
    """The old words of one file, without those that are allowed there."""
    exceptions = allowed() if exceptions is None else exceptions
    for each in exceptions:
        if each.covers(path):
            text = text.replace(each.text, re.sub(r"\w", "_", each.text))
    for passage in _passages(path, text):
        for line, found, instead in _old_words(passage.text, passage.is_name):
            yield Finding(path, passage.line + line, found, instead)


@cache
def _old_words(text: str, is_name: bool) -> tuple[tuple[int, str, str], ...]:
    """The old words of a text, each with the number of line breaks before it and what to write instead."""
    return tuple(
        (text.count("\n", 0, found.start()), " ".join(found[0].split()), word.instead)
        for word in OLD_WORDS
        if is_name or not word.only_names
        for found in word.pattern.finditer(text)
    )


def unused_allowances() -> list[Allowed]:
    """Allowed texts that no longer stand in any file that they name."""
    return [each for each in allowed() if not any(_holds(path, each) for path in repository_files())]


def _holds(path: str, entry: Allowed) -> bool:
    return entry.covers(path) and entry.text in (ROOT / path).read_text()


def _passages(path: str, text: str) -> Iterator[_Passage]:
    yield _Passage(_words_of(path.rpartition("/")[2].partition(".")[0].replace("-", "_")), 1, is_name=True)
    if not path.endswith(".py"):
        yield _Passage(text.replace("_", " "), 1)
        return
    # Nine files of ten hold none, which one search shows sooner than their tokens.
    if not _ANY_OLD_WORD.search(_words_of(text)):
        return
    data = path.startswith("tests/")
    docstrings = _docstring_lines(text) if data else set()
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token in tokens:
        line = token.start[0]
        if token.type == tokenize.NAME:
            yield _Passage(_words_of(token.string), line, is_name=True)
        elif _is_text(token) and (not data or line in docstrings):
            yield _Passage(token.string.replace("_", " "), line)
    yield from _comments(tokens)


def _comments(tokens: Sequence[tokenize.TokenInfo]) -> Iterator[_Passage]:
    """Comments on lines that follow each other are one passage, as a phrase may be broken between them."""
    first, lines = 0, list[str]()
    for token in tokens:
        if token.type == tokenize.COMMENT:
            if token.start[0] != first + len(lines):
                yield _Passage("\n".join(lines), first)
                first, lines = token.start[0], []
            lines.append(token.string.replace("_", " "))
    yield _Passage("\n".join(lines), first)


def _is_text(token: tokenize.TokenInfo) -> bool:
    # From Python 3.12 on, the texts of an f-string are tokens of their own.
    return token.type == tokenize.STRING or tokenize.tok_name[token.type] == "FSTRING_MIDDLE"


def _docstring_lines(text: str) -> set[int]:
    nodes = (
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {node.body[0].lineno for node in nodes if ast.get_docstring(node, clean=False) is not None}


def _words_of(name: str) -> str:
    return _CAMEL.sub(" ", name).replace("_", " ").strip()
