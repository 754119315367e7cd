"""Chooses the run of a job: the one to resume, or a new one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.core.errors import RunChanged, UsageError
from orchestrator.core.money import Picodollars
from orchestrator.core.states import RunState
from orchestrator.stores.base import RunReader, Store
from orchestrator.stores.reads import Run
from orchestrator.stores.writes import NewRun

__all__ = ["JobIdentity", "choose_run", "find_run", "resume"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIdentity:
    """What makes two executions of a job the same run, and the values of a new run.

    ``free_to_change`` are the fields of the spec that may differ when a run is resumed.
    """

    job: str
    spec: Mapping[str, Any]
    fingerprint: str
    input_identity: str
    budget_pusd: Picodollars | None
    deadline_s: float | None
    simulated: bool = False
    free_to_change: tuple[str, ...] = ()


async def choose_run(
    store: Store, reader: RunReader, identity: JobIdentity, *, name: str | None, new: bool, now: float
) -> tuple[Run, bool]:
    """The run to work on, and whether it existed before.

    With a name: that run, created if absent. Without: the newest unfinished run of the same job with the same
    fingerprint and input, else a new one. Raises ``RunChanged`` if the named run was made from another job.
    """
    run = await find_run(reader, identity, name=name, new=new)
    if run is not None:
        return run, True
    name = name or _free_name(identity.job, {run.name for run in await reader.runs()})
    return await store.create_run(_new_run(identity, name, now)), False


async def find_run(reader: RunReader, identity: JobIdentity, *, name: str | None, new: bool) -> Run | None:
    """The run to resume, or None if a new one would be made; raises as ``choose_run``."""
    if name is not None:
        run = await reader.run(name)
        if run is not None and new:
            raise UsageError(f"a run named {name!r} exists already", hint="give another name, or omit --new")
        if run is not None:
            _refuse_changed(run, identity)
        return run
    if not new:
        for run in await reader.runs():
            if run.state not in (RunState.FINISHED, RunState.CANCELLED) and _is_same(run, identity):
                return run
    return None


async def resume(store: Store, reader: RunReader, run: Run, identity: JobIdentity, now: float) -> Run:
    """Update what may change between two executions: the budget, and a deadline that begins again.

    Only for the process that holds the run's lock.
    """
    deadline_at = run.deadline_at
    halted_by_deadline = run.state is RunState.HALTED and run.reason == "deadline"
    if identity.deadline_s is None:
        deadline_at = None
    elif deadline_at is None or halted_by_deadline:
        deadline_at = now + identity.deadline_s
    adapted = (identity.budget_pusd, deadline_at, identity.input_identity)
    if adapted != (run.budget_pusd, run.deadline_at, run.input_identity):
        await store.adapt_run(
            run.id,
            budget_pusd=identity.budget_pusd,
            deadline_at=deadline_at,
            input_identity=identity.input_identity,
        )
    if run.state is RunState.HALTED:
        await store.set_run_state(run.id, RunState.ACTIVE, None, now)
    return await reader.run(run.name) or run


def _new_run(identity: JobIdentity, name: str, now: float) -> NewRun:
    return NewRun(
        name=name,
        uid=uuid.uuid4().hex[:16],
        job=identity.job,
        # Unsorted: the order of the fields is that of the columns of typed answers.
        spec_json=json.dumps(identity.spec, ensure_ascii=False),
        fingerprint=identity.fingerprint,
        input_identity=identity.input_identity,
        budget_pusd=identity.budget_pusd,
        deadline_at=now + identity.deadline_s if identity.deadline_s is not None else None,
        created_at=now,
        simulated=identity.simulated,
    )


def _free_name(job: str, taken: set[str]) -> str:
    number = 1
    while f"{job}-{number}" in taken:
        number += 1
    return f"{job}-{number}"


def _is_same(run: Run, identity: JobIdentity) -> bool:
    """Whether both have the same requests of the same input; an input with a bad row may have been fixed meanwhile.

    Rows before the bad one are in the store and are not read again.
    """
    may_be_fixed = run.reason == "bad_row" and not run.plan.complete
    return (
        run.fingerprint == identity.fingerprint
        and run.simulated == identity.simulated
        and (may_be_fixed or run.input_identity == identity.input_identity)
    )


def _refuse_changed(run: Run, identity: JobIdentity) -> None:
    if _is_same(run, identity):
        return
    if run.simulated != identity.simulated:
        place = "at the sandbox" if run.simulated else "with real money"
        raise RunChanged(f"run {run.name!r} was made {place}", hint="give another --run name, or the config it had")
    fields = [
        field
        for field in _differences(json.loads(run.spec_json), identity.spec)
        if not field.startswith(identity.free_to_change)
    ]
    changes = [f"{field} changed" for field in fields] or ["the content of the input changed"]
    raise RunChanged(
        f"run {run.name!r} was made from another job: " + "; ".join(changes[:8]),
        hint="give another --run name for the changed job, or change it back to resume this run",
    )


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two specs differ: the fields' names only, because their values may hold prompts."""
    if isinstance(old, dict) and isinstance(new, Mapping):
        found: list[str] = []
        for name in sorted({*old, *new}):
            found += _differences(old.get(name), new.get(name), f"{path}.{name}" if path else str(name))
        return found
    return [] if old == new else [path]
