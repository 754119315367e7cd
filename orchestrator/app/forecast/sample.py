"""Looks at a job's rows without storing them: at all, or at enough of them to tell what the rest is like."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from orchestrator.core.errors import BadRow
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.keyed_rows import Row, open_rows
from orchestrator.job.rows.sources import STDIN, Source, find_sources, resolve_format
from orchestrator.job.spec import Job

__all__ = ["EvenSample", "Glance", "glance", "requests_of"]

T = TypeVar("T")

_CHUNK = 256 * 1024
_GZIP = 31


@dataclass(slots=True)
class EvenSample(Generic[T]):
    """Things evenly spread over a sequence of unknown length: all of it, or from ``most`` to twice as many."""

    most: int
    kept: list[T] = field(default_factory=list)
    seen: int = 0
    _stride: int = 1

    @property
    def wants_next(self) -> bool:
        """Whether the next thing is one to keep."""
        return self.seen % self._stride == 0

    def pass_over(self) -> None:
        """The next thing is left out."""
        self.seen += 1

    def keep(self, thing: T) -> None:
        """Take the next thing in."""
        self.seen += 1
        self.kept.append(thing)
        if len(self.kept) >= 2 * self.most:
            del self.kept[1::2]
            self._stride *= 2


@dataclass(frozen=True, slots=True)
class Glance(Generic[T]):
    """What the first rows are like, and how many there are; None where only reading them all would tell.

    ``counted`` says whether all were read; elsewhere ``rows`` follows from the size of the input.
    """

    things: list[T]
    rows: int | None
    counted: bool


def requests_of(job: Job, renderer: Renderer) -> Iterator[Callable[[], dict[str, Any]]]:
    """For each row a function that renders its request; raises ``BadRow`` where a run would stop."""
    for row in open_rows(job):
        try:
            if not isinstance(row, Row):
                raise BadRow(row.reason, where=row.where)
            renderer.check(row)
        except BadRow:
            if job.input.on_bad_row == "stop":
                raise
        else:
            yield _rendering(row, renderer)


def glance(
    job: Job, renderer: Renderer, measure: Callable[[dict[str, Any]], T], *, most: int, enough: Callable[[], bool]
) -> Glance[T]:
    """Measure rows from the first on, ``most`` at most, and count on until it is enough; bad rows are passed over."""
    things: list[T] = []
    seen = looked_at = line = 0
    counted = True
    for row in open_rows(job):
        seen, line = row.position + 1, _line_of(row.where)
        if len(things) < most:
            looked_at = seen
            if isinstance(row, Row):
                with suppress(BadRow):
                    things.append(measure(renderer.render(renderer.pack(row), where=row.where)))
        if enough():
            counted = False
            break
    rows = seen if counted else _about_how_many(job, rows_a_line=seen / line if line else 1.0)
    good = len(things) / looked_at if looked_at else 1.0
    return Glance(things, None if rows is None else max(len(things), round(rows * good)), counted)


def _rendering(row: Row, renderer: Renderer) -> Callable[[], dict[str, Any]]:
    return lambda: renderer.render(renderer.pack(row), where=row.where)


def _line_of(where: str) -> int:
    line = where.rpartition(":")[2]
    return int(line) if line.isdigit() else 0


def _about_how_many(job: Job, *, rows_a_line: float) -> int | None:
    """The rows of an input by its size; ``rows_a_line`` is what the lines read so far had."""
    sources = find_sources(job.input.path, job.base_dir)
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
