"""Flags and samples in SQL; see ``stores.flags`` and ``stores.pulses`` for what is promised."""

from __future__ import annotations

from orchestrator.stores.pulses import pulse_number, pulse_step
from orchestrator.stores.sql.group_writer import GroupWriter
from orchestrator.stores.sql.queries import queries
from orchestrator.stores.sql.transaction import Transaction, storable

__all__ = ["SqlFlagStore"]

_SQL = queries("flags.sql")


class SqlFlagStore:
    """Flags and samples, for a store that has a writer."""

    _writer: GroupWriter

    async def set_flag(self, request_id: int, flag: str | None, note: str, at: float) -> bool:
        return await self._writer.write(_set_flag, request_id, flag, note, at)

    async def add_pulse(self, run_id: int, at: float) -> None:
        self._writer.note(("pulse", run_id), _add_pulse, run_id, at)


# ── in the writer's thread ────────────────────────────────────────────────────────────────────────────────────


def _set_flag(tx: Transaction, request_id: int, flag: str | None, note: str, at: float) -> bool:
    if flag is None:
        tx.execute(_SQL["clear_flag"], {"request_id": request_id})
    else:
        tx.execute(
            _SQL["set_flag"], {"request_id": request_id, "flag": storable(flag), "note": storable(note), "at": at}
        )
    return tx.execute(_SQL["request_exists"], {"request_id": request_id}).fetchone() is not None


def _add_pulse(tx: Transaction, run_id: int, at: float) -> None:
    number = pulse_number(at)
    first: int | None = tx.execute(_SQL["first_pulse"], {"run_id": run_id}).fetchone()[0]
    step = pulse_step(number if first is None else first, number)
    if number % step:
        return
    # The counts of this transaction are written at its end, so a sample is as old as the group before.
    tx.execute(_SQL["add_pulse"], {"run_id": run_id, "number": number, "at": at})
    if step > 1:
        tx.execute(_SQL["thin_pulses"], {"run_id": run_id, "step": step})
