"""Chooses the run of a job: the one to resume, or a new one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from orchestrator.core.errors import RunChanged, UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.core.states import RunState
from orchestrator.stores.base import RunReader, Store
from orchestrator.stores.reads import Run
from orchestrator.stores.writes import NewRun

__all__ = ["JobIdentity", "choose_run", "find_run", "grows", "resume"]

_OVER = (RunState.FINISHED, RunState.CANCELLED)


@fast_dataclass
class JobIdentity:
    """What makes two executions of a job the same run, and the values of a new run.

    ``free_to_change`` are the fields of the spec that may differ when a run is resumed. Earlier versions stored
    ``older_fingerprint``.
    """

    job: str
    spec: Mapping[str, Any]
    fingerprint: str
    input_identity: str
    budget_pusd: Picodollars | None
    # When a run that starts at a given time must be done.
    deadline: Callable[[float], float | None] = lambda _: None
    simulated: bool = False
    free_to_change: tuple[str, ...] = ()
    older_fingerprint: str | None = None
    day: date | None = None
    # Nothing is sent after this time, whatever deadline the run has.
    closes_at: float | None = None

    @property
    def dated_name(self) -> str | None:
        """The name of the run for its day, if it stands for one."""
        return None if self.day is None else f"{self.job}-{self.day}"

    def done_by(self, now: float) -> float | None:
        """When a run that starts now must be done."""
        times = [at for at in (self.deadline(now), self.closes_at) if at is not None]
        return min(times, default=None)

    @property
    def limit(self) -> int | None:
        """How many rows are read; None if all are."""
        return _limit(self.spec)


async def choose_run(
    store: Store, reader: RunReader, identity: JobIdentity, *, name: str | None, new: bool, now: float
) -> tuple[Run, bool]:
    """The run to work on, and whether it existed before.

    With a name: that run, created if absent. Without: the newest unfinished run of the same job with the same
    fingerprint and input; else the latest one, if it read fewer rows than are wanted now, or if it was halted before
    anything was accepted and the job was corrected since; else a new one. Raises ``RunChanged`` if the named run was
    made from another job, and something of it was accepted.
    """
    run = await find_run(reader, identity, name=name, new=new)
    if run is not None:
        return run, True
    name = name or _free_name(identity, {run.name for run in await reader.runs()})
    return await store.create_run(_new_run(identity, name, now)), False


async def find_run(reader: RunReader, identity: JobIdentity, *, name: str | None, new: bool) -> Run | None:
    """The run to resume, or None if a new one would be made; raises as ``choose_run``."""
    if name is not None:
        run = await reader.run(name)
        if run is not None and new:
            raise UsageError(f"a run named {name!r} exists already", hint="give another name, or omit --new")
        if run is not None and not (_may_begin_again(run, identity) and not await reader.has_accepted(run.id)):
            _refuse_changed(run, identity)
        return run
    return None if new else await _unnamed(reader, identity)


async def _unnamed(reader: RunReader, identity: JobIdentity) -> Run | None:
    runs = [run for run in await reader.runs() if run.job == identity.job or _is_same(run, identity)]
    same = [run for run in runs if _is_same(run, identity)]
    unfinished = (run for run in same if run.state not in _OVER and not _is_trial_beside(run, identity))
    run = next(unfinished, None)
    latest = next((run for run in same if run.job == identity.job), None)
    if run is None and latest is not None and grows(latest, identity):
        return latest
    if run is None and runs and runs[0].state is RunState.HALTED and _may_begin_again(runs[0], identity):
        return None if await reader.has_accepted(runs[0].id) else runs[0]
    return run


def grows(run: Run, identity: JobIdentity) -> bool:
    """Whether a run has read as many rows as its limit allowed, and more are wanted now."""
    had, wants = _limit(json.loads(run.spec_json)), identity.limit
    return (
        _is_same(run, identity)
        and run.job == identity.job
        and run.state is not RunState.CANCELLED
        and had is not None
        and run.plan.position >= had
        and (wants is None or wants > had)
    )


def _is_trial_beside(run: Run, identity: JobIdentity) -> bool:
    """Whether a few rows are wanted, and the run has more: resuming it would send them all."""
    had, wants = _limit(json.loads(run.spec_json)), identity.limit
    return wants is not None and had is None and run.plan.position > wants


def _limit(spec: Mapping[str, Any]) -> int | None:
    limit: int | None = spec.get("input", {}).get("limit")
    return limit


async def resume(store: Store, reader: RunReader, run: Run, identity: JobIdentity, now: float) -> Run:
    """Update what may change between two executions: the budget, a deadline that begins again, the number of rows.

    A run of which nothing was accepted begins again if its job was corrected. Only for the process that holds the
    run's lock; raises ``RunChanged`` as ``choose_run``.
    """
    if not _is_same(run, identity):
        if not await store.replace_run(run.id, _new_run(identity, run.name, now)):
            _refuse_changed(run, identity)
        return await reader.run(run.name) or run
    deadline_at = run.deadline_at
    begins_again = run.state is RunState.FINISHED or (run.state is RunState.HALTED and run.reason == "deadline")
    wanted_at = identity.done_by(now)
    if wanted_at is None:
        deadline_at = None
    elif deadline_at is None or begins_again or identity.closes_at is not None:
        deadline_at = wanted_at
    adapted = (identity.budget_pusd, deadline_at, identity.input_identity)
    if adapted != (run.budget_pusd, run.deadline_at, run.input_identity):
        await store.adapt_run(
            run.id,
            budget_pusd=identity.budget_pusd,
            deadline_at=deadline_at,
            input_identity=identity.input_identity,
        )
    await _keep_spec(store, run, identity)
    if run.state is RunState.HALTED:
        await store.set_run_state(run.id, RunState.ACTIVE, None, now)
    return await reader.run(run.name) or run


async def _keep_spec(store: Store, run: Run, identity: JobIdentity) -> None:
    """Store the job as it is now, so that the run can be resumed without its file; never with fewer rows."""
    old, spec = json.loads(run.spec_json), dict(identity.spec)
    had, wants = _limit(old), identity.limit
    if wants is not None and (had is None or wants < had):
        spec["input"] = {**spec["input"], "limit": had}
    if spec != old:
        await store.keep_spec(run.id, _encoded(spec), reopen_plan=grows(run, identity))


def _encoded(spec: Mapping[str, Any]) -> str:
    # Unsorted: the order of the fields is that of the columns of typed answers.
    return json.dumps(spec, ensure_ascii=False)


def _new_run(identity: JobIdentity, name: str, now: float) -> NewRun:
    return NewRun(
        name=name,
        uid=uuid.uuid4().hex[:16],
        job=identity.job,
        spec_json=_encoded(identity.spec),
        fingerprint=identity.fingerprint,
        input_identity=identity.input_identity,
        budget_pusd=identity.budget_pusd,
        deadline_at=identity.done_by(now),
        created_at=now,
        simulated=identity.simulated,
        day=identity.day,
    )


def _free_name(identity: JobIdentity, taken: set[str]) -> str:
    dated = identity.dated_name
    if dated is not None and dated not in taken:
        return dated
    number = 1 if dated is None else 2
    while (name := f"{dated or identity.job}-{number}") in taken:
        number += 1
    return name


def _is_same(run: Run, identity: JobIdentity) -> bool:
    """Whether both have the same requests of the same input; an input with a bad row may have been fixed meanwhile.

    Rows before the bad one are in the store and are not read again.
    """
    may_be_fixed = run.reason == "bad_row" and not run.plan.complete
    return (
        run.fingerprint in (identity.fingerprint, identity.older_fingerprint)
        and run.simulated == identity.simulated
        and (may_be_fixed or run.input_identity == identity.input_identity)
    )


def _may_begin_again(run: Run, identity: JobIdentity) -> bool:
    """Whether a run that was halted or failed makes way for a corrected job, if nothing of it was accepted."""
    corrected = run.fingerprint not in (identity.fingerprint, identity.older_fingerprint)
    return corrected and run.simulated == identity.simulated and run.state in (RunState.HALTED, RunState.FINISHED)


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
    if fields:
        raise RunChanged(
            f"run {run.name!r} was made from another job: " + "; ".join(f"{field} changed" for field in fields[:8]),
            hint="give another --run name for the changed job, or change it back to resume this run",
        )
    finish = f"orchestrator resume {run.name} finishes it with the rows it has; " if run.plan.complete else ""
    raise RunChanged(
        f"the content of the input changed since run {run.name!r} was made",
        hint=f"{finish}another --run name takes the new input, with `reuse: same-request` in the job "
        "without paying again for rows that were answered",
    )


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two specs differ: the fields' names only, because their values may hold prompts."""
    if isinstance(old, dict) and isinstance(new, Mapping):
        found: list[str] = []
        for name in sorted({*old, *new}):
            found += _differences(old.get(name), new.get(name), f"{path}.{name}" if path else str(name))
        return found
    return [] if old == new else [path]
