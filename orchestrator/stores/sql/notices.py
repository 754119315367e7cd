"""The outbox in SQL; see ``stores.notices`` for what is promised."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.stores.notices import MOST_TRIES, REPEAT_AFTER_S, NewNotice, PendingNotice
from orchestrator.stores.sql.group_writer import GroupWriter
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.transaction import Transaction

__all__ = ["SqlNoticeStore", "add_notices"]

_SQL = queries("notices.sql")


class SqlNoticeStore:
    """The outbox, for a store that has a writer."""

    _writer: GroupWriter

    async def add_notices(self, notices: Sequence[NewNotice]) -> None:
        await self._writer.write(add_notices, notices)

    async def take_notices(self, receivers: Sequence[str], *, at: float, for_s: float) -> list[PendingNotice]:
        chosen = {"receivers": json.dumps(receivers), "at": at, "for_s": for_s, "most_tries": MOST_TRIES}
        return await self._writer.write(_take, chosen)

    async def note_delivery(self, message_id: str, *, delivered: bool, error: str | None, at: float) -> None:
        await self._writer.write(_note, {"message_id": message_id, "delivered": delivered, "error": error, "at": at})


# ── in the writer's thread ────────────────────────────────────────────────────────────────────────────────────


def add_notices(tx: Transaction, notices: Sequence[NewNotice]) -> None:
    """Add notices to the outbox, except those that their receivers had within a day."""
    tx.execute_many(_SQL["add_notice"], ({**asdict(each), "repeat_after_s": REPEAT_AFTER_S} for each in notices))


def _take(tx: Transaction, chosen: dict[str, Any]) -> list[PendingNotice]:
    names = ("message_id", "run_id", "event", "receiver", "payload", "tries")
    rows = tx.execute(_SQL["take_notices"], chosen).fetchall()
    return [PendingNotice(**dict(zip(names, row, strict=True))) for _, *row in sorted(rows)]


def _note(tx: Transaction, columns: dict[str, Any]) -> None:
    tx.execute(_SQL["note_delivery"], columns)
