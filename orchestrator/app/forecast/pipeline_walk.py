"""Reads the input of a job with stages and foresees what each stage would ask; sends and stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import anyio
import orjson

from orchestrator.app.forecast.foresight import Expected, Foreseen, Foresight
from orchestrator.app.forecast.request_size import RequestSize, Ruler
from orchestrator.app.forecast.sample import EvenSample
from orchestrator.app.reusable import Reusable
from orchestrator.config import Config
from orchestrator.core.errors import BadRow
from orchestrator.core.model import SkippedRow
from orchestrator.executors.background import create_body
from orchestrator.job.incomplete import RaiseMaxOutputTokens
from orchestrator.job.requests.compose import RequestRules, compose_first, fingerprint, request_rules
from orchestrator.job.requests.renderer import Renderer, contained
from orchestrator.job.rows.keyed_rows import Row, UnreadableRow, open_rows
from orchestrator.job.spec import Job
from orchestrator.job.stages.expansion import Pipeline
from orchestrator.job.stages.pipeline import StagePlan
from orchestrator.job.stages.read_columns import texts_of
from orchestrator.job.stages.stage_jobs import renderer_of, stage_job
from orchestrator.policy.pricing.tokens import TokenCounter
from orchestrator.stores.base import Reader

__all__ = ["PipelineWalk", "StageTotals", "Walked"]

_ROWS_AT_ONCE = 200
# At least this many requests of each stage are measured; if it has fewer, all are.
_SAMPLE = 20_000


@dataclass(slots=True)
class _Sizes:
    """How many requests there are, and the sizes of an even sample of them."""

    count: int = 0
    sample: EvenSample[RequestSize] = field(default_factory=lambda: EvenSample(_SAMPLE))

    def add(self, size: RequestSize | None, times: int) -> None:
        self.count += times
        if size is not None and times:
            self.sample.keep(size)


@dataclass(slots=True)
class StageTotals:
    """What one stage would send, at least and at most.

    ``reused`` have answers of earlier runs, ``duplicates`` ask what another request of the run asks, and ``failing``
    would fail without being sent.
    """

    least: _Sizes = field(default_factory=_Sizes)
    most: _Sizes = field(default_factory=_Sizes)
    reused: int = 0
    duplicates: int = 0
    failing: int = 0


@dataclass(slots=True)
class Walked:
    """What was foreseen of a whole input, or of its first ``rows`` rows."""

    stages: dict[str, StageTotals]
    rows: int = 0
    whole: bool = True
    skipped: list[SkippedRow] = field(default_factory=list)
    invalid: list[SkippedRow] = field(default_factory=list)
    first_request: bytes | None = None


class _Asking:
    """One stage, ready to compose and measure its requests."""

    def __init__(
        self, job: Job, plan: StagePlan, config: Config, *, reader: Reader | None, counter: TokenCounter
    ) -> None:
        own = stage_job(job, plan.name)
        self.plan = plan
        self.renderer: Renderer = renderer_of(
            job, plan.name, may_be_unstored=config.provider.store == "optional", private=config.private_files
        )
        self.rules: RequestRules = request_rules(own, cap_output_tokens=config.output_cap(job.budget_pusd))
        self.reusable = Reusable(own, config, reader)
        self.ruler = Ruler(counter)
        self.once = own.duplicates == "once"
        self.takes_turns = own.chain is not None or bool(own.handlers)
        incomplete = own.on_incomplete
        self.raised_to = incomplete.raise_max_output_tokens_to if isinstance(incomplete, RaiseMaxOutputTokens) else 0
        texts = texts_of([plan.section.request, plan.section.merge])
        self.template_tokens = sum(counter.count(text) for text in texts)
        given = own.request.get("max_output_tokens", self.rules.cap_output_tokens)
        self.answer_tokens = max(given, self.raised_to) if isinstance(given, int) else None

    def size(self, fields: dict[str, Any] | None) -> RequestSize:
        """The size of a request; by the length of its template if it cannot be rendered with stand-ins."""
        if fields is not None:
            size = self.ruler.measure(fields)
        else:
            section = self.plan.section.request or {}
            plain: dict[str, Any] = {
                name: section[name] for name in ("model", "service_tier", "tools") if name in section
            }
            size = replace(self.ruler.measure(plain), max_output_tokens=self.answer_tokens)
            size = replace(size, input_tokens=size.input_tokens + self.template_tokens, open_ended=False)
        return replace(size, open_ended=True) if self.takes_turns else size


@dataclass(slots=True)
class _Composed:
    request: Foreseen
    size: RequestSize | None = None
    mark: bytes | None = None
    is_duplicate: bool = False
    problem: str | None = None


class PipelineWalk:
    """Foresees one job, once."""

    def __init__(
        self,
        job: Job,
        config: Config,
        pipeline: Pipeline,
        *,
        reader: Reader | None,
        counter: TokenCounter,
        now: float,
    ) -> None:
        self._job = job
        self._pipeline = pipeline
        self._foresight = Foresight(pipeline, counter)
        self._now = now
        self._every = False
        self._asking = {
            plan.name: _Asking(job, plan, config, reader=reader, counter=counter) for plan in pipeline.requesting
        }
        self._asked: set[bytes] = set()
        self._walked = Walked({name: StageTotals() for name in self._asking})

    async def walk(self, *, every: bool = False, enough: Callable[[], bool] = lambda: False) -> Walked:
        """Read the input and foresee every stage; raises ``BadRow`` if a run would stop at a row.

        ``enough`` ends the reading early; ``every`` composes each request to check it, not only those of a sample.
        """
        self._every = every
        rows = self._rows()
        while batch := await anyio.to_thread.run_sync(lambda: list(islice(rows, _ROWS_AT_ONCE))):
            await anyio.to_thread.run_sync(self._read, batch)
            for stage in self._asking:
                await self._work(stage)
            if enough():
                self._walked.whole = False
                break
        for stage in self._asking:
            await anyio.to_thread.run_sync(self._foresight.close, stage)
            await self._work(stage)
        for stage, failed in self._foresight.failed_groups.items():
            self._walked.stages[stage].failing += failed
        return self._walked

    def _rows(self) -> Iterator[Row]:
        keys: set[str] = set()
        for row in open_rows(self._job):
            problem = row.reason if isinstance(row, UnreadableRow) else None
            if isinstance(row, Row) and row.key in keys:
                problem = f"another row has the key {row.key!r}"
            if problem is None and isinstance(row, Row):
                keys.add(row.key)
                yield row
            elif self._job.input.on_bad_row == "stop":
                raise BadRow(problem or "", where=row.where, hint="input.on_bad_row: skip leaves such rows out")
            else:
                self._walked.skipped.append(SkippedRow(position=row.position, where=row.where, reason=problem or ""))

    def _read(self, rows: Sequence[Row]) -> None:
        self._walked.rows += len(rows)
        for row in rows:
            self._foresight.of_input(row.key, row.data, row.where)

    async def _work(self, stage: str) -> None:
        """Foresee the requests of a stage; the parts of a large group make further ones of the same stage."""
        asking = self._asking[stage]
        while requests := self._foresight.take(stage):
            composed = await anyio.to_thread.run_sync(self._composed, asking, requests)
            marks = [each.mark for each in composed if each.mark is not None]
            known = await asking.reusable.answers(marks, self._now)
            await anyio.to_thread.run_sync(self._settle, asking, composed, known)

    def _composed(self, asking: _Asking, requests: Sequence[Foreseen]) -> list[_Composed]:
        return [self._compose(asking, each) for each in requests]

    def _compose(self, asking: _Asking, request: Foreseen) -> _Composed:
        totals = self._walked.stages[request.stage]
        if request.failure is not None:
            return _Composed(request, problem=request.failure)
        wanted = totals.most.sample.wants_next
        if not (wanted or self._every or asking.reusable.is_possible):
            totals.most.sample.pass_over()
            return _Composed(request)
        composed, fields = _Composed(request), None
        try:
            with contained(request.where):
                fields = compose_first(asking.renderer, asking.rules, orjson.dumps(request.row), where=request.where)
                mark = fingerprint(fields, provider="")
        except BadRow as error:
            if request.is_exact:
                composed.problem = error.message
                return composed
        else:
            if request.is_exact:
                composed.mark = asking.reusable.fingerprint(fields)
                composed.is_duplicate = asking.once and self._is_asked(mark)
            self._show_first(request, fields)
        composed.size = asking.size(fields) if wanted else None
        return composed

    def _is_asked(self, mark: bytes | None) -> bool:
        is_asked = mark in self._asked
        if mark is not None:
            self._asked.add(mark)
        return is_asked

    def _show_first(self, request: Foreseen, fields: dict[str, Any]) -> None:
        if self._walked.first_request is None and request.is_exact:
            with suppress(BadRow):
                self._walked.first_request = create_body(
                    fields, run_uid="dry-run", key=request.key, number=1, stage=request.stage
                )

    def _settle(self, asking: _Asking, composed: Sequence[_Composed], known: dict[bytes, str | None]) -> None:
        for each in composed:
            self._foresight.settle(each.request, self._known(asking, each, known))

    def _known(self, asking: _Asking, each: _Composed, known: dict[bytes, str | None]) -> Expected:
        request, totals = each.request, self._walked.stages[each.request.stage]
        if each.problem is not None:
            totals.failing += 1
            self._walked.invalid.append(SkippedRow(position=0, where=request.where, reason=each.problem))
            return Expected(failed=True)
        text = known.get(each.mark) if each.mark is not None else None
        if each.is_duplicate:
            totals.duplicates += 1
        elif each.mark in known:
            totals.reused += 1
        else:
            self._count(asking, each, totals)
        bound = asking.answer_tokens
        if bound is None and each.size is not None and each.size.max_output_tokens is not None:
            bound = max(each.size.max_output_tokens, asking.raised_to)
        return Expected(text=text, most_tokens=bound)

    def _count(self, asking: _Asking, each: _Composed, totals: StageTotals) -> None:
        request, size = each.request, each.size
        if size is None:
            totals.least.count += request.least
            totals.most.count += request.most
            return
        unseen = self._foresight.unseen_tokens(asking.plan, request.unseen)
        least = replace(size, input_tokens=size.input_tokens + request.tokens.least)
        most = None if unseen is None or request.tokens.most is None else unseen + request.tokens.most
        bounded = replace(size, input_tokens=size.input_tokens + (most or 0), shared_tokens=size.shared_tokens)
        totals.least.add(least, request.least)
        totals.most.add(bounded if most is not None else replace(bounded, open_ended=True), request.most)
