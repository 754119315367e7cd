"""Night after night of random edits, kills and budgets: the dataset equals a run from the beginning, paid once."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import load_job
from orchestrator.app.api import Orchestrator
from orchestrator.core.events import RunEvent, Settled
from orchestrator.core.states import RunState
from orchestrator.job.spec import Job
from orchestrator.stores.reads import Summary
from tests.stores.sqlite.audit import audit

from .rehearsal import Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

PROMPTS = ("Sum up: {{ text }}", "Sum up in brief: {{ text }}")
# Enough for the worst case of one request, and little more.
SMALL_USD = "0.0017"


@dataclass
class Edits:
    """The rows and the job as they are tonight; each night changes them at random."""

    rng: random.Random
    rows: int
    texts: dict[str, str] = field(default_factory=dict)
    prompt: str = PROMPTS[0]
    comment: str = ""
    column: str = "text"
    # What was ever to be answered: each is paid for once.
    asked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.texts = {f"row-{n}": self.text() for n in range(self.rows)}

    def text(self) -> str:
        return f"Report {self.rng.randrange(10 * self.rows)} was read aloud."

    def change(self) -> None:
        rng = self.rng
        for _ in range(rng.randrange(4)):
            self.texts[f"row-{rng.randrange(2 * self.rows)}"] = self.text()
        for key in rng.sample(sorted(self.texts), rng.randrange(3)):
            del self.texts[key]
        self.texts = dict(rng.sample(sorted(self.texts.items()), len(self.texts)))
        self.prompt = rng.choice(PROMPTS) if rng.random() < 0.3 else self.prompt
        self.comment = rng.choice(["", "{# as short as can be #}"])
        self.column = rng.choice(["text", "report"])
        self.asked |= set(self.wanted().values())

    def wanted(self) -> dict[str, str]:
        """What each row asks, and what the sandbox answers: it repeats the words."""
        return {key: self.prompt.replace("{{ text }}", text) for key, text in self.texts.items()}

    def write(self, folder: Path, **job: Any) -> Job:
        rows = ({"id": key, self.column: text, "unused": self.rng.random()} for key, text in self.texts.items())
        (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        request = {
            "model": "gpt-5-mini",
            "input": self.comment + self.prompt.replace("text", self.column),
            "max_output_tokens": 400,
        }
        whole = {"name": "speeches", "input": {"path": "rows.jsonl", "key": "id"}, "request": request, **job}
        (folder / "job.yaml").write_text(json.dumps(whole))
        return load_job(folder / "job.yaml")


async def killed_after(rehearsal: Rehearsal, job: Job, name: str, settled: int) -> None:
    """Work on a night like a process that is killed when so many of its requests are settled."""
    scope, left = anyio.CancelScope(), settled

    def observe(event: RunEvent) -> None:
        nonlocal left
        left -= isinstance(event, Settled)
        if left <= 0:
            scope.cancel()

    database = rehearsal.folder / "runs.db"
    with scope:
        async with Orchestrator(
            rehearsal.config, database=database, observers=[observe], clock=rehearsal.clock
        ) as orchestrator:
            await orchestrator.run(job, name=name)


async def answers(orchestrator: Orchestrator, name: str | None) -> dict[str, str | None]:
    """The answers of a run, or of the dataset."""
    records = orchestrator.dataset("speeches") if name is None else orchestrator.results(name)
    return {each.key: each.output_text async for each in records}


@dataclass
class Nights:
    """A dataset at one sandbox, runs from the beginning at another, and how many nights ended how."""

    edits: Edits
    rehearsal: Rehearsal
    fresh: Rehearsal
    most_kills: int
    killed: int = 0
    halted: int = 0

    async def pass_one(self, number: int) -> None:
        rng, folder, name = self.edits.rng, self.rehearsal.folder, f"night-{number}"
        self.edits.change()
        increments = {"changed_request": "ask", "removed_at_most": "100%"}
        for turn in range(rng.choice([0, 0, self.most_kills]) if number else 0):
            self.killed += 1
            job = self.edits.write(folder, increments=increments)
            # The next process resumes this run, or another night takes it over.
            await killed_after(self.rehearsal, job, rng.choice([name, f"{name}-{turn}"]), rng.randrange(1, 4))
        if number == 0 or rng.random() < 0.5:
            job = self.edits.write(folder, increments=increments, budget={"usd": SMALL_USD})
            async with self.rehearsal.orchestrator() as orchestrator:
                self.halted += (await orchestrator.run(job, name=f"{name}-poor")).run.state is RunState.HALTED
        await self.end(self.edits.write(folder, increments=increments), name)

    async def end(self, job: Job, name: str) -> None:
        """The night's last process; what it leaves is what a run from the beginning says."""
        async with self.rehearsal.orchestrator() as orchestrator:
            summary: Summary = await orchestrator.run(job, name=name)
            held = await answers(orchestrator, None)
        assert summary.run.state is RunState.FINISHED
        audit(self.rehearsal.folder / "runs.db")
        async with self.fresh.orchestrator() as orchestrator:
            await orchestrator.run(self.edits.write(self.fresh.folder), name=name)
            assert held == await answers(orchestrator, name)
        assert held == self.edits.wanted()

    async def check_bill(self) -> None:
        with closing(sqlite3.connect(self.rehearsal.folder / "runs.db")) as database:
            cost, doubtful = database.execute(
                "SELECT sum(cost_pusd), sum(possible_duplicates) FROM run_total"
            ).fetchone()
        ledger = await self.rehearsal.ask("/_ledger")
        assert cost == ledger["seen_by_client"]["cost_pusd"]
        assert ledger["creates"]["accepted"] <= len(self.edits.asked) + doubtful
        if not self.killed:  # then it is not only the most, but all
            assert ledger["creates"]["accepted"] == len(self.edits.asked)


async def play(rehearse: Rehearse, seed: int, *, nights: int, rows: int, most_kills: int = 2) -> Nights:
    edits = Edits(random.Random(seed), rows)
    played = Nights(edits, await rehearse(), await rehearse(), most_kills)
    for number in range(nights):
        await played.pass_one(number)
    await played.check_bill()
    return played


async def test_random_nights_leave_what_a_run_from_the_beginning_says(rehearse: Rehearse) -> None:
    played = await play(rehearse, 3, nights=6, rows=6)
    assert played.killed
    assert played.halted


@pytest.mark.long
@pytest.mark.parametrize("most_kills", [0, 1, 3])
@pytest.mark.parametrize("seed", range(5))
async def test_thirty_random_nights_leave_what_a_run_from_the_beginning_says(
    rehearse: Rehearse, seed: int, most_kills: int
) -> None:
    played = await play(rehearse, seed, nights=30, rows=20, most_kills=most_kills)
    print(f"seed {seed}: 30 nights, {played.killed} kills, {played.halted} halted, {len(played.edits.asked)} asked")  # noqa: T201
