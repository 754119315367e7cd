"""A whole run in this process: rows, a job, the orchestrator on a real database, and the sandbox on a real socket."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import httpx

from orchestrator import Config, load_job
from orchestrator.app.api import Orchestrator
from orchestrator.core.clock import Clock
from orchestrator.core.errors import ExitCode
from orchestrator.core.events import RunEvent, Settled
from orchestrator.core.model import Usage
from orchestrator.core.states import State
from orchestrator.job.spec import Job
from orchestrator.report.exit_code import exit_code
from orchestrator.stores.reads import AttemptRecord, ResultRecord, Summary

from .gateway import Gateway

__all__ = ["RUN", "Account", "Rehearsal", "Rehearse", "write_job"]

RUN = "rehearsal"

# High enough to slow no test that does not set them.
AMPLE = {"requests_per_minute": 60_000, "tokens_per_minute": 100_000_000}


@dataclass(frozen=True, kw_only=True)
class Account:
    """The state of both sides after a run: our summary and results, and the sandbox's ledger."""

    summary: Summary
    results: dict[str, ResultRecord]
    ledger: dict[str, Any]

    @property
    def exit(self) -> ExitCode:
        """The exit code of the command."""
        return exit_code(self.summary, None)

    @property
    def states(self) -> dict[str, int]:
        """How many requests are in each state, without empty states."""
        return {state.value: n for state, n in self.summary.requests.items() if n}

    @property
    def codes(self) -> dict[str | None, int]:
        """The codes of the rows that failed or were cancelled."""
        return dict(Counter(row.code for row in self.results.values() if row.state is not State.SUCCEEDED))

    @property
    def creates(self) -> int:
        """The create calls that reached the sandbox."""
        return int(self.ledger["creates"]["calls"])

    @property
    def accepted(self) -> int:
        """The responses that the sandbox created."""
        return int(self.ledger["creates"]["accepted"])

    @property
    def refused(self) -> dict[str, int]:
        """The creates that the sandbox refused, by fault."""
        return {name: n for name, n in self.ledger["creates"]["refused"].items() if name != "total"}

    @property
    def lost(self) -> int:
        """The replies to creates that the sandbox lost on purpose."""
        return int(self.ledger["replies_lost"]["total"])

    @property
    def delivered(self) -> dict[str, int]:
        """The responses by their reported final status."""
        return dict(self.ledger["seen_by_client"]["responses"])

    def check_bill(self) -> None:
        """Assert that both sides have exactly the same bill."""
        summary, seen = self.summary, self.ledger["seen_by_client"]
        assert summary.cost_pusd == seen["cost_pusd"]
        assert summary.usage == Usage(**seen["usage"])
        assert summary.cost_unknown >= seen["unpriced"]

    def check(self) -> None:
        """Assert what holds after any run: the rows add up, and no cost is counted as zero."""
        summary = self.summary
        rows = self.results.values()
        assert sum(row.attempts for row in rows) == summary.attempts
        assert sum(row.possible_duplicates for row in rows) == summary.possible_duplicates
        assert sum((row.usage or Usage() for row in rows), Usage()) == summary.usage
        # What was paid for twice was sent twice, or no more than what we said may have been.
        repeated = sum(max(0, row.attempts - 1) for row in rows)
        assert self.ledger["duplicates"]["usable"] <= repeated + summary.possible_duplicates
        assert summary.reserved_pusd == 0 or {State.SUBMITTING, State.SUBMITTED, State.IN_DOUBT} & {
            state for state, n in summary.requests.items() if n
        }


@dataclass(kw_only=True)
class Rehearsal:
    """One job and one sandbox; each call works like a separate process, with what is on disk."""

    folder: Path
    base_url: str
    clock: Clock
    job: Job
    config: Config
    # Between orchestrator and sandbox, if the test asks for it.
    gateway: Gateway | None = None
    events: list[RunEvent] = field(default_factory=list)

    def ask_for(self, **request: Any) -> None:
        """Add fields to the job's request, before the first run."""
        self.job = self.job.model_copy(update={"request": {**self.job.request, **request}})

    def orchestrator(self) -> Orchestrator:
        """Returns an orchestrator as in a new process."""
        return Orchestrator(
            self.config, database=self.folder / "runs.db", observers=[self.events.append], clock=self.clock
        )

    async def run(self, *, same_bill: bool = True) -> Account:
        """Run the job or resume it, and compare both sides.

        Where a gateway makes up answers of its own, the sandbox's bill is another: ``same_bill`` is False.
        """
        async with self.orchestrator() as orchestrator:
            summary = await orchestrator.run(self.job, name=RUN)
            # What a display shows at the end is what is stored.
            shown = {state: count for state, count in orchestrator.progress.requests.items() if count}
            stored = {state: count for state, count in summary.requests.items() if count}
            assert shown == stored or not orchestrator.progress.run
        return await self.account(same_bill=same_bill)

    async def stopped_after(self, seconds: float) -> Account:
        """Run the job, and stop it by a signal after so long."""
        async with self.orchestrator() as orchestrator, anyio.create_task_group() as tasks:
            tasks.start_soon(self._interrupt_after, orchestrator, seconds)
            await orchestrator.run(self.job, name=RUN)
        return await self.account()

    async def _interrupt_after(self, orchestrator: Orchestrator, seconds: float) -> None:
        await self.clock.sleep_until(self.clock.now() + seconds)
        orchestrator.stop()

    async def cancelled_after(self, seconds: float) -> Account:
        """Run the job, stop it after so long, and cancel the run."""
        await self.stopped_after(seconds)
        async with self.orchestrator() as orchestrator:
            await orchestrator.cancel(RUN)
        return await self.account()

    async def files(self) -> list[dict[str, Any]]:
        """What the sandbox keeps of uploaded files and of those that batches wrote."""
        async with httpx.AsyncClient(verify=False, timeout=600) as http:  # noqa: S501
            reply = await http.get(f"{self.base_url}/files", headers={"Authorization": "Bearer sk-test"})
        return list(reply.json()["data"])

    async def account(self, *, same_bill: bool = True) -> Account:
        """Returns the current state of both sides."""
        async with self.orchestrator() as orchestrator:
            results = {row.key: row async for row in orchestrator.results(RUN, states=tuple(State), with_parts=True)}
            account = Account(
                summary=await orchestrator.status(RUN), results=results, ledger=await self.ask("/_ledger")
            )
        account.check()
        if same_bill:
            account.check_bill()
        settled = Counter(event.key for event in self.events if isinstance(event, Settled))
        assert not self.settles_once or max(settled.values(), default=0) <= 1
        return account

    settles_once: bool = True

    async def retry(self, **which: Any) -> int:
        """Queue settled rows again, as the command does."""
        async with self.orchestrator() as orchestrator:
            self.settles_once = False
            return await orchestrator.retry(RUN, **which)

    async def attempts(self, key: str) -> Sequence[AttemptRecord]:
        """Every attempt at a row, in order."""
        async with self.orchestrator() as orchestrator:
            return (await orchestrator.show(RUN, key)).attempts

    async def spent(self) -> int:
        """The attempts of all rows that count against their allowance."""
        return sum([attempt.counted for key in await self._keys() for attempt in await self.attempts(key)])

    async def _keys(self) -> list[str]:
        async with self.orchestrator() as orchestrator:
            return [row.key async for row in orchestrator.results(RUN, states=tuple(State), with_parts=True)]

    async def responses(self) -> list[dict[str, Any]]:
        """Returns what the sandbox reports of each response that it created, in order."""
        return [json.loads(line) for line in (await self._get("/_ledger/responses")).text.splitlines()]

    async def ask(self, path: str) -> Any:
        """Returns the JSON of a page of the sandbox."""
        return (await self._get(path)).json()

    async def _get(self, path: str) -> httpx.Response:
        # Loading certificates takes longer than most of these tests, and none uses TLS.
        async with httpx.AsyncClient(verify=False, timeout=600) as http:  # noqa: S501
            return await http.get(self.base_url.removesuffix("/v1") + path)


Rehearse: TypeAlias = Callable[..., Coroutine[Any, Any, Rehearsal]]


def write_job(folder: Path, rows: int | Sequence[str], job: dict[str, Any]) -> Job:
    """A job file over so many rows, or over rows of these keys; ``job`` changes fields, those of ``request`` each."""
    keys = [f"row-{n}" for n in range(rows)] if isinstance(rows, int) else rows
    fields = [{"id": key, "text": _speech(n), "n": n} for n, key in enumerate(keys)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in fields))
    request = {
        "model": "gpt-5-mini",
        "input": "Summarise in two sentences:\n{{ text }}",
        "max_output_tokens": 400,
        **job.pop("request", {}),
    }
    whole = {"name": "speeches", "input": {"path": "rows.jsonl", "key": "id"}, "request": request, **job}
    (folder / "job.yaml").write_text(json.dumps(whole))  # YAML is a superset of JSON
    return load_job(folder / "job.yaml")


def _speech(number: int) -> str:
    topics = ["the harbour", "the railways", "our treaties", "the harvest", "public schools", "the navy"]
    return " ".join(
        f"In year {1800 + number} the report on {topics[(number + turn) % len(topics)]} was read aloud in full."
        for turn in range(4)
    )
