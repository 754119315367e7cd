"""The calls under ``/_ledger``, which the provider does not have; they need no key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from orchestrator.core.clock import Clock
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.sandbox.endpoints.json_replies import json_reply
from orchestrator.sandbox.storage.ledger import Ledger, entry_of
from orchestrator.sandbox.storage.response_store import ResponseStore
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["LedgerCalls"]


class LedgerCalls:
    """Replies with what the sandbox was asked, what it did and what that cost."""

    def __init__(self, state: SandboxDatabase, responses: ResponseStore, clock: Clock, prices: PriceBook) -> None:
        self._state = state
        self._responses = responses
        self._clock = clock
        self._prices = prices

    async def summary(self, _request: Request) -> Response:
        """GET /_ledger: calls, responses and costs, as sums; needs no key."""
        # The published prices take half a second to load, which must not hold up other calls.
        await anyio.to_thread.run_sync(self._prices.load)
        ledger, now = Ledger(), self._clock.now()
        async for record in self._responses.records():
            ledger.add(entry_of(record, now, self._prices))
        return json_reply(ledger.summary(self._state.counts))

    async def entries(self, _request: Request) -> Response:
        """GET /_ledger/responses: the responses and their costs, one line of JSON each; needs no key."""
        await anyio.to_thread.run_sync(self._prices.load)
        now = self._clock.now()

        async def lines() -> AsyncIterator[bytes]:
            async for record in self._responses.records():
                yield orjson.dumps(asdict(entry_of(record, now, self._prices)), option=orjson.OPT_APPEND_NEWLINE)

        return StreamingResponse(lines(), media_type="application/jsonl")
