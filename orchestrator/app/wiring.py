"""Puts the parts of one run together: policies from the config, steps, tasks, and the loop that drives them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Any, TypeAlias

from anyio import to_thread

from orchestrator.app.batch_wiring import LearnedOfBatches, SharedParts, batch_lane
from orchestrator.app.connections import Provider, address, lanes_snapshot
from orchestrator.app.endpoint_wiring import learned_limits, run_endpoint
from orchestrator.app.lane_plans import lane_plans
from orchestrator.app.provider_access import compare_access, find_endpoints
from orchestrator.config import Config
from orchestrator.core.clock import Clock
from orchestrator.core.events import Observer, Progress
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane, first_lane
from orchestrator.core.model import MAIN_STAGE, PlanMark
from orchestrator.core.money import Picodollars
from orchestrator.core.states import State
from orchestrator.engine.funds import Funds
from orchestrator.engine.increments import Night
from orchestrator.engine.items import Halted
from orchestrator.engine.lane_memory import LaneMemory
from orchestrator.engine.lane_switch import LaneSwitch
from orchestrator.engine.learned_state import LearnedState, Snapshot
from orchestrator.engine.loop import LocalLoop, ShardLoop, Task
from orchestrator.engine.observation import Observation
from orchestrator.engine.poll_schedules import Schedules
from orchestrator.engine.preparation import Destinations, Preparation
from orchestrator.engine.route import Router
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.settings import StageSettings
from orchestrator.engine.stages import Stage, Stages
from orchestrator.engine.steps import Attach, OtherRuns, Poll, Recover, RunTools, Settle, Submit
from orchestrator.engine.tasks.duplicates import Deduplicator
from orchestrator.engine.tasks.held_shards import HeldShards, ShardSource
from orchestrator.engine.tasks.housekeeping import Housekeeping
from orchestrator.engine.tasks.lane_chooser import LaneChooser
from orchestrator.engine.tasks.late_costs import LateCosts
from orchestrator.engine.tasks.lost_replies import LostReplies
from orchestrator.engine.tasks.planner import Planner
from orchestrator.engine.tasks.poll_queue import PollQueues
from orchestrator.engine.tasks.poller import Poller
from orchestrator.engine.tasks.refill import Refill
from orchestrator.engine.tasks.send_queue import SendQueue
from orchestrator.engine.tasks.sender import Sender, SendGate
from orchestrator.engine.tasks.stage_feeder import StageFeeder
from orchestrator.engine.tasks.stream_listener import StreamListener
from orchestrator.engine.tasks.tool_runner import ToolRunner
from orchestrator.engine.uploads import Uploads
from orchestrator.engine.webhook_hints import WebhookHints
from orchestrator.executors.function_tools import FunctionTools
from orchestrator.executors.registry import DEFAULT_LANE, Executors
from orchestrator.job.requests.compose import request_rules
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.plan import PlannedBatch, plan
from orchestrator.job.spec import Job
from orchestrator.job.stages.expansion import Pipeline
from orchestrator.job.stages.planned_rows import plan_stages
from orchestrator.job.stages.stage_jobs import renderer_of, requesting_stages, stage_job, stages_until
from orchestrator.job.tools import load_handlers, tool_schemas
from orchestrator.policy.errors.answer_schema import AnswerSchema, asked_schema
from orchestrator.policy.errors.first_tries import FirstCreates, FirstPolls
from orchestrator.policy.errors.outcomes import AnswerPolicy, OnInvalid, RaiseTo, Repair
from orchestrator.policy.errors.resumed_polls import Access
from orchestrator.policy.polling.deadlines import Timeouts
from orchestrator.policy.pricing.budget import RUN, Budget, Cap, SetApart
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.pipeline_rows import StageReader
from orchestrator.stores.reads import RequestCounts, Run, SharedCaps, Spending, Summary

__all__ = ["Storage", "Surroundings", "Work", "assemble", "assemble_planner", "function_tools", "work_of"]

# The longest answer of a tool, and how many handlers run at once.
_MOST_TOOL_BYTES = 256 * 1024
_TOOLS_AT_ONCE = 16

_PROVIDER_CHANGED = (
    "the run has open responses that were created with another key, project or address; "
    "nothing new is sent until the provider shows that it knows one of them"
)


# The stages and the names of the endpoints that have accepted their requests.
Accepted: TypeAlias = Collection[tuple[str, str | None]]


@fast_dataclass
class Work:
    """What a run has to do: a job under a config.

    ``tools`` are the handlers of the function tools of each stage that has some, ``pipeline`` its stages.
    """

    config: Config
    job: Job
    renderer: Renderer
    tools: Mapping[str, FunctionTools] = field(default_factory=dict)
    pipeline: Pipeline | None = None
    # For a job with increments: what compares its rows with the dataset.
    night: Night | None = None
    # Request again what the provider no longer knows, although it knows nothing that the run left open.
    accept_expired: bool = False
    # Ask no stage but this one and those that it is made of; what follows waits for the next call.
    until: str | None = None
    # Ask nothing; only wait for what is open at the provider.
    only_collect: bool = False
    # Work on these shards only, beside other processes.
    shards: ShardSource | None = None
    # What other runs have used of the job's budget, where they share it.
    shared_cost_pusd: Picodollars = 0


@fast_dataclass
class Storage:
    """Where runs are kept. ``is_at_work`` says whether a process holds the lock of a run, by the run's id."""

    store: Store
    reader: Reader
    is_at_work: Callable[[int], bool]


@fast_dataclass
class Surroundings:
    """What comes from outside a run: time, chance, and the observer of its events."""

    clock: Clock
    rng: random.Random
    observe: Observer


def work_of(config: Config, job: Job, *, may_be_unstored: bool) -> Work:
    """The work that a job is; raises ``SpecError`` if no request can be made of it, or a function is not found."""
    first = next(iter(requesting_stages(job)), MAIN_STAGE)
    return Work(
        config=config,
        job=job,
        renderer=renderer_of(job, first, may_be_unstored=may_be_unstored, private=config.private_files),
        pipeline=Pipeline(job, allowed=_allowed(config, job)) if job.stages is not None else None,
    )


def _allowed(config: Config, job: Job) -> Collection[str] | None:
    """The modules from elsewhere that a job may name; None for one made in Python, which is code already."""
    return config.allow_modules if job.source is not None else None


async def assemble(
    work: Work, run: Run, *, storage: Storage, providers: Sequence[Provider], surroundings: Surroundings
) -> LocalLoop:
    """The loop of one run, with everything it needs."""
    config, now, reader = work.config, surroundings.clock.now(), storage.reader
    summary = await reader.summary(run.id)
    observation = Observation(_progress(summary, now), surroundings.observe, surroundings.clock)
    prices = await _price_books(providers)
    caps = _shared_caps(work, run)
    spent = await reader.spending(caps, now) if caps is not None else None
    places = await find_endpoints(config, run, reader)
    accepted = await reader.accepted_by_endpoint(run.id) if config.providers else None
    stages = await _stages(work, run, reader, surroundings.rng, summary, accepted)
    endpoints = []
    for provider in providers:
        access = await compare_access(provider.config, run, store=storage.store, reader=reader)
        if access is Access.CHANGED:
            observation.warn("provider_changed", _PROVIDER_CHANGED)
        endpoints.append(
            run_endpoint(
                provider,
                work.job,
                access,
                accept_expired=work.accept_expired,
                observation=observation,
                rng=surroundings.rng,
            )
        )
    return _loop(
        work,
        RunContext(
            record=run,
            stages=stages,
            endpoints=endpoints,
            places=places,
            store=storage.store,
            reader=reader,
            status=_run_status(work, run, stages, summary, endpoints=len(endpoints)),
            observation=observation,
            clock=surroundings.clock,
            rng=surroundings.rng,
        ),
        funds=Funds(
            prices=prices,
            budget=_budget(work, summary, caps, spent),
            observation=observation,
            caps=caps,
            is_at_work=storage.is_at_work,
            has_siblings=work.shards is not None,
        ),
        providers=providers,
    )


def _loop(work: Work, run: RunContext, *, funds: Funds, providers: Sequence[Provider]) -> LocalLoop:
    """The steps, the queues between the tasks, and the tasks."""
    config, job = work.config, work.job
    executors = run.endpoints[0].executors
    of_batches = LearnedOfBatches(config)
    memory = LaneMemory(of_batches.durations.of)
    learned = LearnedState(
        run.store,
        run.reader,
        [
            *(
                Snapshot(_latency_name(job, stage), stage.schedules.dump, stage.schedules.load)
                for stage in run.stages.values()
            ),
            Snapshot(lanes_snapshot(config), memory.dump, memory.load),
            *learned_limits(providers, run.endpoints),
            of_batches.snapshot,
        ],
        saves=work.shards is None,
    )
    destinations = Destinations(
        [endpoint.allowances.pools for endpoint in run.endpoints],
        partial(_place_of, config, run.places) if config.providers else None,
    )
    preparations = {
        name: Preparation(
            provider=address(config),
            renderer=work.renderer if work.pipeline is None else _renderer(work, name),
            encode=partial(_encode, executors, run_uid=run.record.uid, stage=name),
            prices=list(dict.fromkeys(funds.prices)),
            budget=funds.budget,
            stage=stage,
            destinations=destinations,
        )
        for name, stage in run.stages.items()
    }
    uploads = [Uploads(run, provider.client, provider=address(provider.config)) for provider in providers]
    settle = Settle(run, funds)
    recover = Recover(run, funds, settle)
    queue = SendQueue(run.status, list(run.stages))
    lanes = LaneSwitch(run, queue, memory)
    chooser = LaneChooser(run, lanes, memory, lane_plans(config, job, list(run.stages)))
    streams = executors.of(DEFAULT_LANE).streams
    listener = StreamListener(run, streams) if streams is not None else None
    router = Router(run, queue, listener=listener)
    other_runs = OtherRuns(run, funds, recover, route=router.route)
    held = HeldShards(run, queue, work.shards, recover=recover, router=router) if work.shards is not None else None
    tasks: list[Task] = [
        ToolRunner(run.status, RunTools(run, work.tools), router),
        Poller(
            run,
            poll=Poll(run, settle),
            router=router,
            listener=listener,
        ),
        *([_planner(work, run, queue)] if held is None else []),
        Sender(
            run,
            queue,
            Refill(run, queue, preparations, Deduplicator(run, queue, other_runs, route=router.route), held),
            gate=SendGate(run, queue, funds),
            submit=Submit(run, uploads, funds=funds, settle=settle, lanes=lanes),
            other_runs=other_runs,
            router=router,
        ),
    ]
    shared = SharedParts(
        queue=queue,
        funds=funds,
        settle=settle,
        other_runs=other_runs,
        router=router,
    )
    if held is None:
        tasks.append(batch_lane(config, run, of_batches, shared))
    if run.status.hints is not None:
        tasks.append(
            LostReplies(
                run,
                run.status.hints,
                Attach(run, executors.of(DEFAULT_LANE)),
                allowances=run.endpoints[0].allowances,
                funds=funds,
                settle=settle,
                route=router.route,
            )
        )
    if work.pipeline is not None:
        tasks.append(StageFeeder(run, work.pipeline, queue))
    loop = LocalLoop if held is None else ShardLoop
    return loop(
        run,
        router,
        recover,
        other_runs,
        tasks=tasks if listener is None else [listener, *tasks],
        housekeeping=Housekeeping(run, funds, learned, other_runs, chooser),
        late_costs=LateCosts(run, funds),
    )


def _planner(work: Work, run: RunContext, queue: SendQueue) -> Planner:
    return Planner(
        run,
        run.stages[MAIN_STAGE] if work.pipeline is None else None,
        queue,
        batches=partial(_batches, work),
        skip_bad_rows=work.job.input.on_bad_row == "skip",
        night=work.night,
    )


async def assemble_planner(
    work: Work, run: Run, *, storage: Storage, surroundings: Surroundings
) -> tuple[Planner, RunContext]:
    """What reads the input of a run into the store and sends nothing, and the run as it sees it."""
    summary = await storage.reader.summary(run.id)
    clock = surroundings.clock
    stages = await _stages(work, run, storage.reader, surroundings.rng, summary, None)
    context = RunContext(
        record=run,
        stages=stages,
        endpoints=[],
        store=storage.store,
        reader=storage.reader,
        status=_run_status(work, run, stages, summary, endpoints=0),
        observation=Observation(_progress(summary, clock.now()), surroundings.observe, clock),
        clock=clock,
        rng=surroundings.rng,
    )
    return _planner(work, context, SendQueue(context.status, list(stages))), context


def _shared_caps(work: Work, run: Run) -> SharedCaps | None:
    """The caps that other processes spend under, too: that of the run itself if it has several."""
    caps = work.config.budget.caps(run.id, simulated=run.simulated)
    if work.shards is None or run.budget_pusd is None:
        return caps
    alone = SharedCaps(run_id=run.id, simulated=run.simulated, day_pusd=None, month_pusd=None)
    return replace(caps or alone, run_pusd=run.budget_pusd)


def _encode(executors: Executors, lane: Lane, fields: Mapping[str, Any], **marks: Any) -> bytes:
    return executors.of(lane).encode(fields, **marks)


def _batches(work: Work, start: PlanMark) -> Iterator[PlannedBatch]:
    if work.pipeline is not None:
        return plan_stages(work.job, work.pipeline, start=start)
    return plan(work.job, work.renderer, start=start)


def _latency_name(job: Job, stage: Stage) -> str:
    return f"latency:{job.name}" if stage.name == MAIN_STAGE else f"latency:{job.name}/{stage.name}"


def _renderer(work: Work, stage: str) -> Renderer:
    config = work.config
    unstored = config.provider.store == "optional"
    return renderer_of(work.job, stage, may_be_unstored=unstored, private=config.private_files)


def _run_status(work: Work, run: Run, stages: Stages, summary: Summary, *, endpoints: int) -> RunStatus:
    asked = None if work.until is None else frozenset(stages_until(work.job, work.until)) & set(stages)
    status = RunStatus(
        poll_queue=PollQueues(endpoints),
        unsealed_stages=set(stages) if asked is None else set(asked),
        asked_stages=asked,
        until=work.until if asked is not None and len(asked) < len(stages) else None,
        plans_first=work.night is not None and work.night.has_entries,
        cancelling=run.cancel_requested,
        batches=1 if work.shards is None else 0,
    )
    if work.config.webhooks is not None:
        doubts = bool(summary.requests[State.IN_DOUBT] or summary.possible_duplicates)
        wait_s = work.config.in_doubt.wait_for_event
        status.hints = WebhookHints(status.poll_queue, status.poll_signal, wait_s=wait_s, has_doubts=doubts)
    if work.only_collect:
        status.halt(Halted("taken_over", "another run asks the rest", collect=True))
    return status


def _place_of(config: Config, places: Mapping[str | None, int], endpoint: str | None) -> int:
    """The place of an endpoint by its name; raises ``ConfigError``."""
    if endpoint not in places:
        config.at(endpoint)
    return places[endpoint]


async def _price_books(providers: Sequence[Provider]) -> list[PriceBook]:
    """The prices of each endpoint; those with the same prices share them."""
    books: dict[str | None, PriceBook] = {}
    for config in [provider.config for provider in providers]:
        if config.prices not in books:
            books[config.prices] = PriceBook(config.price_rules())
            # Half a second of reading, which must not hold up the first replies.
            await to_thread.run_sync(books[config.prices].load)
    return [books[provider.config.prices] for provider in providers]


async def _stages(
    work: Work,
    run: Run,
    reader: StageReader,
    rng: random.Random,
    summary: Summary,
    accepted: Accepted | None,
) -> dict[str, Stage]:
    """The stages in the order in which their requests are sent: the last one first."""
    if work.pipeline is None:
        return {MAIN_STAGE: _stage(work, MAIN_STAGE, rng, summary, accepted)}
    tally = await reader.stage_tally(run.id)
    stages = {}
    for planned in reversed(work.pipeline.requesting):
        states = RequestCounts(tally.get(planned.name, Counter()))
        seen = replace(summary, requests=states, attempts=states.get(State.SUCCEEDED, 0))
        asked = replace(work, job=stage_job(work.job, planned.name))
        stages[planned.name] = _stage(asked, planned.name, rng, seen, accepted)
    return stages


def _stage(work: Work, name: str, rng: random.Random, summary: Summary, accepted: Accepted | None) -> Stage:
    """A stage of a job, with what earlier processes of the run have shown."""
    config, settings = work.config, _stage_settings(work)
    if accepted is None:
        worked = [summary.attempts > 0]
    else:
        worked = [(name, each.endpoint_name) in accepted for each in config.endpoints]
    return Stage(
        name=name,
        settings=settings,
        first_creates=[
            FirstCreates(accepted=has_accepted, overrides=each.provider.overrides)
            for each, has_accepted in zip(config.endpoints, worked, strict=True)
        ],
        first_polls=[
            FirstPolls(
                seen=has_accepted and summary.requests.get(State.SUCCEEDED, 0) > 0, overrides=each.provider.overrides
            )
            for each, has_accepted in zip(config.endpoints, worked, strict=True)
        ],
        schedules=Schedules(rng, polls_per_minute=config.limits.polls_per_minute),
        lane=first_lane(work.job.lane),
        cache_is_warm=not settings.warm_cache,
    )


def _stage_settings(work: Work) -> StageSettings:
    config, job = work.config, work.job
    return StageSettings(
        attempts=job.retry.attempts,
        timeouts=Timeouts(queued_s=config.timeouts.queued, run_s=config.timeouts.run),
        resend_below_pusd=max(config.in_doubt.resend_below_pusd, 1 if config.is_free else 0),
        rules=request_rules(job, cap_output_tokens=config.output_cap(job.budget_pusd)),
        request_bound_pusd=job.budget.request_bound_pusd if job.budget is not None else None,
        answers=_answer_policy(job),
        chain_mode=job.chain.mode if job.chain is not None else None,
        ask_once=job.duplicates == "once",
        reuse_max_age_s=_reuse_age(work),
        warm_cache=job.prompt_cache is not None and job.prompt_cache.warm,
    )


def _reuse_age(work: Work) -> float | None:
    """How old an answer of another run may be to be reused; None if none is."""
    if work.night is not None:
        return work.night.reuse_max_age_s
    return work.job.reuse_max_age if work.job.reuse == "same-request" else None


def _answer_policy(job: Job) -> AnswerPolicy:
    incomplete, schema = job.on_incomplete, asked_schema(job.request)
    return AnswerPolicy(
        on_incomplete=incomplete if isinstance(incomplete, str) else RaiseTo(incomplete.raise_max_output_tokens_to),
        schema=AnswerSchema(schema) if schema is not None else None,
        on_invalid=_on_invalid(job),
        handles_tools=bool(job.handlers),
    )


def _on_invalid(job: Job) -> OnInvalid:
    match job.on_invalid:
        case "fail" | "retry" as word:
            return word
        case "repair":
            return Repair()
        case repairs:
            return Repair(at_most=repairs.repairs)


def function_tools(job: Job, config: Config) -> dict[str, FunctionTools]:
    """The handlers of each stage's function tools, ready to run; raises ``SpecError`` if one cannot be found."""
    stages = {name: stage_job(job, name) for name in requesting_stages(job) or (MAIN_STAGE,)}
    return {name: _function_tools(each, config, name) for name, each in stages.items() if each.handlers}


def _function_tools(job: Job, config: Config, stage: str) -> FunctionTools:
    return FunctionTools(
        load_handlers(
            job.handlers,
            job.base_dir,
            where=str(job.source) if job.source is not None else None,
            field="handlers" if stage == MAIN_STAGE else f"stages.{stage}.handlers",
            # A job made in Python is code already.
            allowed=_allowed(config, job),
        ),
        checks={name: AnswerSchema(schema).flaw for name, schema in tool_schemas(job.request).items()},
        max_turns=job.max_turns,
        timeout_s=job.tool_timeout,
        most_bytes=_MOST_TOOL_BYTES,
        at_once=_TOOLS_AT_ONCE,
    )


def _set_apart(job: Job, summary: Summary) -> dict[str, SetApart]:
    """The shares of stages; what a stage may have spent beyond what is known is not taken from its share."""
    shares = {name: section.budget.pusd for name, section in (job.stages or {}).items() if section.budget is not None}
    used = {name: stage.cost_pusd for name, stage in summary.stages.items()}
    return {name: SetApart(share, used.get(name, 0)) for name, share in shares.items()}


def _progress(summary: Summary, now: float) -> Progress:
    return Progress(
        run=summary.run.name,
        started_at=now,
        requests=Counter(summary.requests),
        planned=sum(summary.requests.values()),
        planning_done=summary.run.plan.complete,
        usage=summary.usage,
        cost_pusd=summary.cost_pusd,
        cost_unknown=summary.cost_unknown,
        budget_pusd=summary.run.budget_pusd,
    )


def _budget(work: Work, summary: Summary, caps: SharedCaps | None, spent: Spending | None) -> Budget:
    """The run's cap, less what its earlier processes spent or may have spent, and those over all runs."""
    limits: list[Cap] = []
    if summary.run.budget_pusd is not None:
        committed = summary.cost_pusd + summary.cost_unknown_bound.bounded_pusd + work.shared_cost_pusd
        limits.append(Cap(scope=RUN, limit_pusd=summary.run.budget_pusd, committed_pusd=committed))
    if caps is not None and spent is not None:
        limits += [
            Cap(scope=scope, limit_pusd=limit, committed_pusd=committed, shared=True)
            for scope, limit, committed, _ in spent.under(caps)
            if scope != RUN
        ]
    budget = Budget(limits, set_apart=_set_apart(work.job, summary))
    if spent is not None:
        # Who of the others is at work is seen a second later; until then there is something to wait for.
        budget.note_others(spent.elsewhere_pusd, active=True)
        if work.shards is not None:
            budget.note_siblings(spent.own_pusd)
    return budget
