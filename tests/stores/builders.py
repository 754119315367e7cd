"""Short ways to the values that stores take, and to requests in each state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.core.model import Charge, NewRequest, PlanMark, UnitPrice, Usage
from orchestrator.core.states import Event, State
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import (
    Dependent,
    Duplicate,
    OpenAttempt,
    OtherRequest,
    PendingRequest,
    RequestRecord,
    ResultRecord,
    Run,
    Spending,
    Summary,
)
from orchestrator.stores.writes import Acceptance, Claim, Ending, NewRun, Requeue

NOW = 1_790_000_000.0

PRICE = UnitPrice(
    model="gpt-5-mini",
    tier="default",
    input=250_000,
    cached=25_000,
    cache_write=0,
    cache_write_12h=500_000,
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


# The event by which the end of an attempt brings its request to a state.
EVENT_TO = {
    State.SUCCEEDED: Event.SUCCEED,
    State.FAILED: Event.FAIL,
    State.CANCELLED: Event.CANCEL,
    State.PENDING: Event.RETRY,
    State.IN_DOUBT: Event.LOSE,
    State.AWAITING_TOOLS: Event.CALL,
}


@dataclass
class Harness:
    """A run with its store and reader, and the usual steps of a request in one call each."""

    store: Store
    reader: Reader
    run: Run

    # ── steps ─────────────────────────────────────────────────────────────────────────────────────────────

    async def add(self, count: int, start: int = 0) -> list[PendingRequest]:
        await self.store.add_rows(self.run.id, rows(count, start), [], mark(start + count))
        return await self.fresh()

    async def try_claim(
        self, request: PendingRequest, **changes: Any
    ) -> int | Spending | Duplicate | list[OtherRequest] | None:
        return await self.store.claim(a_claim(request.id, **({"run_id": self.run.id} | changes)))

    async def claim(self, request: PendingRequest, **changes: Any) -> int:
        number = 1 + len(await self.reader.attempts(request.id))
        key = f"{self.run.uid}-{request.key}-{number}"
        changes = {"stage": request.stage, "number": number, "idempotency_key": key} | changes
        attempt_id = await self.try_claim(request, **changes)
        assert isinstance(attempt_id, int)
        return attempt_id

    async def accept(
        self, request: PendingRequest, attempt_id: int, *, response_id: str = "", at: float = NOW, **changes: Any
    ) -> bool:
        given: dict[str, Any] = {"request_id": request.id, "attempt_id": attempt_id, "status": "queued", "at": at}
        return await self.store.accept(Acceptance(response_id=response_id or f"resp_{attempt_id}", **given | changes))

    async def submit(self, request: PendingRequest, *, at: float = NOW, response_id: str = "", **changes: Any) -> int:
        attempt_id = await self.claim(request, at=at, **changes)
        assert await self.accept(request, attempt_id, at=at, response_id=response_id)
        return attempt_id

    async def settle(
        self, request: PendingRequest, attempt_id: int, to: State, **changes: Any
    ) -> list[Dependent] | None:
        """End an attempt; returns the requests that moved with it."""
        values: dict[str, Any] = {"from_state": State.SUBMITTED, "at": NOW + 10, "status": "completed"}
        if to is State.SUCCEEDED:
            values |= {"output_text": "An answer.", "body": b'{"id": "resp"}', "charge": a_charge()}
        event = Event.CONTINUE if changes.get("continuation") else EVENT_TO[to]
        values |= {"request_id": request.id, "attempt_id": attempt_id, "event": event}
        return await self.store.end(Ending(**(values | changes)))

    async def end(self, request: PendingRequest, attempt_id: int, to: State, **changes: Any) -> bool:
        return await self.settle(request, attempt_id, to, **changes) is not None

    async def succeed(self, request: PendingRequest, **changes: Any) -> int:
        attempt_id = await self.submit(request)
        assert await self.end(request, attempt_id, State.SUCCEEDED, **changes)
        return attempt_id

    async def fail(self, request: PendingRequest, **changes: Any) -> int:
        attempt_id = await self.submit(request)
        assert await self.end(request, attempt_id, State.FAILED, **changes)
        return attempt_id

    async def retry(self, request: PendingRequest, **changes: Any) -> int:
        """Send a request, and put it back into the queue when its response has ended."""
        attempt_id = await self.submit(request)
        assert await self.end(request, attempt_id, State.PENDING, **changes)
        return attempt_id

    async def lose(self, request: PendingRequest, **changes: Any) -> int:
        attempt_id = await self.claim(request)
        changes = {"from_state": State.SUBMITTING, "code": "submit_in_doubt", "status": None} | changes
        assert await self.end(request, attempt_id, State.IN_DOUBT, **changes)
        return attempt_id

    async def requeue(
        self,
        *states: State,
        code: str | None = None,
        flag: str | None = None,
        in_doubt: str | None = None,
        at: float = NOW + 30,
    ) -> int:
        return await self.store.requeue(
            Requeue(run_id=self.run.id, states=states, code=code, flag=flag, resolve_in_doubt=in_doubt, at=at)
        )

    async def flush(self) -> None:
        """Have the notes written, by a verb that is waited for."""
        await self.store.remember("flush", b"")

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────

    async def fresh(self) -> list[PendingRequest]:
        return await self.reader.fresh(self.run.id, after_id=0, limit=10_000)

    async def delayed(self) -> list[PendingRequest]:
        return await self.reader.delayed(self.run.id, limit=10_000)

    async def open_attempts(self) -> list[OpenAttempt]:
        return await self.reader.open_attempts(self.run.id)

    async def results(self, *states: State) -> list[ResultRecord]:
        """The results of requests in some states, or in any."""
        return [record async for record in self.reader.results(self.run.id, states or list(State))]

    async def request(self, key: str) -> RequestRecord:
        found = await self.reader.request(self.run.id, key)
        assert found is not None
        return found

    async def current_run(self) -> Run:
        found = await self.reader.run(self.run.name)
        assert found is not None
        return found

    async def summary(self) -> Summary:
        return await self.reader.summary(self.run.id)

    async def states(self) -> dict[State, int]:
        return {state: count for state, count in (await self.summary()).requests.items() if count}
