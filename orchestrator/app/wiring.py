"""Puts the parts of one run together: policies from the config, steps, tasks, and the loop that drives them."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from orchestrator.config import Config
from orchestrator.core.clock import Clock
from orchestrator.core.events import Observer, Progress
from orchestrator.engine.learned_state import LearnedState, Snapshot
from orchestrator.engine.loop import LocalLoop
from orchestrator.engine.poll_schedules import Schedules
from orchestrator.engine.preparation import Preparation
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.settings import Settings
from orchestrator.engine.steps import Context
from orchestrator.engine.tasks.housekeeping import Housekeeping
from orchestrator.engine.tasks.late_costs import LateCosts
from orchestrator.engine.tasks.planner import Planner
from orchestrator.engine.tasks.poller import Poller
from orchestrator.engine.tasks.sender import Sender
from orchestrator.engine.tasks.stream_listener import StreamListener
from orchestrator.engine.tasks.tool_runner import ToolRunner
from orchestrator.engine.uploads import Uploads
from orchestrator.executors.base import Executor
from orchestrator.executors.function_tools import FunctionTools
from orchestrator.executors.streamed import StreamedExecutor
from orchestrator.job.requests.compose import request_rules
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.plan import plan
from orchestrator.job.spec import Job
from orchestrator.job.stream_limit import MOST_STREAMS
from orchestrator.job.tools import load_handlers, tool_schemas
from orchestrator.policy.errors.answer_schema import AnswerSchema, asked_schema
from orchestrator.policy.errors.first_tries import FirstCreates, FirstPolls
from orchestrator.policy.errors.outcomes import AnswerPolicy, OnInvalid, RaiseTo, Repair
from orchestrator.policy.polling.deadlines import Timeouts
from orchestrator.policy.pricing.budget import Budget, Cap
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.policy.rate_limits.circuit_breaker import CircuitBreaker
from orchestrator.policy.rate_limits.limits import Limiter, Pools
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.organization import OrganizationClient
from orchestrator.provider.streaming import StreamingClient
from orchestrator.provider.transport import Endpoint, Transport
from orchestrator.sandbox.server.discovery import find_endpoint, published_endpoint
from orchestrator.sandbox.server.process import embedded_sandbox
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Run, SharedCaps, Spending, Summary

__all__ = [
    "Provider",
    "address",
    "assemble",
    "function_tools",
    "limits_snapshot",
    "open_client",
    "open_organization",
    "open_provider",
]

# What a tool may tell the model at most, and how many handlers run at once.
_MOST_TOOL_BYTES = 256 * 1024
_TOOLS_AT_ONCE = 16


class Provider:
    """The server that a config names, ready to be called."""

    def __init__(self, config: Config, endpoint: Endpoint) -> None:
        self._config = config.provider
        self._endpoint = endpoint
        self._resources = AsyncExitStack()
        self.client = ResponsesClient(
            _transport(self._config.transport, endpoint),
            create_codes=self._config.create_codes,
            status_aliases=self._config.status_aliases,
        )
        self._resources.push_async_callback(self.client.aclose)

    def streams(self) -> StreamingClient:
        """A client for streams, whichever transport the config names for calls: streams are few and last long."""
        from orchestrator.provider.httpx_transport import HttpxTransport

        client = StreamingClient(HttpxTransport(self._endpoint), status_aliases=self._config.status_aliases)
        self._resources.push_async_callback(client.aclose)
        return client

    async def aclose(self) -> None:
        """Close every connection."""
        await self._resources.aclose()


@asynccontextmanager
async def open_provider(
    config: Config, database: Path | None, *, beside_a_run: bool = False
) -> AsyncIterator[Provider]:
    """The provider of the config, or the embedded sandbox, which keeps its state beside the database.

    A sandbox belongs to one process. Who only looks on, ``beside_a_run``, is shown the one that the run has open.
    """
    async with AsyncExitStack() as stack:
        provider = config.provider
        if provider.sandbox is None:
            base_url, api_key = provider.base_url, config.api_key(os.environ)
        else:
            state = None if database is None else database.with_name(database.name + ".sandbox")
            sandbox = find_endpoint(state) if beside_a_run and state is not None else None
            if sandbox is None:
                sandbox = await stack.enter_async_context(embedded_sandbox(provider.sandbox, state))
                if state is not None:
                    stack.enter_context(published_endpoint(sandbox, state))
            base_url, api_key = sandbox.base_url, sandbox.api_key
        endpoint = Endpoint(
            base_url=base_url,
            headers=provider.request_headers(api_key),
            query=provider.query,
            connect_timeout_s=config.timeouts.connect,
            read_timeout_s=config.timeouts.read,
        )
        opened = Provider(config, endpoint)
        stack.push_async_callback(opened.aclose)
        yield opened


@asynccontextmanager
async def open_client(
    config: Config, database: Path | None, *, beside_a_run: bool = False
) -> AsyncIterator[ResponsesClient]:
    """The provider's client for calls; see ``open_provider``."""
    async with open_provider(config, database, beside_a_run=beside_a_run) as provider:
        yield provider.client


@asynccontextmanager
async def open_organization(config: Config) -> AsyncIterator[OrganizationClient]:
    """The provider's account of the organisation, which takes an admin key."""
    endpoint = Endpoint(
        base_url=config.provider.base_url,
        headers=config.provider.request_headers(config.admin_key(os.environ)),
        query=config.provider.query,
        connect_timeout_s=config.timeouts.connect,
        read_timeout_s=config.timeouts.read,
    )
    client = OrganizationClient(_transport(config.provider.transport, endpoint))
    try:
        yield client
    finally:
        await client.aclose()


def _transport(name: str, endpoint: Endpoint) -> Transport:
    if name == "httpx":
        from orchestrator.provider.httpx_transport import HttpxTransport

        return HttpxTransport(endpoint)
    from orchestrator.provider.asyncio_transport import AsyncioTransport

    return AsyncioTransport(endpoint)


def assemble(
    *,
    config: Config,
    run: Run,
    summary: Summary,
    job: Job,
    renderer: Renderer,
    store: Store,
    reader: Reader,
    executor: Executor,
    prices: PriceBook,
    clock: Clock,
    rng: random.Random,
    observe: Observer,
    caps: SharedCaps | None = None,
    spent: Spending | None = None,
    is_at_work: Callable[[int], bool],
    tools: FunctionTools | None = None,
    uploads: Uploads | None = None,
) -> LocalLoop:
    """The loop of one run, with everything it needs."""
    now = clock.now()
    limits = config.limits
    overrides = config.provider.overrides
    accepted = summary.attempts > 0
    context = Context(
        run=run,
        store=store,
        executor=executor,
        clock=clock,
        rng=rng,
        settings=_settings(config, job, caps),
        progress=_progress(summary, now),
        observe=observe,
        prices=prices,
        budget=_budget(summary, caps, spent),
        pools=Pools(
            requests_per_minute=limits.requests_per_minute, tokens_per_minute=limits.tokens_per_minute, now=now
        ),
        polls=Limiter(requests_per_minute=limits.polls_per_minute, tokens_per_minute=None, now=now),
        creates=FirstCreates(accepted=accepted, overrides=overrides),
        looks=FirstPolls(seen=accepted, overrides=overrides),
        create_circuit=CircuitBreaker(rng),
        response_circuit=CircuitBreaker(rng),
        poll_circuit=CircuitBreaker(rng),
        schedules=Schedules(rng, polls_per_minute=limits.polls_per_minute),
        flow=RunStatus(cancelling=run.cancel_requested),
        is_at_work=is_at_work,
        tools=tools,
        uploads=uploads,
    )
    return _loop(context, config=config, job=job, renderer=renderer, reader=reader)


def _loop(context: Context, *, config: Config, job: Job, renderer: Renderer, reader: Reader) -> LocalLoop:
    """The parts that work on a run, and who tells whom."""
    executor = context.executor
    learned = LearnedState(
        context.store,
        reader,
        [
            Snapshot(f"latency:{job.name}", context.schedules.dump, context.schedules.load),
            Snapshot(limits_snapshot(config), context.pools.snapshot, context.pools.restore),
        ],
    )
    preparation = Preparation(
        provider=address(config),
        renderer=renderer,
        encode=partial(executor.encode, run_uid=context.run.uid),
        prices=context.prices,
        pools=context.pools,
        budget=context.budget,
        settings=context.settings,
    )
    actor = ToolRunner(context, requeued=lambda at: sender.put_off(at))
    listener = (
        StreamListener(context, executor=executor, reader=reader, nudge=lambda open_: poller.nudge(open_))
        if isinstance(executor, StreamedExecutor)
        else None
    )
    poller = Poller(context, requeued=lambda at: sender.put_off(at), run_tools=actor.add, listener=listener)
    sender = Sender(context, reader=reader, preparation=preparation, follow=poller.add, run_tools=actor.add)
    planner = Planner(
        context,
        batches=lambda start: plan(job, renderer, start=start),
        skip_bad_rows=job.input.on_bad_row == "skip",
        added=context.flow.sender.set,
        unblocked=sender.put_off,
    )
    return LocalLoop(
        context,
        reader=reader,
        planner=planner,
        sender=sender,
        poller=poller,
        actor=actor,
        upkeep=Housekeeping(context, reader=reader, poller=poller, learned=learned),
        learned=learned,
        late=LateCosts(context, reader=reader),
        listener=listener,
    )


def limits_snapshot(config: Config) -> str:
    """Under which name limits are remembered: another server has others."""
    return f"limits:{address(config)}"


def address(config: Config) -> str:
    """Which provider it is: limits that were learnt and ids that were given hold there and nowhere else."""
    return "sandbox" if config.provider.sandbox is not None else config.provider.base_url


def _settings(config: Config, job: Job, caps: SharedCaps | None) -> Settings:
    return Settings(
        attempts=job.retry.attempts,
        timeouts=Timeouts(queued_s=config.timeouts.queued, run_s=config.timeouts.run),
        resend_below_pusd=config.in_doubt.resend_below_pusd,
        max_in_flight=min(config.limits.max_in_flight, MOST_STREAMS) if job.stream else config.limits.max_in_flight,
        shared_caps=caps,
        rules=request_rules(job, cap_output_tokens=config.output_cap(job.budget_pusd)),
        request_bound_pusd=job.budget.request_bound_pusd if job.budget is not None else None,
        overrides=config.provider.overrides,
        answers=_answer_policy(job),
        chain_mode=job.chain.mode if job.chain is not None else None,
        ask_once=job.duplicates == "once",
        reuse_max_age_s=job.reuse_max_age if job.reuse == "same-request" else None,
        warm_cache=job.prompt_cache is not None and job.prompt_cache.warm,
    )


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


def function_tools(job: Job) -> FunctionTools | None:
    """The handlers of the job's function tools, ready to run; raises ``SpecError`` where one cannot be found."""
    if not job.handlers:
        return None
    return FunctionTools(
        load_handlers(job),
        checks={name: AnswerSchema(schema).flaw for name, schema in tool_schemas(job.request).items()},
        max_turns=job.max_turns,
        timeout_s=job.tool_timeout,
        most_bytes=_MOST_TOOL_BYTES,
        at_once=_TOOLS_AT_ONCE,
    )


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


def _budget(summary: Summary, caps: SharedCaps | None, spent: Spending | None) -> Budget:
    """The run's cap, less what its earlier processes spent or may have spent, and those over all runs."""
    limits: list[Cap] = []
    if summary.run.budget_pusd is not None:
        committed = summary.cost_pusd + summary.cost_unknown_upper_bound_pusd
        limits.append(Cap(scope="run", limit_pusd=summary.run.budget_pusd, committed_pusd=committed))
    if caps is not None and spent is not None:
        limits += [
            Cap(scope=scope, limit_pusd=limit, committed_pusd=committed, shared=True)
            for scope, limit, committed, _ in spent.under(caps)
        ]
    budget = Budget(limits)
    if spent is not None:
        # Who of the others is at work is seen a second later; until then there is something to wait for.
        budget.note_others(spent.elsewhere_pusd, at_work=True)
    return budget
