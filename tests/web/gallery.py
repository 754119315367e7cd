"""A database with a run of each kind that a page must show well."""

from __future__ import annotations

import json
from pathlib import Path

import anyio

from orchestrator.core.states import RunState
from orchestrator.stores.sqlite.reader import SqliteReader
from orchestrator.stores.sqlite.store import SqliteStore
from tests.stores.builders import NOW, Harness, a_charge, a_row, a_run, an_unknown_charge, mark

from .conftest import SPEC
from .hostile_texts import HOSTILE

__all__ = ["HOSTILE_RUN", "write_gallery"]

HOSTILE_RUN = '"><script>alert(1)</script>\u202e'


def write_gallery(database: Path) -> None:
    """Write runs named ``mixed``, ``second``, ``empty``, ``doubt``, ``failed``, ``staged`` and a hostile one."""
    anyio.run(_write, database)


async def _write(database: Path) -> None:
    async with (
        SqliteStore.open(database, synchronous="NORMAL") as store,
        SqliteReader.open(database) as reader,
    ):

        async def new(name: str, spec: str = SPEC) -> Harness:
            return Harness(store, reader, await store.create_run(a_run(name, spec_json=spec)))

        await _empty(await new("empty"))
        await _mixed(await new("mixed"))
        await _second(await new("second"))
        await _doubt(await new("doubt"))
        await _failed(await new("failed"))
        stages = {"read": {"from": "input", "request": {}}, "merge": {"from": "read", "request": {}}}
        await _staged(await new("staged", json.dumps({"name": "digest", "stages": stages})))
        await _hostile(await new(HOSTILE_RUN))


async def _finish(harness: Harness, state: RunState = RunState.FINISHED, reason: str | None = None) -> None:
    await harness.store.add_pulse(harness.run.id, NOW + 20)
    await harness.store.set_run_state(harness.run.id, state, reason, NOW + 20)


async def _empty(harness: Harness) -> None:
    await harness.store.add_rows(harness.run.id, [], [], mark(0, complete=True))
    await _finish(harness)


async def _mixed(harness: Harness) -> None:
    for second in range(10):
        await harness.store.add_pulse(harness.run.id, NOW + second)
    rows = await harness.add(120)
    for number, row in enumerate(rows):
        if number % 5 == 1:
            code = ("refusal", "max_output_tokens", "a_code_of_the_provider_that_is_rather_long")[number % 3]
            await harness.fail(row, code=code, message="The model refused to answer.", charge=a_charge(2_000_000))
        else:
            text = f"The answer to {row.key}: a canary is yellow, and it sings in the morning."
            await harness.succeed(row, output_text=text, charge=a_charge(3_000_000 + number * 100_000))
    await _finish(harness)


async def _second(harness: Harness) -> None:
    for number, row in enumerate(await harness.add(20)):
        await harness.succeed(
            row, output_text=f"The answer to {row.key}: a canary is {'green' if number % 2 else 'yellow'}."
        )
    await _finish(harness)


async def _doubt(harness: Harness) -> None:
    first, second, third = await harness.add(3)
    await harness.lose(first)
    await harness.lose(second)
    await harness.succeed(third)
    await _finish(harness, RunState.HALTED, "in_doubt")


async def _failed(harness: Harness) -> None:
    rows = [a_row(number, key=f"{'a-long-key-' * 12}{number}") for number in range(4)]
    await harness.store.add_rows(harness.run.id, rows, [], mark(4, complete=True))
    for row in await harness.fresh():
        await harness.fail(row, code="server_error", message="x" * 500, charge=an_unknown_charge(70_000_000))
    await _finish(harness)


async def _staged(harness: Harness) -> None:
    await harness.store.add_rows(
        harness.run.id, [a_row(number, stage="read") for number in range(3)], [], mark(3, complete=True)
    )


async def _hostile(harness: Harness) -> None:
    rows = [
        a_row(place, key=text, where=f"{text[:200]}:1", row=json.dumps({"text": text}).encode())
        for place, text in enumerate((*HOSTILE, "y" * 5_000_000))
    ]
    await harness.store.add_rows(harness.run.id, rows, [], mark(len(rows), complete=True))
    for place, request in enumerate(await harness.fresh()):
        text = request.key
        if place % 3:
            await harness.succeed(request, output_text=text, body=json.dumps({"output": text}).encode())
        else:
            await harness.fail(request, code=text[:300], message=text)
        await harness.store.set_flag(request.id, text[:40].strip(), text[:2000], NOW)
    await _finish(harness)
