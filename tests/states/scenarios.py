"""Small runs against the sandbox that together use every entry of the state table, each with the end it must have.

``python -m tests.states.scenarios NAME`` plays one: it exits with 1 if the run ends in another way, and prints the
entries of the table that it used, one per line.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, TypeAlias

import anyio

from orchestrator import Config, load_job
from orchestrator.app.api import Orchestrator
from orchestrator.core.states import TRANSITIONS, Event, State
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.serve import running_sandbox
from orchestrator.stores.sql import write_operations
from orchestrator.stores.sql.transaction import Transaction
from orchestrator.testing import FastClock

__all__ = ["SCENARIOS"]

_SPEED = 60.0
_LATENCY = {"queue": 0, "run": 2}
# One response at a time, so that rows are sent in their order.
_IN_ORDER = {"max_in_flight": 1}
_REQUEST = {"model": "{{ model }}", "input": "Sum up: {{ text }}", "max_output_tokens": 1_000}
_ANSWERED, _REFUSED, _UNKNOWN = "gpt-5-mini", "sandbox-refusal", "no-such-model"
_CHAIN = {"chain": {"by": "talk", "order": "turn"}}
_SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["glad", "sad"]}},
    "required": ["mood"],
    "additionalProperties": False,
}
_TOOL = {
    "type": "function",
    "name": "price",
    "description": "The price of a crop.",
    "parameters": {
        "type": "object",
        "properties": {"year": {"type": "integer"}},
        "required": ["year"],
        "additionalProperties": False,
    },
    "strict": True,
}
_TOOLS = {"request": _REQUEST | {"tools": [_TOOL]}, "handlers": {"price": "scenario_tools:price"}}
_HANDLERS = """
import asyncio

waits = False


async def price(year):
    if waits:
        await asyncio.sleep(600)
    return "a dollar"
"""


@dataclass(kw_only=True)
class Place:
    """A folder with a job, a sandbox and a database; each call opens the database as a process of its own does."""

    folder: Path
    clock: FastClock
    base_url: str
    rows: list[dict[str, Any]]
    job: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def open(self) -> Orchestrator:
        ample = {"requests_per_minute": 60_000, "tokens_per_minute": 10_000_000, "polls_per_minute": 60_000}
        config = {"provider": {"base_url": self.base_url}} | self.config
        config["limits"] = ample | config.get("limits", {})
        database = self.folder / "runs.db"
        return Orchestrator(Config.model_validate(config), database=database, clock=self.clock, rng=random.Random(1))

    async def run(self, name: str = "r") -> dict[str, Any]:
        """Run the job, or resume it."""
        async with self.open() as orchestrator:
            await self._start(orchestrator, name)
        return await self.end(name)

    async def run_until(
        self, state: State, then: Callable[[Orchestrator], Awaitable[object]], name: str = "r"
    ) -> dict[str, Any]:
        """Run the job, and do something as soon as a request is in a state."""
        async with self.open() as orchestrator, anyio.create_task_group() as tasks:

            async def act() -> None:
                while not orchestrator.progress.requests[state]:  # noqa: ASYNC110  # the counts give no signal
                    await anyio.sleep(0.02)
                await then(orchestrator)

            tasks.start_soon(act)
            await self._start(orchestrator, name)
        return await self.end(name)

    async def _start(self, orchestrator: Orchestrator, name: str) -> None:
        job = {"name": "scenario", "input": {"path": "rows.jsonl", "key": "id"}, "request": _REQUEST} | self.job
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        (self.folder / "job.yaml").write_text(json.dumps(job))
        await orchestrator.run(load_job(self.folder / "job.yaml"), name=name)

    async def retry(self, name: str = "r", **chosen: Any) -> int:
        async with self.open() as orchestrator:
            return await orchestrator.retry(name, **chosen)

    async def cancel(self, name: str = "r") -> dict[str, Any]:
        async with self.open() as orchestrator:
            await orchestrator.cancel(name)
        return await self.end(name)

    async def codes(self, name: str = "r") -> list[str | None]:
        async with self.open() as orchestrator:
            return [result.code async for result in orchestrator.results(name)]

    async def end(self, name: str) -> dict[str, Any]:
        """How a run stands: its requests by state, its attempts, and how many answers there are."""
        async with self.open() as orchestrator:
            summary = await orchestrator.status(name)
            answers = [result.output_text async for result in orchestrator.results(name)]
        states = {state.value: count for state, count in summary.requests.items() if count}
        return states | {"attempts": summary.attempts, "answers": sum(bool(text) for text in answers)}


# Makes a place from its rows, and from a sandbox's faults, handlers of tools, a job and a config.
Make: TypeAlias = Callable[..., AbstractAsyncContextManager[Place]]


def rows(*models: str, **columns: Sequence[Any]) -> list[dict[str, Any]]:
    """One row for each model, each with a text of its own unless the columns say otherwise."""
    made = [
        {"id": f"row-{n}", "text": f"Report {n} was read to the town.", "model": model}
        for n, model in enumerate(models)
    ]
    return [row | {name: values[n] for name, values in columns.items()} for n, row in enumerate(made)]


def talks(*models: str) -> list[dict[str, Any]]:
    """Chains of two turns each, the first turns before the second ones."""
    return rows(*models, talk=[n % 2 for n in range(4)], turn=[n // 2 for n in range(4)])


def expect(what: str, found: object, expected: object) -> None:
    assert found == expected, f"{what}: expected {expected}, found {found}"


@asynccontextmanager
async def _held(make: Make) -> AsyncIterator[Place]:
    """A run whose one request is in doubt."""
    config = {"in_doubt": {"resend_below_usd": 0}}
    async with make(rows(_ANSWERED), faults={"drop_after": 1, "calm_after": 1}, config=config) as at:
        expect("run", await at.run(), {"in_doubt": 1, "attempts": 1, "answers": 0})
        yield at


# ── the scenarios ─────────────────────────────────────────────────────────────────────────────────────────────


async def answers(make: Make) -> None:
    async with make(rows(_ANSWERED, _ANSWERED)) as at:
        expect("run", await at.run(), {"succeeded": 2, "attempts": 2, "answers": 2})


async def rate_limited(make: Make) -> None:
    async with make(rows(_ANSWERED), faults={"rate_limited": 1, "calm_after": 1}) as at:
        expect("run", await at.run(), {"succeeded": 1, "attempts": 1, "answers": 1})


async def failures(make: Make) -> None:
    """A failed response is tried again; a refusal and a refused create are not; ``retry`` brings both back."""
    faults = {"failed_server_error": 1, "calm_after": 1}
    models = (_ANSWERED, _REFUSED, _UNKNOWN)
    async with make(rows(*models), faults=faults, config={"limits": _IN_ORDER}) as at:
        expect("run", await at.run(), {"succeeded": 1, "failed": 2, "attempts": 4, "answers": 1})
        expect("requeued", await at.retry(), 2)
        expect("run again", await at.run(), {"succeeded": 1, "failed": 2, "attempts": 6, "answers": 1})


async def unsendable(make: Make) -> None:
    """A request that is larger than the limit of a minute is never sent."""
    texts = ["The town was told.", "The town was told again. " * 1_000]
    async with make(rows(_ANSWERED, _ANSWERED, text=texts), config={"limits": {"tokens_per_minute": 3_000}}) as at:
        expect("run", await at.run(), {"succeeded": 1, "failed": 1, "attempts": 1, "answers": 1})


async def lost_and_cheap(make: Make) -> None:
    config = {"in_doubt": {"resend_below_usd": 1}}
    async with make(rows(_ANSWERED), faults={"drop_after": 1, "calm_after": 1}, config=config) as at:
        expect("run", await at.run(), {"succeeded": 1, "attempts": 2, "answers": 1})


async def lost_and_resent(make: Make) -> None:
    async with _held(make) as at:
        expect("resolved", await at.retry(states=(), resolve_in_doubt="resend"), 1)
        expect("run again", await at.run(), {"succeeded": 1, "attempts": 2, "answers": 1})


async def lost_and_failed(make: Make) -> None:
    async with _held(make) as at:
        expect("resolved", await at.retry(states=(), resolve_in_doubt="fail"), 1)
        expect("run again", await at.run(), {"failed": 1, "attempts": 1, "answers": 0})


async def lost_and_cancelled(make: Make) -> None:
    async with _held(make) as at:
        expect("cancel", await at.cancel(), {"cancelled": 1, "attempts": 1, "answers": 0})


async def duplicates(make: Make) -> None:
    """Rows share an answer and a failure; a later run shares the answer, too."""
    models, texts = (
        (_ANSWERED, _ANSWERED, _REFUSED, _REFUSED),
        ("The town slept.", "The town slept.", "The town woke.", "The town woke."),
    )
    async with make(rows(*models, text=texts), job={"reuse": "same-request"}) as at:
        expect("run", await at.run(), {"succeeded": 2, "failed": 2, "attempts": 2, "answers": 2})
        expect("another run", await at.run("s"), {"succeeded": 2, "failed": 2, "attempts": 1, "answers": 2})


async def chains(make: Make) -> None:
    """A chain breaks at its first turn; ``retry`` brings that turn back, and blocks the one behind it."""
    async with make(talks(_ANSWERED, _REFUSED, _ANSWERED, _ANSWERED), job=_CHAIN) as at:
        expect("run", await at.run(), {"succeeded": 2, "failed": 2, "attempts": 3, "answers": 2})
        expect("requeued", await at.retry(), 2)
        expect("run again", await at.run(), {"succeeded": 2, "failed": 2, "attempts": 4, "answers": 2})


async def cancelled(make: Make) -> None:
    """A cancel finds chains that are open, pending and blocked; ``retry`` brings all of them back."""
    faults, config = {"stuck_in_progress": 1, "calm_after": 1}, {"limits": _IN_ORDER}
    async with make(talks(*[_ANSWERED] * 4), job=_CHAIN, faults=faults, config=config) as at:
        ended = await at.run_until(State.SUBMITTED, lambda orchestrator: orchestrator.cancel("r"))
        expect("cancel", ended, {"cancelled": 4, "attempts": 1, "answers": 0})
        expect("requeued", await at.retry(states=(State.CANCELLED,)), 4)
        expect("run again", await at.run(), {"succeeded": 4, "attempts": 5, "answers": 4})


async def cancelled_while_sent(make: Make) -> None:
    """The create fails while its run is being cancelled: the request returns to the queue and is cancelled there."""
    async with make(rows(_ANSWERED), faults={"conflict": 1}, latency=_LATENCY | {"reply": 60}) as at:
        ended = await at.run_until(State.SUBMITTING, lambda orchestrator: orchestrator.cancel("r"))
        expect("cancel", ended, {"cancelled": 1, "attempts": 1, "answers": 0})


async def tools(make: Make) -> None:
    async with make(rows(_ANSWERED), job=_TOOLS) as at:
        expect("run", await at.run(), {"succeeded": 1, "attempts": 2, "answers": 1})


async def too_many_turns(make: Make) -> None:
    async with make(rows(_ANSWERED), job=_TOOLS | {"max_turns": 1}) as at:
        expect("run", await at.run(), {"failed": 1, "attempts": 1, "answers": 0})
        expect("codes", await at.codes(), ["max_turns"])


async def tools_left(make: Make) -> None:
    """The run is stopped while a tool works, and cancelled afterwards."""
    async with make(rows(_ANSWERED), job=_TOOLS, handlers=_HANDLERS.replace("waits = False", "waits = True")) as at:

        async def stop(orchestrator: Orchestrator) -> None:
            orchestrator.stop()

        ended = await at.run_until(State.AWAITING_TOOLS, stop)
        expect("stop", ended, {"acting": 1, "attempts": 1, "answers": 0})
        expect("cancel", await at.cancel(), {"cancelled": 1, "attempts": 1, "answers": 0})


async def repaired(make: Make) -> None:
    form = {"format": {"type": "json_schema", "name": "mood", "schema": _SCHEMA, "strict": True}}
    job = {"request": _REQUEST | {"text": form}, "on_invalid": "repair"}
    async with make(rows(_ANSWERED), job=job, faults={"wrong_schema": 1, "calm_after": 1}) as at:
        expect("run", await at.run(), {"succeeded": 1, "attempts": 2, "answers": 1})


SCENARIOS: dict[str, Callable[[Make], Awaitable[None]]] = {
    scenario.__name__: scenario
    for scenario in (
        answers,
        rate_limited,
        failures,
        unsendable,
        lost_and_cheap,
        lost_and_resent,
        lost_and_failed,
        lost_and_cancelled,
        duplicates,
        chains,
        cancelled,
        cancelled_while_sent,
        tools,
        too_many_turns,
        tools_left,
        repaired,
    )
}


# ── playing them ──────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def recorded() -> Iterator[set[tuple[State, Event]]]:
    """The entries of the table that the store uses meanwhile."""
    used: set[tuple[State, Event]] = set()
    ended: list[tuple[State, Event]] = []
    moved, end = Transaction.moved, write_operations.end

    @wraps(moved)
    def note_move(tx: Transaction, run_id: int, stage: str, source: State | None, to: State, *more: Any) -> None:
        moved(tx, run_id, stage, source, to, *more)
        if source is not None:
            entries = [key for key, target in TRANSITIONS.items() if key[0] is source and target is to]
            # An end says by which event; all other moves have one that fits.
            used.update(entries if len(entries) == 1 else ended[-1:] or [(source, Event.RELEASE)])

    @wraps(end)
    def note_end(tx: Transaction, ending: Any) -> Any:
        ended.append((ending.from_state, ending.event))
        try:
            return end(tx, ending)
        finally:
            ended.clear()

    Transaction.moved, write_operations.end = note_move, note_end  # type: ignore[method-assign,assignment]
    yield used


async def play(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, recorded() as used:
        clock = FastClock(_SPEED)
        sys.path.insert(0, folder)

        @asynccontextmanager
        async def make(
            rows: list[dict[str, Any]],
            *,
            faults: dict[str, Any] | None = None,
            latency: dict[str, Any] = _LATENCY,
            handlers: str = _HANDLERS,
            **more: Any,
        ) -> AsyncIterator[Place]:
            (Path(folder) / "scenario_tools.py").write_text(handlers)
            settings = {"latency": latency, "faults": faults or {}}
            async with running_sandbox(SandboxSettings.model_validate(settings), clock=clock) as base_url:
                yield Place(folder=Path(folder), clock=clock, base_url=base_url, rows=rows, **more)

        await SCENARIOS[name](make)
    for state, event in sorted(used):
        print(state.value, event.value)  # noqa: T201  # for the process that reads it


if __name__ == "__main__":
    os.environ |= {"OPENAI_API_KEY": "sk-scenario", "SSL_CERT_FILE": os.devnull}
    anyio.run(play, sys.argv[1])
