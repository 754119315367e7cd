"""Nights: runs of a job with increments, which ask only what changed since its dataset was made."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import orjson
from anyio import to_thread

from orchestrator.app.connections import address
from orchestrator.config import Config
from orchestrator.core import exact_json
from orchestrator.core.clock import Clock
from orchestrator.core.errors import RunChanged, SpecError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.increments import ASKED, Change, Comparison, days_since_1970
from orchestrator.core.model import NewRequest, PlanMark
from orchestrator.core.money import Picodollars, format_usd
from orchestrator.core.states import RunState, State
from orchestrator.engine.increments import Night, NightRules, Reading, RowComparer
from orchestrator.engine.runs import JobIdentity, find_run
from orchestrator.job.increments import Increments
from orchestrator.job.requests.compose import NOT_ASKED, compose_first, fingerprint, request_rules
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.plan import plan
from orchestrator.job.spec import Job
from orchestrator.policy.due_nights import DueNight
from orchestrator.policy.increments import IncrementRules, reuse_max_age_s
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.datasets import Dataset, find_dataset
from orchestrator.stores.reads import Run

__all__ = [
    "NightJob",
    "NightOptions",
    "begin_night",
    "compare_rows",
    "end_night",
    "open_nights",
    "take_over",
]

_SHOWN_FIELDS = 4
_SHOWN_CHARACTERS = 160


@fast_dataclass
class NightOptions:
    """What the user says for one run: ``changed`` in place of ``changed_request``, and whether to ask all again.

    ``due`` is the night that is due; if another process finished it meanwhile, nothing is done. ``shared_cost_pusd``
    is what the other runs of a backfill have used of the job's budget.
    """

    changed: Literal["ask", "keep"] | None = None
    full_refresh: bool = False
    due: DueNight | None = None
    shared_cost_pusd: Picodollars = 0


class NightJob:
    """A job with increments: its dataset's name, and how one run of it compares its rows."""

    def __init__(
        self,
        job: Job,
        increments: Increments,
        config: Config,
        renderer: Renderer,
        options: NightOptions,
        clock: Clock,
    ) -> None:
        day = job.day or datetime.fromtimestamp(clock.now(), UTC).date()
        self.as_of = as_of = days_since_1970(day)
        self.job = job
        self.renderer = renderer
        self.dataset = job.dataset or job.name
        self.simulated = config.simulated
        increment_rules = IncrementRules(
            ask_again_after_s=increments.ask_again_after,
            give_up_after=increments.give_up_after,
            full_refresh=options.full_refresh,
            as_of=as_of,
        )
        self.rules = NightRules(
            changed_request=options.changed or increments.changed_request,
            removed=increments.removed,
            removed_at_most=increments.removed_at_most,
            is_complete=job.input.limit is None,
            reads_once=job.input.path == "-",
            reuse_max_age_s=reuse_max_age_s(increment_rules),
        )
        self.comparer = RowComparer(
            stage_hash=_stage_hash(job, config),
            request_hash=_request_maker(job, config, renderer),
            names_files=renderer.names_files,
            rules=increment_rules,
            clock=clock,
        )

    async def stored(self, reader: Reader) -> Dataset | None:
        """The dataset, if a run was made for it."""
        return await reader.dataset(self.dataset, simulated=self.simulated)

    async def free_name(self, reader: Reader, identity: JobIdentity, name: str) -> str:
        """The given name, or one like it if the run of that name has other rows.

        So a night that is named by its date starts although the one that failed before read another input.
        """
        number, free = 1, name
        while True:
            try:
                await find_run(reader, identity, name=free, new=False)
            except RunChanged:
                number += 1
                free = f"{name}-{number}"
            else:
                return free


async def compare_rows(night_job: NightJob, reader: Reader) -> Comparison | None:
    """Read the whole input and compare it with the dataset; None if there is nothing to compare it with."""
    dataset = await night_job.stored(reader)
    if dataset is None or not dataset.rows:
        return None
    reading = Reading(dataset, night_job.comparer, reader)
    start = PlanMark(position=0, complete=False)
    batches = await to_thread.run_sync(partial(plan, night_job.job, night_job.renderer, start=start))
    complete = True
    while batch := await to_thread.run_sync(next, batches, None):
        _, repeated = await reading.compare(batch.rows)
        complete = complete and not batch.skipped and not repeated
    changes = reading.changes
    if complete and night_job.rules.finds_removed:
        changes[Change.REMOVED] = len(await reading.missing())
    wanted = ASKED if night_job.rules.changed_request != "keep" else ASKED - {Change.REQUEST_CHANGED}
    asked = sum(changes[change] for change in wanted)
    runs = await _runs_of(dataset, reader)
    return Comparison(
        dataset=dataset.name,
        since=runs[0].name if runs else "",
        changes=changes,
        asked=asked,
        about_pusd=await _about(asked, runs, reader),
    )


async def open_nights(night_job: NightJob, dataset_id: int, *, store: Store, reader: Reader) -> None:
    """Bring a dataset up to date before its rows are compared; for the process that holds its lock.

    Raises ``SpecError`` if the request of answered rows changed and the job does not say what to do then.
    """
    for night in await reader.nights(dataset_id):
        if not night.is_closed:
            # Its process may have ended before it could.
            await store.gather(night.run_id)
    if night_job.rules.changed_request == "stop":
        await _refuse_changed_request(night_job, dataset_id, reader)


async def begin_night(night_job: NightJob, run: Run, *, store: Store, reader: Reader) -> Night:
    """Let a run add to the dataset; for the process that holds the locks of both."""
    dataset = await find_dataset(reader, night_job.dataset, simulated=night_job.simulated)
    await store.begin_night(run.id, dataset.id, as_of=night_job.as_of)
    return Night(run.id, dataset, night_job.comparer, night_job.rules, store=store, reader=reader)


async def take_over(
    night_job: NightJob,
    run: Run,
    collect: Callable[[Run], Awaitable[object]],
    *,
    store: Store,
    reader: Reader,
    now: float,
) -> list[Run]:
    """End the runs that earlier nights left unfinished; ``collect`` waits for what one has open at the provider.

    What they had not sent is cancelled: the run that takes over asks it. Returns those whose input it does not read.
    """
    unread: list[Run] = []
    dataset_id = await store.open_dataset(night_job.dataset, simulated=night_job.simulated)
    runs = {each.id: each for each in await reader.runs()}
    for night in await reader.nights(dataset_id):
        other = runs.get(night.run_id)
        if night.is_closed or other is None or other.id == run.id:
            continue
        if other.state not in (RunState.FINISHED, RunState.CANCELLED):
            await collect(other)
            await store.request_cancel(other.id, now)
            await store.set_run_state(other.id, RunState.CANCELLED, f"taken over by {run.name}", now)
            if other.day is not None and not _reads_input_of(night_job.job, other):
                unread.append(other)
        await store.gather(other.id)
        await store.close_night(other.id)
    return unread


def _reads_input_of(job: Job, run: Run) -> bool:
    """Whether a job reads what a run of an earlier day was to read."""
    return exact_json.loads(run.spec_json)["input"]["path"] in (job.input.path, *job.input.earlier_paths)


async def end_night(night: Night, run: Run, state: RunState, *, store: Store, now: float) -> None:
    """Take the run's answers over into the dataset, wherever it ended."""
    finished = state is RunState.FINISHED
    await night.finish(finished=finished, now=now)
    if finished or state is RunState.CANCELLED:
        await store.close_night(run.id)


# ── what a row asks ───────────────────────────────────────────────────────────────────────────────────────────


def _stage_hash(job: Job, config: Config) -> bytes:
    """Of all that decides the requests beside the rows; where only this changed, the requests are compared."""
    cap = config.output_cap(job.budget_pusd)
    asked = {name: value for name, value in job.request.items() if name not in NOT_ASKED}
    decisive = orjson.dumps([asked, cap, address(config), job.stream], option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.blake2b(decisive, digest_size=16).digest()


def _request_maker(job: Job, config: Config, renderer: Renderer) -> Callable[[NewRequest], bytes | None]:
    rules = request_rules(job, cap_output_tokens=config.output_cap(job.budget_pusd))
    provider = address(config)

    def request_hash(row: NewRequest) -> bytes | None:
        return fingerprint(compose_first(renderer, rules, row.row, where=row.where), provider=provider)

    return request_hash


# ── a request that changed ────────────────────────────────────────────────────────────────────────────────────


async def _refuse_changed_request(night_job: NightJob, dataset_id: int, reader: Reader) -> None:
    others = await reader.other_stages(dataset_id, night_job.comparer.stage_hash)
    dataset = await night_job.stored(reader) if others else None
    if dataset is None:
        return
    runs = await _runs_of(dataset, reader)
    if night_job.rules.reads_once:
        changed = others
    else:
        comparison = await compare_rows(night_job, reader)
        changed = comparison.changes[Change.REQUEST_CHANGED] if comparison is not None else 0
    if changed:
        about = await _about(changed, runs, reader)
        raise _request_changed(night_job.job, changed, about, runs)


def _request_changed(job: Job, rows: int, about_pusd: Picodollars | None, runs: list[Run]) -> SpecError:
    since = f" since {runs[0].name}" if runs else ""
    price = f", about ${format_usd(_rounded(about_pusd))}" if about_pusd is not None else ""
    old = exact_json.loads(runs[0].spec_json).get("request", {}) if runs else {}
    lines = list(_changed_fields(old, job.request)) or ["  the provider or the config's cap of output tokens changed"]
    if len(lines) > _SHOWN_FIELDS:
        lines[_SHOWN_FIELDS:] = [f"  and {len(lines) - _SHOWN_FIELDS} more fields"]
    return SpecError(
        f"the request changed{since}: {rows:,} answered rows would be asked again{price}\n" + "\n".join(lines),
        where=str(job.source) if job.source is not None else None,
        hint="--changed ask (all again), --changed keep (old rows keep their answers), or put the old words back",
    )


def _changed_fields(old: Any, new: Any, path: str = "request") -> Iterator[str]:
    """A line for each field that differs, with both texts from where they begin to."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}, key=str):
            yield from _changed_fields(old.get(name), new.get(name), f"{path}.{name}")
    elif old != new:
        yield f"  {path}:  - {_shown(old, new)}   + {_shown(new, old)}"


def _shown(value: Any, other: Any) -> str:
    if value is None:
        return "(not given)"
    if not (isinstance(value, str) and isinstance(other, str)):
        return orjson.dumps(value, default=str).decode()[:_SHOWN_CHARACTERS]
    same = next((place for place, (a, b) in enumerate(zip(value, other, strict=False)) if a != b), 0)
    begin = max(0, same - _SHOWN_CHARACTERS // 4)
    end = begin + _SHOWN_CHARACTERS
    shown = " ".join(value[begin:end].split())
    return f"{'…' if begin else ''}{shown}{'…' if end < len(value) else ''}"


async def _runs_of(dataset: Dataset, reader: Reader) -> list[Run]:
    """The runs that added to a dataset, the newest first."""
    runs = {each.id: each for each in await reader.runs()}
    return [runs[night.run_id] for night in await reader.nights(dataset.id) if night.run_id in runs]


async def _about(rows: int, runs: list[Run], reader: Reader) -> Picodollars | None:
    """What so many rows cost if each costs as much as one of the latest run that asked any."""
    for run in runs:
        summary = await reader.summary(run.id)
        answered = summary.requests.get(State.SUCCEEDED, 0) - summary.reused
        if answered > 0 and not summary.cost_unknown:
            return summary.cost_pusd * rows // answered
    return None


def _rounded(pusd: Picodollars) -> Picodollars:
    """To a hundredth of a cent; an estimate has no more digits."""
    unit = 10**8
    return (pusd + unit // 2) // unit * unit
