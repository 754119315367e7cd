"""Makes forecasts of a job with stages: a range for each stage, and their sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce

import anyio

from orchestrator.app.connections import limits_snapshot
from orchestrator.app.forecast.estimates import (
    Basis,
    Estimate,
    Forecast,
    LeastTime,
    Span,
    StageForecast,
    Variant,
    basis,
    estimate,
    least_time,
    variants,
)
from orchestrator.app.forecast.past_answers import Past, find_past
from orchestrator.app.forecast.pipeline_walk import PipelineWalk, StageTotals, Walked
from orchestrator.app.forecast.request_size import Counting, Measured, RequestSize
from orchestrator.app.forecast.sample import GLANCE_S, about_how_many_rows
from orchestrator.config import Config
from orchestrator.core.clock import Clock
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.job.incomplete import RaiseMaxOutputTokens, Repairs
from orchestrator.job.rows.sources import STDIN
from orchestrator.job.spec import Job
from orchestrator.job.stages.expansion import Pipeline
from orchestrator.job.stages.stage_jobs import stage_job
from orchestrator.policy.errors.outcomes import Repair
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.policy.pricing.tokens import TokenCounter, token_counter
from orchestrator.policy.rate_limits.limits import Pools
from orchestrator.stores.base import Reader

__all__ = ["PipelineForecaster"]

_NOTHING = Span(low=0, likely=0, high=0)


@fast_dataclass
class _Ends:
    """The fewest and the most requests of a stage, as far as they were measured."""

    least: Measured
    most: Measured
    # How often each may be asked because of its answer, with so many more input tokens each time on average.
    turns: int = 1
    more_tokens: int = 0


class PipelineForecaster:
    """Makes forecasts of one job with stages."""

    def __init__(
        self, job: Job, config: Config, pipeline: Pipeline, *, reader: Reader | None, prices: PriceBook, clock: Clock
    ) -> None:
        self._job = job
        self._config = config
        self._pipeline = pipeline
        self._reader = reader
        self._prices = prices
        self._clock = clock

    async def walk(
        self, *, counter: TokenCounter | None = None, every: bool = False, enough: Callable[[], bool] = lambda: False
    ) -> Walked:
        """Foresee all requests; ``every`` one is composed and checked, ``enough`` ends it early."""
        walk = PipelineWalk(
            self._job,
            self._config,
            self._pipeline,
            reader=self._reader,
            counter=counter or token_counter(),
            now=self._clock.now(),
        )
        return await walk.walk(every=every, enough=enough)

    async def glance(self) -> Forecast | None:
        """A forecast from the first rows, within a quarter of a second; None if the number of rows stays unknown."""
        if self._job.input.path == STDIN:
            return None
        ends_at, counter = self._clock.now() + GLANCE_S, TokenCounter(exact=False)
        walked = await self.walk(counter=counter, enough=lambda: self._clock.now() >= ends_at)
        rows = walked.rows
        if not walked.whole:
            about = await anyio.to_thread.run_sync(about_how_many_rows, self._job)
            if about is None:
                return None
            rows = max(rows, about)
        return await self.forecast(walked, rows=rows, counter=counter)

    async def forecast(
        self,
        walked: Walked,
        *,
        rows: int | None = None,
        compare: Sequence[str] = (),
        learn_from: str | None = None,
        counter: TokenCounter | None = None,
    ) -> Forecast:
        """The forecast of what was foreseen; with ``rows``, its first rows stand for so many."""
        await anyio.to_thread.run_sync(self._prices.load)
        scale = 1.0 if rows is None or not walked.rows else max(1.0, rows / walked.rows)
        counting = _counting(counter or token_counter(), walked)
        stages, times = list[StageForecast](), list[LeastTime]()
        for name, totals in walked.stages.items():
            past = await find_past(self._job, self._reader, stage=name, run=learn_from)
            ends = _ends(totals, counting, scale, stage_job(self._job, name))
            stage = self._stage(name, totals, ends, past, compare)
            is_counted = walked.whole or stage_job(self._job, name).reuse == "never"
            stages.append(stage if is_counted else replace(stage, reused=None))
            times.append(await self._least_time(ends.least, past))
        return self._summed(walked, stages, times, counting, rows)

    def _summed(
        self,
        walked: Walked,
        stages: Sequence[StageForecast],
        times: Sequence[LeastTime],
        counting: Counting,
        rows: int | None,
    ) -> Forecast:
        requests = reduce(Span.__add__, (each.requests for each in stages), _NOTHING)
        reused = [each.reused for each in stages]
        worst = [each.worst_pusd for each in stages]
        return Forecast(
            job=self._job.name,
            models=tuple(sorted({model for each in stages for model in each.models})),
            rows=walked.rows if rows is None else rows,
            requests=requests.high or 0,
            rows_counted=walked.whole,
            measured=sum(len(each.most.sample.kept) for each in walked.stages.values()),
            counting=counting,
            basis=next((each.basis for each in stages if each.basis is not Basis.PAST), Basis.PAST),
            learned_from=tuple(dict.fromkeys(run for each in stages for run in each.learned_from)),
            learned_model=None,
            estimate=_sum_of([each.estimate for each in stages]),
            compared=tuple(_sum_of(each) for each in zip(*(stage.compared for stage in stages), strict=True)),
            raised_to=None,
            time=max(times, key=lambda each: each.seconds or 0.0, default=LeastTime(seconds=None, held_by=None)),
            budget_pusd=self._job.budget_pusd,
            reused=None if None in reused else sum(each or 0 for each in reused),
            stages=tuple(stages),
            worst_pusd=None if None in worst else sum(each or 0 for each in worst),
        )

    def _stage(
        self, name: str, totals: StageTotals, ends: _Ends, past: Past, compare: Sequence[str]
    ) -> StageForecast:
        incomplete = stage_job(self._job, name).on_incomplete
        raised_to = incomplete.raise_max_output_tokens_to if isinstance(incomplete, RaiseMaxOutputTokens) else None
        price = partial(self._estimate, ends, raised_to)
        return StageForecast(
            name=name,
            models=tuple(sorted({size.model for size in ends.most.sizes})),
            requests=_requests(ends),
            reused=totals.reused,
            duplicates=totals.duplicates,
            failing=totals.failing,
            basis=basis(ends.most, past.use),
            learned_from=past.runs,
            estimate=price(past, None),
            compared=tuple(price(past, each) for each in variants(compare, self._prices.windows)),
            worst_pusd=_highest(price(Past(), None)),
        )

    def _estimate(self, ends: _Ends, raised_to: int | None, past: Past, variant: Variant | None) -> Estimate:
        """From the least that the fewest requests take to the most that the most of them do."""
        one = partial(
            estimate, prices=self._prices, at=self._clock.now(), past=past.use, raised_to=raised_to, variant=variant
        )
        if not ends.most.sizes:
            return replace(one(ends.most), input_tokens=_NOTHING, output_tokens=_NOTHING, cost=_NOTHING)
        most, least = one(ends.most) if past.use.requests else _repeated(one, ends), one(ends.least)
        usual = one(_usual(ends, past)) if ends.least.rows == ends.most.rows else None
        return Estimate(
            variant=most.variant,
            input_tokens=_between(least.input_tokens, usual.input_tokens if usual else None, most.input_tokens),
            output_tokens=_between(least.output_tokens, usual.output_tokens if usual else None, most.output_tokens),
            cost=None
            if least.cost is None or most.cost is None
            else _between(least.cost if ends.least.sizes else _NOTHING, usual.cost if usual else None, most.cost),
            price_estimated=most.price_estimated,
        )

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


def _counting(counter: TokenCounter, walked: Walked) -> Counting:
    if not counter.exact:
        return Counting.HEURISTIC
    models = {size.model for each in walked.stages.values() for size in each.most.sample.kept}
    return Counting.VOCABULARY if all(map(counter.exact_for, models)) else Counting.OTHER_VOCABULARY


def _ends(totals: StageTotals, counting: Counting, scale: float, job: Job) -> _Ends:
    least = Measured(sizes=totals.least.sample.kept, rows=totals.least.count, counting=counting)
    most = Measured(sizes=totals.most.sample.kept, rows=round(totals.most.count * scale), counting=counting)
    match job.on_invalid:
        case "fail":
            return _Ends(least=least, most=most)
        case "retry":
            return _Ends(least=least, most=most, turns=job.retry.attempts)
        case repairs:
            turns = 1 + (repairs.repairs if isinstance(repairs, Repairs) else Repair().at_most)
            # Each turn reads the answers before it.
            answer = max((size.max_output_tokens or 0 for size in most.sizes), default=0)
            return _Ends(least=least, most=most, turns=turns, more_tokens=answer * (turns - 1) // 2)


def _repeated(one: Callable[[Measured], Estimate], ends: _Ends) -> Estimate:
    """What the requests take if each is asked as often as it may be."""
    sizes = [replace(size, input_tokens=size.input_tokens + ends.more_tokens) for size in ends.most.sizes]
    found = one(replace(ends.most, sizes=sizes))
    return replace(
        found,
        input_tokens=_times(found.input_tokens, ends.turns),
        output_tokens=_times(found.output_tokens, ends.turns),
        cost=None if found.cost is None else _times(found.cost, ends.turns),
    )


def _times(span: Span, number: int) -> Span:
    return replace(span, high=None if span.high is None else span.high * number)


def _requests(ends: _Ends) -> Span:
    least, most = ends.least.rows, ends.most.rows
    return Span(low=least, likely=least if least == most else None, high=most)


def _usual(ends: _Ends, past: Past) -> Measured:
    """The requests with as much input as earlier ones had, where answers that are not known are part of it."""
    if not past.use.requests or list(ends.least.sizes) == list(ends.most.sizes):
        return ends.most
    tokens = past.use.input_tokens // max(1, past.use.responses)
    return replace(ends.most, sizes=[_bounded(size, tokens) for size in ends.most.sizes])


def _bounded(size: RequestSize, tokens: int) -> RequestSize:
    return replace(size, input_tokens=min(size.input_tokens, tokens) or tokens)


def _between(least: Span, usual: Span | None, most: Span) -> Span:
    likely = None if usual is None else usual.likely
    low = min(least.low, most.low)
    if likely is not None:
        likely = max(low, likely if most.high is None else min(likely, most.high))
    return Span(low=low, likely=likely, high=most.high)


def _highest(found: Estimate) -> Picodollars | None:
    return None if found.cost is None else found.cost.high


def _sum_of(estimates: Sequence[Estimate]) -> Estimate:
    costs = [each.cost for each in estimates]
    return Estimate(
        variant=estimates[0].variant,
        input_tokens=reduce(Span.__add__, (each.input_tokens for each in estimates)),
        output_tokens=reduce(Span.__add__, (each.output_tokens for each in estimates)),
        cost=None if None in costs else reduce(Span.__add__, (each for each in costs if each is not None)),
        price_estimated=any(each.price_estimated for each in estimates),
    )
