"""The writer of a PostgreSQL database: each group in one transaction, in the thread of its session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import psycopg

from orchestrator.core.errors import StoreError
from orchestrator.stores.database_address import shown_address
from orchestrator.stores.postgres.connection import PostgresConnection
from orchestrator.stores.postgres.database import is_unusable, store_error
from orchestrator.stores.postgres.group_verbs import GROUPED
from orchestrator.stores.postgres.transaction import PostgresTransaction
from orchestrator.stores.postgres.writing_session import Session
from orchestrator.stores.sql.group_writer import GroupWriter, Outcome, Write, apart_if_refused
from orchestrator.stores.sql.transaction import Known

__all__ = ["PostgresWriter"]

T = TypeVar("T")

_BUSY_TIMEOUT_S = 30.0


class PostgresWriter(GroupWriter):
    """Writes through one session; ``lock`` and the like use the same one, between two groups."""

    def __init__(self, url: str, session: Session, thread: ThreadPoolExecutor) -> None:
        super().__init__(shown_address(url))
        self._session = session
        self._thread = thread
        self._known = Known()

    def now(self, function: Callable[[Session], T]) -> T:
        """Run a function on the session, and wait for it; for the few calls that cannot be awaited."""
        future = self._thread.submit(function, self._session)
        try:
            return future.result(_BUSY_TIMEOUT_S)
        except psycopg.Error as error:
            raise store_error(error, self._place) from error
        except TimeoutError as error:
            raise StoreError("the server does not answer", where=self._place, hint="check that it runs") from error

    async def aclose(self) -> None:
        # What waits for a server that is gone must not wait longer.
        self._session.closing.set()
        await super().aclose()

    async def _commit_group(self, group: Sequence[Write]) -> list[Outcome]:
        return await asyncio.wrap_future(self._thread.submit(self._apply, group))

    async def _close(self) -> None:
        await asyncio.wrap_future(self._thread.submit(self._session.close))
        self._thread.shutdown(wait=False)

    def _to_user_error(self, failure: Exception) -> Exception:
        if not isinstance(failure, psycopg.Error):
            return failure
        error = store_error(failure, self._place)
        error.__cause__ = failure
        return error

    # ── in the session's thread ───────────────────────────────────────────────────────────────────────────────

    def _apply(self, group: Sequence[Write]) -> list[Outcome]:
        return apart_if_refused(self._transact, group, unusable=_ends_the_group)

    def _transact(self, writes: Sequence[Write]) -> list[Any]:
        values, tx = self._session.commit(partial(_write, self._known, writes), _finish)
        tx.committed()
        return values


def _ends_the_group(error: Exception) -> bool:
    return isinstance(error, StoreError) or is_unusable(error)


def _write(
    known: Known, writes: Sequence[Write], connection: PostgresConnection
) -> tuple[list[Any], PostgresTransaction]:
    tx = PostgresTransaction(connection, known)
    values: list[Any] = []
    for verb, same in groupby(writes, key=lambda write: write.verb):
        values += _write_all(tx, verb, list(same))
    return values, tx


def _finish(written: tuple[list[Any], PostgresTransaction]) -> None:
    written[1].write_sums()


def _write_all(tx: PostgresTransaction, verb: Callable[..., Any], writes: list[Write]) -> list[Any]:
    """Write what the same verb writes: at once if it can be, and concerns each request once."""
    grouped = GROUPED.get(verb)
    if grouped is not None and len(writes) > 1:
        values = [write.arguments[0] for write in writes]
        if len({value.request_id for value in values}) == len(values):
            return grouped(tx, values)
    return [verb(tx, *write.arguments) for write in writes]
