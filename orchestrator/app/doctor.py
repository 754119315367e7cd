"""Checks everything that a run needs before it sends anything: the machine, the config, the key, the provider."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from orchestrator.app.ask import call_with_retries
from orchestrator.app.connections import Provider, open_client, open_provider
from orchestrator.app.server_trial import TRIAL_OUTPUT_TOKENS, TRIAL_REQUESTS, ServerTrial, in_words
from orchestrator.config import Config
from orchestrator.core.clock import Clock
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.policy.pricing.prices import Bounds, PriceBook
from orchestrator.policy.shutdowns import shutdown_warning
from orchestrator.provider.webhook_settings import WebhookSettings
from orchestrator.stores.base import Backend

__all__ = ["Finding", "check"]

_TRIAL_INPUT_TOKENS = 64
# A tenth of a cent: no more is spent on a trial that was not asked for.
_MOST_PUSD = 1_000_000_000


@fast_dataclass(kw_only=False)
class Finding:
    """The result of one check; ``hint`` says how to fix what failed."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


async def check(config: Config, database: Backend, *, clock: Clock, model: str | None = None) -> list[Finding]:
    """Checks everything that a run needs; the key is used and never shown.

    Two small requests are sent, to ``model`` or to a model that is free or costs next to nothing.
    """
    return [finding async for finding in _findings(config, database, clock, model)]


async def _findings(config: Config, database: Backend, clock: Clock, model: str | None) -> AsyncIterator[Finding]:
    yield Finding("python", True, platform.python_version())
    yield Finding("sqlite", True, sqlite3.sqlite_version)
    yield (found := await _database(database))
    if found.ok:
        for each in await database.advice():
            yield Finding(each.subject, True, each.detail, each.hint)
    yield Finding("config", True, str(config.source) if config.source else "defaults: OpenAI's own API")
    for endpoint in config.endpoints:
        async for finding in _endpoint(endpoint, clock, model):
            yield (
                finding if not config.providers else replace(finding, name=f"{finding.name} {endpoint.endpoint_name}")
            )


async def _endpoint(config: Config, clock: Clock, model: str | None) -> AsyncIterator[Finding]:
    try:
        config.api_key(os.environ)
    except OrchestratorError as error:
        yield Finding("key", False, error.message, error.hint)
        return
    needed = not config.provider.is_embedded and config.provider.api_key_env is not None
    yield Finding("key", True, f"{config.provider.api_key_env} is set" if needed else "none is needed")
    async for finding in _provider(config, clock, model):
        yield finding


async def _database(database: Backend) -> Finding:
    existed = await database.exists()
    try:
        await database.check()
    except OrchestratorError as error:
        return Finding("database", False, error.message, error.hint)
    return Finding("database", True, f"{database.address} {'can be used' if existed else 'can be made'}")


async def _provider(config: Config, clock: Clock, model: str | None) -> AsyncIterator[Finding]:
    where = config.provider.address
    try:
        # An embedded sandbox keeps its state beside a database; this one must leave nothing behind.
        with TemporaryDirectory() as folder:
            async with open_provider(config, Path(folder) / "doctor.db") as provider:
                answer = await call_with_retries(provider.client.offered_models, clock=clock, rng=Random())
                found = await _judge_models(answer, where, config, clock)
                yield found
                models = answer if isinstance(answer, dict) else {}
                if found.ok and config.webhooks is not None:
                    yield await _webhooks(config.webhooks, provider)
                if found.ok:
                    async for finding in _tried(config, provider, models, clock, model):
                        yield finding
    except OrchestratorError as error:
        yield Finding("provider", False, error.message, error.hint)


async def _webhooks(settings: WebhookSettings, provider: Provider) -> Finding:
    from orchestrator.app.webhook_check import check_webhooks

    try:
        return Finding("webhooks", True, await check_webhooks(settings, provider.client))
    except OrchestratorError as error:
        return Finding("webhooks", False, error.message, error.hint)


async def _judge_models(
    answer: Mapping[str, date | None] | Problem, where: str, config: Config, clock: Clock
) -> Finding:
    """What the answer to ``GET /models`` says about the address and the key."""
    match answer:
        case Mapping():
            return Finding("provider", True, f"{where} answers, and offers {len(answer)} models")
        case NeverSent(reason=reason):
            return Finding("provider", False, f"{where}: {reason}", "check provider.base_url and the network")
        case Refused(status=401 | 403) | Refused(code="invalid_api_key") | Refused(type="no_db_connection"):
            words = in_words(answer)
            return Finding("provider", False, f"{where} refuses the key: {words}", f"check {_key_name(config)}")
        case Refused(status=404 | 405) | ReplyLost():
            if (better := await _better_address(config, clock)) is not None:
                hint = f"write provider.base_url: {better}"
                return Finding("provider", False, f"{where} offers no API, but {better} does", hint)
            if isinstance(answer, Refused):
                return Finding("provider", True, f"{where} answers, and offers no list of models")
            return Finding("provider", False, f"{where}: {answer.reason}", "check provider.base_url and the network")
        case Refused():
            hint = "the server's own words say what is wrong; a transient fault passes in a minute"
            return Finding("provider", False, f"{where}: {in_words(answer)}", hint)


async def _better_address(config: Config, clock: Clock) -> str | None:
    """The address with ``/v1`` added or left out, if the models are listed there."""
    base_url = config.provider.base_url
    other = base_url.removesuffix("/v1") if base_url.endswith("/v1") else f"{base_url}/v1"
    if config.provider.is_embedded:
        return None
    provider = config.provider.model_copy(update={"base_url": other})
    async with open_client(config.model_copy(update={"provider": provider}), None) as client:
        answer = await call_with_retries(client.models, clock=clock, rng=Random())
    return other if isinstance(answer, list) else None


async def _tried(
    config: Config, provider: Provider, models: Mapping[str, date | None], clock: Clock, model: str | None
) -> AsyncIterator[Finding]:
    """What two small requests show: to the model that is named, or to a cheap one that is offered."""
    prices = PriceBook(config.price_rules())
    cost = partial(_cost, prices, at=clock.now(), is_free=config.is_free or config.simulated)
    if model is None:
        affordable = [each for each in models if cost(each) is not None]
        model = min(affordable, key=lambda each: cost(each) or 0) if affordable else None
    elif models and model not in models:
        hint = f"it offers {', '.join([*models][:5])}"
        yield Finding("model", False, f"the provider does not offer {model}", hint)
        return
    if model is None:
        yield Finding("trial", True, "not tried, for want of a model: doctor --model NAME tries two small requests")
        return
    yield Finding("model", True, f"{model}, {_price_in_words(prices, model, clock.now(), config)}")
    today = datetime.fromtimestamp(clock.now(), UTC).date()
    until = models.get(model)
    if until is not None and (warning := shutdown_warning(model, today, offered_until=until)) is not None:
        yield Finding("shutdown", until > today, warning, "name another model in the job")
    async for step in ServerTrial(provider.client, provider.streams(), model, clock).steps():
        yield Finding(*step)


def _cost(prices: PriceBook, model: str, *, at: float, is_free: bool) -> Picodollars | None:
    """The most that the trial costs with a model; None if it is too much to spend unasked, or not known."""
    if is_free:
        return 0
    worst = prices.worst_case(model, "default", Bounds(_TRIAL_INPUT_TOKENS, TRIAL_OUTPUT_TOKENS), at=at)
    return worst if worst is not None and TRIAL_REQUESTS * worst <= _MOST_PUSD else None


def _price_in_words(prices: PriceBook, model: str, at: float, config: Config) -> str:
    if config.is_free:
        return "which costs nothing"
    price = prices.price(model, None, at=at, input_tokens=1)
    if price is None:
        return "without a known price: its cost is unknown; `prices` in the config gives one, or says `free`"
    return f"${price.input / 1e6:g} per million input tokens and ${price.output / 1e6:g} per million output tokens"


def _key_name(config: Config) -> str:
    return config.provider.api_key_env or "whether the server needs a key (provider.api_key_env)"
