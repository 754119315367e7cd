"""Makes forecasts of a job: measures its rows, reads earlier runs, and lets the provider count tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Literal, TypeAlias

import anyio

from orchestrator.app.ask import Retries, call_with_retries
from orchestrator.app.connections import limits_snapshot
from orchestrator.app.forecast.estimates import (
    Forecast,
    LeastTime,
    basis,
    estimate,
    least_time,
    variants,
)
from orchestrator.app.forecast.lane_forecasts import compare_lanes
from orchestrator.app.forecast.past_answers import Past, find_past
from orchestrator.app.forecast.request_size import Counting, Measured, RequestSize, Ruler
from orchestrator.app.forecast.sample import GLANCE_S, EvenSample, glance, requests_of
from orchestrator.app.reusable import Reusable
from orchestrator.config import Config
from orchestrator.core import exact_json
from orchestrator.core.clock import Clock
from orchestrator.core.errors import BadRow, UsageError
from orchestrator.core.lanes import first_lane
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.job.incomplete import RaiseMaxOutputTokens
from orchestrator.job.requests.compose import fingerprint, request_rules
from orchestrator.job.requests.lane_fields import in_lane, priced_in_lane
from orchestrator.job.requests.renderer import Renderer, contained
from orchestrator.job.rows.sources import STDIN
from orchestrator.job.spec import Job
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.policy.pricing.tokens import token_counter
from orchestrator.policy.rate_limits.limits import Pools
from orchestrator.provider.client import ResponsesClient
from orchestrator.stores.base import Reader

__all__ = ["Exact", "Forecaster", "Sizer"]

Exact: TypeAlias = int | Literal["all"]

# At least this many requests of a job are measured; if it has fewer, all are.
_SAMPLE = 20_000
# Before it starts, ``run`` estimates its cost from at most this many rows.
_MEASURED = 200
# The relative error of a number of rows that is estimated from the size of the input.
_ROWS_ERROR = 0.2
# Counts asked for at once, and how often one is asked for.
_COUNTS_AT_ONCE = 8
_COUNT_TRIES = 6
_ASKED_TOGETHER = 64
# What ``POST /responses/input_tokens`` takes (responses API, "Other operations").
_COUNTED_FIELDS = (
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "conversation",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "parallel_tool_calls",
    "truncation",
)


class Sizer:
    """Measures what a run would send: duplicates once, and with no upper bound what may take further turns."""

    def __init__(self, job: Job, ruler: Ruler, reusable: Reusable) -> None:
        self._ruler = ruler
        self._reusable = reusable
        self._once = job.duplicates == "once" and job.chain is None
        self._takes_turns = job.chain is not None or bool(job.handlers) or job.on_invalid != "fail"
        self._lane = first_lane(job.lane)
        self._asked: set[bytes] = set()

    def __call__(self, fields: Mapping[str, Any]) -> RequestSize | None:
        """The size of a request; None for a duplicate of an earlier one."""
        asked = fingerprint(fields, provider="") if self._once else None
        if asked in self._asked:
            return None
        if asked is not None:
            self._asked.add(asked)
        size = self._ruler.measure(priced_in_lane(in_lane(fields, self._lane), self._lane))
        if self._reusable.is_possible:
            size = replace(size, fingerprint=self._reusable.fingerprint(fields))
        return replace(size, open_ended=True) if self._takes_turns else size


class Forecaster:
    """Makes forecasts of one job."""

    def __init__(
        self, job: Job, config: Config, *, reader: Reader | None, prices: PriceBook, clock: Clock, rng: random.Random
    ) -> None:
        self._job = job
        self._config = config
        self._renderer = Renderer(
            job, may_be_unstored=config.provider.store == "optional", private=config.private_files
        )
        self._rules = request_rules(job, cap_output_tokens=config.output_cap(job.budget_pusd))
        self._reader = reader
        self._reusable = Reusable(job, config, reader)
        self._prices = prices
        self._clock = clock
        self._rng = rng

    async def forecast(
        self,
        client: Callable[[], AbstractAsyncContextManager[ResponsesClient]],
        *,
        exact: Exact | None,
        compare: Sequence[str],
        learn_from: str | None,
    ) -> Forecast:
        """Measure every row, or an even sample of very many; ``exact`` has the provider count that many of them."""
        if exact is not None and self._job.input.path == STDIN:
            raise UsageError(
                "rows from standard input cannot be read twice, as an exact count needs",
                hint="put them into a file, or leave --exact out",
            )
        counter = token_counter()
        sample: EvenSample[RequestSize | None] = EvenSample(_SAMPLE)
        await anyio.to_thread.run_sync(self._measure, Sizer(self._job, Ruler(counter), self._reusable), sample)
        sizes = [size for size in sample.kept if size is not None]
        if not counter.exact:
            counting = Counting.HEURISTIC
        elif all(counter.exact_for(size.model) for size in sizes):
            counting = Counting.VOCABULARY
        else:
            counting = Counting.OTHER_VOCABULARY
        correction = 1.0
        if exact is not None and sizes:
            stride = 1 if exact == "all" else max(1, sample.seen // exact)
            async with client() as asked:
                correction = await self._ask(asked, stride)
            counting = Counting.PROVIDER if stride == 1 else Counting.PROVIDER_SAMPLE
        models = _models(sizes)
        sizes, reused = await self._to_send(sizes)
        scale = sample.seen / max(1, len(sample.kept))
        measured = Measured(sizes=sizes, rows=round(scale * len(sizes)), counting=counting, correction=correction)
        found = await self._forecast(measured, rows=sample.seen, compare=compare, learn_from=learn_from)
        return replace(found, models=models, reused=round(scale * reused))

    async def glance(self) -> Forecast | None:
        """A forecast from the first rows, within a quarter of a second; None if the number of rows stays unknown."""
        if self._job.input.path == STDIN:
            return None
        ends_at, sizer = self._clock.now() + GLANCE_S, Sizer(self._job, Ruler(), self._reusable)
        seen = await anyio.to_thread.run_sync(
            lambda: glance(
                self._job,
                self._renderer,
                sizer,
                most=_MEASURED,
                enough=lambda: self._clock.now() >= ends_at,
                rules=self._rules,
            )
        )
        sizes = [size for size in seen.things if size is not None]
        if seen.rows is None or not sizes:
            return None
        models, reused = _models(sizes), None
        if seen.counted and len(seen.things) == seen.rows:
            sizes, reused = await self._to_send(sizes)
        measured = Measured(
            sizes=sizes,
            rows=round(seen.rows * len(sizes) / len(seen.things)),
            counting=Counting.HEURISTIC,
            rows_error=0.0 if seen.counted else _ROWS_ERROR,
        )
        found = await self._forecast(measured, rows=seen.rows, compare=(), learn_from=None)
        if reused is None and self._reusable.is_possible:
            # Any of the answers may be there already: which of them, the first rows do not say.
            cost = found.estimate.cost
            return replace(found, reused=None, estimate=replace(found.estimate, cost=cost and replace(cost, low=0)))
        return replace(found, models=models, reused=reused or 0)

    async def _to_send(self, sizes: list[RequestSize]) -> tuple[list[RequestSize], int]:
        """The requests that no earlier run has, and how many are reused."""
        marks = [size.fingerprint for size in sizes if size.fingerprint is not None]
        there = await self._reusable.among(marks, self._clock.now())
        left = [size for size in sizes if size.fingerprint is None or size.fingerprint not in there]
        return left, len(sizes) - len(left)

    async def _forecast(
        self, measured: Measured, *, rows: int, compare: Sequence[str], learn_from: str | None
    ) -> Forecast:
        past = await find_past(self._job, self._reader, run=learn_from)
        incomplete = self._job.on_incomplete
        raised_to = incomplete.raise_max_output_tokens_to if isinstance(incomplete, RaiseMaxOutputTokens) else None
        await anyio.to_thread.run_sync(self._prices.load)
        now = self._clock.now()
        estimates = [
            estimate(measured, self._prices, at=now, past=past.use, raised_to=raised_to, variant=variant)
            for variant in (None, *variants(compare, self._prices.windows))
        ]
        lanes = await compare_lanes(
            self._job,
            self._config,
            rows=measured.rows,
            now=now,
            reader=self._reader,
            price=lambda variant: estimate(
                measured, self._prices, at=now, past=past.use, raised_to=raised_to, variant=variant
            ),
        )
        return Forecast(
            job=self._job.name,
            models=_models(measured.sizes),
            rows=rows,
            requests=measured.rows,
            rows_counted=not measured.rows_error,
            measured=len(measured.sizes),
            counting=measured.counting,
            basis=basis(measured, past.use),
            learned_from=past.runs,
            learned_model=past.model,
            estimate=estimates[0],
            compared=tuple(estimates[1:]),
            raised_to=raised_to,
            time=await self._least_time(measured, past),
            budget_pusd=self._job.budget_pusd,
            lanes=lanes,
        )

    # ── the rows ──────────────────────────────────────────────────────────────────────────────────────────

    def _measure(self, sizer: Sizer, sample: EvenSample[RequestSize | None]) -> None:
        for render in requests_of(self._job, self._renderer, self._rules):
            if sample.wants_next:
                sample.keep(_size(sizer, render))
            else:
                sample.pass_over()

    async def _ask(self, client: ResponsesClient, stride: int) -> float:
        """Have the provider count every ``stride``-th request; what it counts for each token counted here."""
        ruler, chosen = (
            Ruler(token_counter()),
            islice(requests_of(self._job, self._renderer, self._rules), 0, None, stride),
        )
        counted = own = 0
        places = anyio.CapacityLimiter(_COUNTS_AT_ONCE)

        async def count(fields: Mapping[str, Any]) -> None:
            nonlocal counted
            async with places:
                tokens = await self._count(client, fields)
            counted += tokens

        while batch := await anyio.to_thread.run_sync(_rendered, chosen):
            own += sum(ruler.measure(fields).input_tokens for fields in batch)
            async with anyio.create_task_group() as tasks:
                for fields in batch:
                    tasks.start_soon(count, fields)
        return counted / own

    async def _count(self, client: ResponsesClient, fields: Mapping[str, Any]) -> int:
        body = exact_json.dumps({name: fields[name] for name in _COUNTED_FIELDS if name in fields})
        answer = await call_with_retries(
            lambda: client.count_input_tokens(body),
            clock=self._clock,
            rng=self._rng,
            retries=Retries(attempts=_COUNT_TRIES),
        )
        if isinstance(answer, int):
            return answer
        raise UsageError(
            f"the provider does not count the tokens: {_words(answer)}",
            hint="leave --exact out; tokens are then counted on this machine",
        )

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _least_time(self, measured: Measured, past: Past) -> LeastTime:
        limits = self._config.limits
        pools = Pools(
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            now=self._clock.now(),
        )
        learned = await self._reader.recall(limits_snapshot(self._config)) if self._reader is not None else None
        if learned is not None:
            pools.restore(learned)
        pool = pools.pool(measured.sizes[0].model if measured.sizes else "")
        return least_time(
            measured,
            requests_per_minute=pool.requests_per_minute,
            tokens_per_minute=pool.tokens_per_minute,
            max_in_flight=limits.max_in_flight,
            past=past.use,
        )


def _rendered(chosen: islice[Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    rendered = []
    for render in islice(chosen, _ASKED_TOGETHER):
        with suppress(BadRow), contained(""):
            rendered.append(render())
    return rendered


def _models(sizes: Sequence[RequestSize]) -> tuple[str, ...]:
    return tuple(sorted({size.model for size in sizes}))


def _size(sizer: Sizer, render: Callable[[], dict[str, Any]]) -> RequestSize | None:
    """Returns the size of a request; None if it costs nothing, as one that cannot be made."""
    with suppress(BadRow), contained(""):
        return sizer(render())
    return None


def _words(problem: Problem) -> str:
    match problem:
        case Refused(status=status):
            return f"it answers with HTTP {status}"
        case NeverSent(reason=reason) | ReplyLost(reason=reason):
            return reason
