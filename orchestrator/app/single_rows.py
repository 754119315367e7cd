"""Finds and cancels single rows of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.app.connections import address, endpoint_config, open_client
from orchestrator.app.sent_request import to_user_error
from orchestrator.app.stage_summaries import row_of
from orchestrator.config import Config
from orchestrator.core.clock import Clock
from orchestrator.core.errors import UsageError
from orchestrator.core.lanes import Lane
from orchestrator.core.problems import NeverSent, Refused, ReplyLost
from orchestrator.core.states import SETTLED, State
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import RequestRecord, Run

__all__ = ["RowCanceller"]

_UNSENT = (State.PENDING, State.BLOCKED)
_OPEN = (State.SUBMITTED, State.AWAITING_TOOLS)
# The provider's refusal to cancel what has ended meanwhile.
_ENDED_ALREADY = (400, 409)


class RowCanceller:
    """Cancels single rows of a run, whether or not a process is at work on it.

    A row that waits is cancelled at once. A response that is open is cancelled at the provider; the next poll of the
    run settles its row, and accounts what it cost.
    """

    def __init__(self, config: Config, database: Path | None, *, store: Store, reader: Reader, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._store = store
        self._reader = reader
        self._clock = clock

    async def cancel(self, run: Run, keys: Sequence[str], *, stage: str | None = None) -> dict[str, State]:
        """Cancel the rows of these keys; returns the state of each now."""
        rows = [await row_of(self._reader, run, key, stage=stage) for key in keys]
        for row in rows:
            if row.state not in (*_UNSENT, *_OPEN, *SETTLED):
                raise UsageError(
                    f"{row.key!r} is {row.state.value}: it may have been sent, and no response is known",
                    hint=f"orchestrator retry {run.name} --resolve-in-doubt fail gives such rows up",
                )
        for row in rows:
            if row.state in _UNSENT:
                await self._store.cancel_unsent(row.id, self._clock.now())
        if any(row.state in _OPEN for row in rows):
            await self._refuse_stranger(run)
            for row in rows:
                if row.state in _OPEN:
                    await self._cancel_response(row)
        return {key: (await row_of(self._reader, run, key, stage=stage)).state for key in keys}

    async def _cancel_response(self, row: RequestRecord) -> None:
        attempts = await self._reader.attempts(row.id)
        if attempts and attempts[-1].lane is Lane.BATCH:
            raise UsageError(
                f"{row.key!r} is a line of a batch, which cannot be cancelled alone",
                hint="orchestrator cancel RUN cancels all that is open",
            )
        response_id = attempts[-1].response_id if attempts else None
        if response_id is None:
            return
        config = endpoint_config(self._config, attempts[-1].endpoint)
        async with open_client(config, self._database) as client:
            reply = await client.cancel(response_id)
        if isinstance(reply, Refused) and reply.status in _ENDED_ALREADY:
            return
        if isinstance(reply, NeverSent | ReplyLost | Refused):
            raise to_user_error(reply, f"the response of {row.key!r}")

    async def _refuse_stranger(self, run: Run) -> None:
        retained = await self._reader.retained(run.id)
        here = address(self._config)
        if retained is not None and retained.provider != here:
            raise UsageError(
                f"the responses of run {run.name!r} are at {retained.provider}, and the config names {here}",
                hint="give the --config that the run was made with",
            )
