"""Reads a job's rows without storing them: all of them, or enough to estimate the rest."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from orchestrator.core.errors import BadRow
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.job.requests.compose import RequestRules, compose_first
from orchestrator.job.requests.renderer import Renderer, contained
from orchestrator.job.rows.keyed_rows import Row, open_rows
from orchestrator.job.rows.sources import STDIN, Source, find_sources, resolve_format
from orchestrator.job.spec import Job

__all__ = ["GLANCE_S", "EvenSample", "Glance", "about_how_many_rows", "glance", "requests_of"]

T = TypeVar("T")

# Before it starts, ``run`` estimates its cost in at most this time: more would make the range little narrower and the
# start later.
GLANCE_S = 0.25
_CHUNK = 256 * 1024
_GZIP = 31


@dataclass(slots=True)
class EvenSample(Generic[T]):
    """Items spread evenly over a sequence of unknown length: all of them, or between ``most`` and twice as many."""

    most: int
    kept: list[T] = field(default_factory=list)
    seen: int = 0
    _stride: int = 1

    @property
    def wants_next(self) -> bool:
        """Whether the next item must be kept."""
        return self.seen % self._stride == 0

    def pass_over(self) -> None:
        """Leave the next item out."""
        self.seen += 1

    def keep(self, thing: T) -> None:
        """Keep the next item."""
        self.seen += 1
        self.kept.append(thing)
        if len(self.kept) >= 2 * self.most:
            del self.kept[1::2]
            self._stride *= 2


@fast_dataclass(kw_only=False)
class Glance(Generic[T]):
    """What the first rows are like, and how many rows there are; None if only reading them all would show it.

    ``counted`` says whether all were read; if not, ``rows`` is estimated from the size of the input.
    """

    things: list[T]
    rows: int | None
    counted: bool


def requests_of(job: Job, renderer: Renderer, rules: RequestRules) -> Iterator[Callable[[], dict[str, Any]]]:
    """Yields for each row a function that composes its first request; raises ``BadRow`` if a run would stop."""
    for row in open_rows(job):
        try:
            if not isinstance(row, Row):
                raise BadRow(row.reason, where=row.where)
            renderer.check(row)
        except BadRow:
            if job.input.on_bad_row == "stop":
                raise
        else:
            yield _composing(row, renderer, rules)


def glance(
    job: Job,
    renderer: Renderer,
    measure: Callable[[dict[str, Any]], T],
    *,
    most: int,
    enough: Callable[[], bool],
    rules: RequestRules,
) -> Glance[T]:
    """Measure the first rows, at most ``most``, and count on until it is enough; bad rows are left out."""
    things: list[T] = []
    seen = tried = line = 0
    counted = True
    for row in open_rows(job):
        seen, line = row.position + 1, _line_of(row.where)
        if len(things) < most:
            tried = seen
            if isinstance(row, Row):
                with suppress(BadRow), contained(row.where):
                    things.append(measure(_composing(row, renderer, rules)()))
        if enough():
            counted = False
            break
    rows = seen if counted else about_how_many_rows(job, rows_a_line=seen / line if line else 1.0)
    good = len(things) / tried if tried else 1.0
    return Glance(things, None if rows is None else max(len(things), round(rows * good)), counted)


def _composing(row: Row, renderer: Renderer, rules: RequestRules) -> Callable[[], dict[str, Any]]:
    return lambda: compose_first(renderer, rules, renderer.pack(row), where=row.where)


def _line_of(where: str) -> int:
    line = where.rpartition(":")[2]
    return int(line) if line.isdigit() else 0


def about_how_many_rows(job: Job, *, rows_a_line: float = 1.0) -> int | None:
    """Estimates the rows of an input by its size; ``rows_a_line`` is the ratio in the lines read so far."""
    sources = find_sources(job.input.path, job.base_dir, job.input.earlier_paths)
    match resolve_format(job.input.path, job.input.format, job.base_dir):
        case "text":
            rows: float = len(sources)
        case "parquet":
            return job.input.limit
        case _ if job.input.path == STDIN:
            return job.input.limit
        case _:
            rows = sum(map(_about_how_many_lines, sources)) * rows_a_line
    return round(min(rows, job.input.limit or rows))


def _about_how_many_lines(source: Source) -> float:
    size = source.path.stat().st_size
    with source.path.open("rb") as stream:
        head = stream.read(_CHUNK)
    text = zlib.decompressobj(_GZIP).decompress(head) if source.relative.lower().endswith(".gz") else head
    return text.count(b"\n") * size / max(1, len(head))
