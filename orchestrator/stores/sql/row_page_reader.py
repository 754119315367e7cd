"""Pages of rows in SQL; see ``stores.row_pages`` for what is promised.

A search goes through a run in ranges of request ids, each one statement, until a page is full or the time is up. What
has an index (failures, open requests, flags) is taken from there, so that few rows of many are found at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from heapq import merge
from itertools import islice
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import OPEN, State
from orchestrator.stores.pulses import Pulse
from orchestrator.stores.reads import ResultRecord, Summary
from orchestrator.stores.row_pages import (
    COMPARED_CHARACTERS,
    ComparedRows,
    ComparisonPage,
    Differing,
    RowFilter,
    RowOrder,
    RowPage,
    RowPlace,
    UsedPrice,
)
from orchestrator.stores.sql.connection import Row, SqlConnection
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.sql_reader import SqlReader, excerpts_of, summary_of

__all__ = ["SqlPageReader"]

_SQL = queries("pages.sql")
_IN_RANGE = "request.id BETWEEN :first_id AND :last_id"
# The same conditions on requests that an index has named.
_SEARCH_AMONG = _SQL["search"].replace(_IN_RANGE, "request.id IN (SELECT value FROM json_each(:request_ids))")
# Request ids in one statement: a few milliseconds. The first one is small, because most pages are full at once.
_FIRST_RANGE, _RANGE, _TEXT_RANGE = 200, 20_000, 500
# Requests that an index names, in one statement.
_BATCH = 500

# The ids of a request and of the one it is compared with.
_Pair: TypeAlias = tuple[int, int | None]


@fast_dataclass(kw_only=False)
class _Span:
    """Request ids that are searched by one statement, and where the search continues after them."""

    first_id: int
    last_id: int
    ids: list[int] | None = None


_Search: TypeAlias = Callable[[_Span, bool, int], list[_Pair]]


@dataclass(slots=True)
class _Found:
    """What a search has found, in the order of the input; ``searched_to`` is where it was interrupted."""

    ids: list[_Pair] = field(default_factory=list)
    more_before: bool = False
    more_after: bool = False
    searched_to: int | None = None


class SqlPageReader(SqlReader):
    """Reads a database for the web view; a driver adds how it reads."""

    async def run_page(self, *, before_id: int | None, limit: int) -> list[Summary]:
        return await self._read(partial(_run_page, {"before_id": before_id, "limit": limit}))

    async def row_page(
        self, run_id: int, chosen: RowFilter, place: RowPlace, *, limit: int, within_s: float
    ) -> RowPage:
        def read(connection: SqlConnection) -> RowPage:
            spans = _spans(connection, run_id, chosen, place)
            found = _walk(spans, partial(_search, connection, run_id, chosen), place, limit, within_s)
            records = excerpts_of([one for one, _ in found.ids], connection)
            rows = [records[one] for one, _ in found.ids]
            return RowPage(
                rows=rows,
                more_before=found.more_before,
                more_after=found.more_after,
                searched_to=found.searched_to,
            )

        return await self._read(read)

    async def top_rows(self, run_id: int, chosen: RowFilter, order: RowOrder, *, limit: int) -> list[ResultRecord]:
        def read(connection: SqlConnection) -> list[ResultRecord]:
            first, last = _bounds(connection, run_id, RowPlace())
            parameters = {**_conditions(run_id, chosen), "first_id": first, "last_id": last, "limit": limit}
            found = connection.execute(_SQL["top_rows"], {**parameters, "sort_by": order.value}).fetchall()
            records = excerpts_of([request_id for (request_id,) in found], connection)
            return [records[request_id] for (request_id,) in found]

        return await self._read(read)

    async def comparison_page(
        self, run_ids: tuple[int, int], differing: Differing, place: RowPlace, *, limit: int, within_s: float
    ) -> ComparisonPage:
        def read(connection: SqlConnection) -> ComparisonPage:
            spans = _ranges(*_bounds(connection, run_ids[0], place), place.backward, _TEXT_RANGE)
            found = _walk(spans, partial(_compare, connection, run_ids, differing), place, limit, within_s)
            both = [each for pair in found.ids for each in pair if each is not None]
            records = excerpts_of(both, connection, characters=COMPARED_CHARACTERS)
            rows = [
                ComparedRows(one=records[one], other=None if other is None else records[other])
                for one, other in found.ids
            ]
            return ComparisonPage(
                rows=rows,
                more_before=found.more_before,
                more_after=found.more_after,
                searched_to=found.searched_to,
            )

        return await self._read(read)

    async def row_name(self, run_id: int, request_id: int) -> tuple[str, str] | None:
        found = await self._page_rows("row_name", run_id=run_id, request_id=request_id)
        return (found[0]["stage"], found[0]["key"]) if found else None

    async def before_in_queue(self, run_id: int, stage: str, request_id: int, *, most: int) -> int:
        [found] = await self._page_rows(
            "before_in_queue", run_id=run_id, stage=stage, request_id=request_id, most=most
        )
        return int(found["requests"])

    async def failures_by_code(self, run_id: int) -> dict[str, int]:
        rows = await self._page_rows("codes", run_id=run_id)
        counts = {row["code"] or "unknown": row["requests"] for row in rows}
        return dict(sorted(counts.items(), key=lambda count: (-count[1], count[0])))

    async def flags_of_run(self, run_id: int) -> dict[str, int]:
        return {row["flag"]: row["requests"] for row in await self._page_rows("flags", run_id=run_id)}

    async def pulses(self, run_id: int, *, most: int | None = None) -> list[Pulse]:
        rows = await self._page_rows("pulses", run_id=run_id)
        step = 1 if most is None else -(-len(rows) // most) or 1
        # The latest one is always among them.
        return [Pulse(**dict(row)) for row in ([*rows[:-1:step], rows[-1]] if step > 1 else rows)]

    async def latencies(self, run_id: int) -> dict[float, int]:
        rows = await self._page_rows("latencies", run_id=run_id)
        return {row["hundredths"] / 100: row["requests"] for row in rows}

    async def prices_used(self, run_id: int) -> list[UsedPrice]:
        return [UsedPrice(**dict(row)) for row in await self._page_rows("prices_used", run_id=run_id)]

    async def _page_rows(self, query: str, **parameters: Any) -> list[Row]:
        return await self._read(lambda connection: connection.rows(_SQL[query], parameters))


# ── in the connection's thread ────────────────────────────────────────────────────────────────────────────────


def _run_page(chosen: dict[str, Any], connection: SqlConnection) -> list[Summary]:
    return [summary_of(run_id, connection) for (run_id,) in connection.execute(_SQL["run_page"], chosen).fetchall()]


def _walk(spans: Iterator[_Span], search: _Search, place: RowPlace, limit: int, within_s: float) -> _Found:
    """Search one span after the other until one row more than a page is found, or the time is up."""
    found, until = _Found(), time.monotonic() + within_s
    backward = place.backward
    for span in spans:
        found.ids += search(span, backward, limit + 1 - len(found.ids))
        if len(found.ids) > limit:
            break
        if time.monotonic() > until:
            found.searched_to = span.first_id if backward else span.last_id
            break
    more = len(found.ids) > limit or found.searched_to is not None
    del found.ids[limit:]
    if backward:
        found.ids.reverse()
    found.more_before, found.more_after = (more, True) if backward else (place.request_id > 0, more)
    return found


def _bounds(connection: SqlConnection, run_id: int, place: RowPlace) -> tuple[int, int]:
    """The first and the last request id of a run that are on the page's side of its place."""
    [(first, last)] = connection.execute(_SQL["request_bounds"], {"run_id": run_id}).fetchall()
    first, last = first or 1, last or 0
    return (first, min(last, place.request_id - 1)) if place.backward else (max(first, place.request_id + 1), last)


def _spans(connection: SqlConnection, run_id: int, chosen: RowFilter, place: RowPlace) -> Iterator[_Span]:
    first, last = _bounds(connection, run_id, place)
    states = frozenset(chosen.states or ())
    if chosen.flag is not None:
        named = _named(connection, "flagged", run_id, first, last, flag=chosen.flag)
    elif states == {State.FAILED}:
        named = _failed(connection, run_id, first, last, chosen.code, place.backward)
    elif states and states <= OPEN:
        named = _named(connection, "open_requests", run_id, first, last)
    else:
        return _ranges(first, last, place.backward, _RANGE if chosen.text is None else _TEXT_RANGE)
    # Those of an index that is not read in the direction of the page are few.
    in_order = named if states == {State.FAILED} and chosen.flag is None else sorted(named, reverse=place.backward)
    return _batches(iter(in_order))


def _ranges(first: int, last: int, backward: bool, size: int) -> Iterator[_Span]:
    taken = min(_FIRST_RANGE, size)
    while first <= last:
        if backward:
            span = _Span(max(first, last - taken + 1), last)
            last = span.first_id - 1
        else:
            span = _Span(first, min(last, first + taken - 1))
            first = span.last_id + 1
        yield span
        taken = size


def _batches(ids: Iterator[int]) -> Iterator[_Span]:
    while batch := list(islice(ids, _BATCH)):
        yield _Span(min(batch), max(batch), batch)


def _named(connection: SqlConnection, query: str, run_id: int, first: int, last: int, **more: Any) -> Iterator[int]:
    chosen = {"run_id": run_id, "first_id": first, "last_id": last, **more}
    return (request_id for (request_id,) in connection.execute(_SQL[query], chosen))


def _failed(
    connection: SqlConnection, run_id: int, first: int, last: int, code: str | None, backward: bool
) -> Iterator[int]:
    """Failed requests in the order of the page: those of each code are in order in their index."""
    codes = [code]
    if code is None:
        codes = [each for each, _ in connection.execute(_SQL["codes"], {"run_id": run_id}).fetchall()]
    query = "failed_before" if backward else "failed_after"
    return merge(
        *(_named(connection, query, run_id, first, last, code=each) for each in codes),
        key=(lambda request_id: -request_id) if backward else None,
    )


def _search(
    connection: SqlConnection, run_id: int, chosen: RowFilter, span: _Span, backward: bool, limit: int
) -> list[_Pair]:
    statement = _SQL["search"] if span.ids is None else _SEARCH_AMONG
    parameters = {
        "first_id": span.first_id,
        "last_id": span.last_id,
        "request_ids": None if span.ids is None else json.dumps(span.ids),
        **_conditions(run_id, chosen),
        "limit": limit,
    }
    return [(one, None) for (one,) in connection.execute(_in_order(statement, backward), parameters)]


def _conditions(run_id: int, chosen: RowFilter) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "states": None if chosen.states is None else f" {' '.join(chosen.states)} ",
        "code": chosen.code,
        "stage": chosen.stage,
        "flag": chosen.flag,
        "pattern": None if chosen.text is None else _pattern(chosen.text),
    }


def _compare(
    connection: SqlConnection,
    run_ids: tuple[int, int],
    differing: Differing,
    span: _Span,
    backward: bool,
    limit: int,
) -> list[_Pair]:
    parameters = {
        "first_id": span.first_id,
        "last_id": span.last_id,
        "run_id": run_ids[0],
        "other_run_id": run_ids[1],
        "answers": int(differing is Differing.ANSWERS),
        "outcomes": int(differing is Differing.OUTCOMES),
        "limit": limit,
    }
    return connection.execute(_in_order(_SQL["compare"], backward), parameters).fetchall()


def _in_order(statement: str, backward: bool) -> str:
    return (
        statement.replace("\nORDER BY request.id", "\nORDER BY request.id DESC").replace(
            "\nORDER BY one.id", "\nORDER BY one.id DESC"
        )
        if backward
        else statement
    )


def _pattern(text: str) -> str:
    """A pattern for LIKE that finds a text anywhere."""
    for sign in ("\\", "%", "_"):
        text = text.replace(sign, f"\\{sign}")
    return f"%{text}%"
