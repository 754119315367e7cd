"""What a run needs to know of its job, and refuses of it, before anything is read or sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import orjson

from orchestrator.config import Config
from orchestrator.core.errors import BadRow, SpecError, UsageError
from orchestrator.engine.runs import JobIdentity
from orchestrator.job.requests.compose import compose_first, request_rules
from orchestrator.job.requests.expressions import is_template
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.rows.header import refuse_missing_columns
from orchestrator.job.rows.keyed_rows import Row, input_identity, open_rows
from orchestrator.job.rows.sources import STDIN
from orchestrator.job.spec import FREE_TO_CHANGE, Job
from orchestrator.job.stages.stage_jobs import renderer_of, requesting_stages, stage_job
from orchestrator.policy.pricing.prices import Bounds, PriceBook
from orchestrator.stores.reads import Run

__all__ = ["job_identity", "refuse_hopeless", "refuse_one_endpoint_only", "refuse_unbounded", "stored_identity"]

# So many first rows are read for the models that they name.
_ROWS_FOR_MODELS = 100
# No numbers: one that is invented here could be copied.
_TO_FILL_IN = "input: USD_PER_MILLION_INPUT_TOKENS\n      output: USD_PER_MILLION_OUTPUT_TOKENS"


def job_identity(job: Job, config: Config) -> JobIdentity:
    """What decides which run a job resumes; reads the ends of the input files."""
    return JobIdentity(
        job=job.name,
        spec=job.to_store(),
        fingerprint=job.fingerprint(),
        older_fingerprint=job.fingerprint(with_limit=True),
        input_identity=input_identity(job),
        budget_pusd=job.budget_pusd,
        deadline=job.deadline_at,
        simulated=config.simulated,
        free_to_change=FREE_TO_CHANGE,
        day=job.day,
    )


def stored_identity(run: Run, job: Job, config: Config) -> JobIdentity:
    """The identity of a run that is resumed with the job as it is stored.

    Its input is read only if an earlier process did not reach its end. Raises ``UsageError`` if that is needed and
    the input is gone or has changed.
    """
    if not run.plan.complete:
        _refuse_other_input(run, job)
    return JobIdentity(
        job=run.job,
        spec=orjson.loads(run.spec_json),
        fingerprint=run.fingerprint,
        input_identity=run.input_identity,
        budget_pusd=run.budget_pusd,
        deadline=job.deadline_at,
        simulated=config.simulated,
        free_to_change=FREE_TO_CHANGE,
        day=run.day,
    )


def _refuse_other_input(run: Run, job: Job) -> None:
    read = f"only the first {run.plan.position:,} rows of its input were read"
    if job.input.path == STDIN:
        raise UsageError(
            f"run {run.name!r} cannot be finished from the database: {read}",
            hint=f"orchestrator run JOB --run {run.name} resumes it, with the same rows on standard input",
        )
    try:
        found = input_identity(job)
    except SpecError as error:
        raise UsageError(
            f"run {run.name!r} cannot be finished from the database: {read}, and {error.message}",
            where=error.where,
            hint=f"put the input back, or name the job: orchestrator run JOB --run {run.name}",
        ) from None
    if found != run.input_identity:
        raise UsageError(
            f"run {run.name!r} cannot be finished from the database: {read}, and it has changed since",
            hint="orchestrator run JOB --new takes the new input; with `reuse: same-request` in the job it pays for "
            "no row again that was answered",
        )


def refuse_hopeless(job: Job, renderer: Renderer, config: Config, *, now: float) -> None:
    """Raise ``SpecError`` if no request of the job could be sent: for want of a column, a bound or a price.

    Reads the first rows of the input.
    """
    refuse_one_endpoint_only(job, config)
    if job.stages is not None:
        for name in requesting_stages(job):
            refuse_unbounded(stage_job(job, name), renderer_of(job, name, may_be_unstored=True), config)
        return
    refuse_missing_columns(job, renderer)
    refuse_unbounded(job, renderer, config)
    _refuse_unpriced(job, renderer, config, now=now)


def refuse_one_endpoint_only(job: Job, config: Config) -> None:
    """Raises ``SpecError`` if the config has several endpoints and the job asks for what works at one alone."""
    if not config.providers:
        return
    lanes = [job.lane, *(stage_job(job, name).lane for name in requesting_stages(job))]
    asked = next(
        (f"lane: {lane}" for lane in lanes if lane in ("batch", "auto")), "stream: true" if job.stream else ""
    )
    if asked:
        raise SpecError(
            f"{asked} works with one endpoint, and the config names several under `providers`",
            where=str(job.source) if job.source is not None else None,
            hint="use a config with one `provider`, or leave it out of the job",
        )


def refuse_unbounded(job: Job, renderer: Renderer, config: Config) -> None:
    """Raises ``SpecError`` if a budget applies, and a request of the job could cost anything."""
    own, shared = job.budget, config.budget
    if renderer.carries_requests or "max_output_tokens" in job.request or shared.cap_output_tokens is not None:
        return
    if not _needs_bounds(job, config):
        return
    whose = "job" if own is not None else "config"
    raise SpecError(
        f"the {whose} has a budget, but the requests have no max_output_tokens, so one of them could cost anything",
        where=f"{job.source}: request" if job.source is not None else None,
        hint="add request.max_output_tokens, or let the config do so for every job: budget.cap_output_tokens",
    )


def _needs_bounds(job: Job, config: Config) -> bool:
    """Whether a budget applies, and nothing else bounds what a request may cost."""
    own, shared = job.budget, config.budget
    if config.is_free:
        return False
    if own is not None and own.usd_per_request is not None:
        return False
    return own is not None or shared.usd_per_day is not None or shared.usd_per_month is not None


def _refuse_unpriced(job: Job, renderer: Renderer, config: Config, *, now: float) -> None:
    """Raise ``SpecError`` if a budget applies, and no price is known for the model, or for any that the rows name."""
    if not _needs_bounds(job, config):
        return
    prices = PriceBook(config.price_rules())
    models = _models(job, renderer, config)
    if not models or any(_is_priced(fields, prices, now) for fields in models.values()):
        return
    unpriced = next(iter(models))
    several = f" (nor for {len(models) - 1} others that the first rows name)" if len(models) > 1 else ""
    raise SpecError(
        f'a budget applies, and no price is known for the model "{unpriced}"{several}',
        where=f"{job.source}: request.model" if job.source is not None and "model" in job.request else None,
        hint=_price_lines([*models], config.prices),
    )


def _models(job: Job, renderer: Renderer, config: Config) -> dict[str, Mapping[str, Any]]:
    """The models that the job asks, each with the fields of a request to it: the job's own, or those of its rows."""
    model = job.request.get("model")
    if isinstance(model, str) and not is_template(model):
        return {model: job.request}
    if job.input.path == STDIN:
        return {}
    return {fields["model"]: fields for fields in _first_requests(job, renderer, config) if fields.get("model")}


def _first_requests(job: Job, renderer: Renderer, config: Config) -> Iterator[dict[str, Any]]:
    rules = request_rules(job, cap_output_tokens=config.output_cap(job.budget_pusd))
    for row in islice(open_rows(job), _ROWS_FOR_MODELS):
        if isinstance(row, Row):
            try:
                fields = compose_first(renderer, rules, renderer.pack(row), where=row.where)
            except BadRow:
                continue
            if isinstance(fields.get("model"), str):
                yield fields


def _is_priced(fields: Mapping[str, Any], prices: PriceBook, now: float) -> bool:
    tier = fields.get("service_tier")
    known_tier = tier if isinstance(tier, str) and not is_template(tier) else None
    least = Bounds(input_tokens=1, output_tokens=1)
    return prices.worst_case(fields["model"], known_tier, least, at=now) is not None


def _price_lines(models: list[str], prices: str | None) -> str:
    """The lines of a price file, to be filled in."""
    place = (
        f"add to {prices}" if prices is not None else "put into a file, and name it in the config as `prices: FILE`"
    )
    entries = "".join(f"\n    - model: {model}\n      {_TO_FILL_IN}" for model in models[:3])
    return f"{place}:\n  prices:{entries}\n  or bound each request yourself: budget.usd_per_request"
