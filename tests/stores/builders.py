"""Short ways to the values that stores take, and to requests in each state."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.core.model import Charge, NewRequest, PlanMark, UnitPrice, Usage
from orchestrator.core.states import State
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import PendingRequest, Run
from orchestrator.stores.writes import Acceptance, Claim, Ending, NewRun

NOW = 1_790_000_000.0

PRICE = UnitPrice(
    model="gpt-5-mini",
    tier="default",
    input=250_000,
    cached=25_000,
    cache_write=0,
    output=2_000_000,
    source="published",
    version="7",
)


def a_run(name: str = "demo", **changes: Any) -> NewRun:
    values: dict[str, Any] = {
        "name": name,
        "uid": f"uid-of-{name}",
        "job": "summarise",
        "spec_json": '{"name": "summarise"}',
        "fingerprint": "f" * 64,
        "input_identity": "rows.jsonl 12",
        "budget_pusd": None,
        "deadline_at": None,
        "created_at": NOW,
    }
    return NewRun(**(values | changes))


def a_row(position: int, **changes: Any) -> NewRequest:
    values: dict[str, Any] = {
        "key": f"row-{position}",
        "position": position,
        "where": f"rows.jsonl:{position + 1}",
        "row": b'{"n":%d}' % position,
    }
    return NewRequest(**(values | changes))


def rows(count: int, start: int = 0) -> list[NewRequest]:
    return [a_row(position) for position in range(start, start + count)]


def mark(position: int, *, complete: bool = False) -> PlanMark:
    return PlanMark(position=position, complete=complete)


def a_claim(request_id: int, **changes: Any) -> Claim:
    values: dict[str, Any] = {
        "request_id": request_id,
        "run_id": 1,
        "stage": "main",
        "number": 1,
        "idempotency_key": f"key-{request_id}",
        "at": NOW,
        "model": "gpt-5-mini",
        "service_tier": None,
        "window": None,
        "worst_case_pusd": 5_000,
    }
    return Claim(**(values | changes))


def a_charge(cost_pusd: int | None = 1_000, **changes: Any) -> Charge:
    values: dict[str, Any] = {
        "usage": Usage(100, 40, 10, 20, 5, 120),
        "cost_pusd": cost_pusd,
        "upper_bound_pusd": None,
        "price": PRICE,
    }
    return Charge(**(values | changes))


def an_unknown_charge(upper_bound_pusd: int | None) -> Charge:
    return a_charge(None, usage=None, price=None, upper_bound_pusd=upper_bound_pusd)


@dataclass
class Desk:
    """A run with its store and reader, and the usual steps of a request in one call each."""

    store: Store
    reader: Reader
    run: Run

    async def add(self, count: int, start: int = 0) -> list[PendingRequest]:
        await self.store.add_rows(self.run.id, rows(count, start), [], mark(start + count))
        return await self.reader.fresh(self.run.id, after_id=0, limit=10_000)

    async def pending(self, request_id: int) -> PendingRequest | None:
        """A request as the sender would read it; None if it is not pending."""
        fresh = await self.reader.fresh(self.run.id, after_id=request_id - 1, limit=1)
        waiting = [*fresh, *await self.reader.delayed(self.run.id, limit=10_000)]
        return next((each for each in waiting if each.id == request_id), None)

    async def claim(self, request: PendingRequest, *, at: float = NOW, worst_case_pusd: int | None = 5_000) -> int:
        now = await self.pending(request.id)
        assert now is not None
        attempt_id = await self.store.claim(
            a_claim(
                request.id,
                run_id=self.run.id,
                stage=now.stage,
                number=now.number + 1,
                idempotency_key=f"{self.run.uid}-{request.id}-{now.epoch}",
                at=at,
                worst_case_pusd=worst_case_pusd,
            )
        )
        assert isinstance(attempt_id, int)
        return attempt_id

    async def accept(
        self, request: PendingRequest, attempt_id: int, *, response_id: str = "", at: float = NOW
    ) -> bool:
        return await self.store.accept(
            Acceptance(
                request_id=request.id,
                attempt_id=attempt_id,
                response_id=response_id or f"resp_{attempt_id}",
                status="queued",
                at=at,
            )
        )

    async def submit(self, request: PendingRequest, *, at: float = NOW, response_id: str = "") -> int:
        attempt_id = await self.claim(request, at=at)
        assert await self.accept(request, attempt_id, at=at, response_id=response_id)
        return attempt_id

    async def end(self, request: PendingRequest, attempt_id: int, to: State, **changes: Any) -> bool:
        values: dict[str, Any] = {"from_state": State.SUBMITTED, "at": NOW + 10, "status": "completed"}
        if to is State.SUCCEEDED:
            values |= {"output_text": "An answer.", "body": b'{"id": "resp"}', "charge": a_charge()}
        return await self.store.end(self.ending(request, attempt_id, to, **(values | changes))) is not None

    @staticmethod
    def ending(request: PendingRequest, attempt_id: int, to: State, **values: Any) -> Ending:
        return Ending(request_id=request.id, attempt_id=attempt_id, to=to, **values)

    async def succeed(self, request: PendingRequest, **changes: Any) -> int:
        attempt_id = await self.submit(request)
        assert await self.end(request, attempt_id, State.SUCCEEDED, **changes)
        return attempt_id

    async def lose(self, request: PendingRequest, **changes: Any) -> int:
        attempt_id = await self.claim(request)
        changes = {"from_state": State.SUBMITTING, "code": "submit_in_doubt", "status": None} | changes
        assert await self.end(request, attempt_id, State.IN_DOUBT, **changes)
        return attempt_id

    async def states(self) -> dict[State, int]:
        summary = await self.reader.summary(self.run.id)
        return {state: count for state, count in summary.requests.items() if count}


def ask(database: Path, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a person at the sqlite3 shell would see."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query, parameters).fetchall()
