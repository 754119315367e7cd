"""The config file: provider, limits, timeouts, budgets and database.

The same job runs in the sandbox, at OpenAI, or at the user's own server: only the config differs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from orchestrator.core.errors import ConfigError
from orchestrator.core.money import Picodollars, parse_usd
from orchestrator.core.section import Section
from orchestrator.job.documents.document import Document, load_document
from orchestrator.job.documents.validation_problems import ValidationProblem, did_you_mean, refuse
from orchestrator.job.documents.values import Duration, FileSize, Usd
from orchestrator.job.requests.parameters import LEAST_OUTPUT_TOKENS
from orchestrator.job.schema import DIALECT
from orchestrator.local_model.local_model_settings import LocalModelSettings
from orchestrator.notify.settings import NotifyRule
from orchestrator.policy.errors.error_rules import Action, Override, Phase
from orchestrator.policy.errors.profiles import PROFILES, overrides_for
from orchestrator.policy.pricing.price_file import PriceFile, file_version
from orchestrator.policy.pricing.price_rules import PriceRules
from orchestrator.provider.reply_memory import DEFAULT_MOST_BYTES
from orchestrator.provider.transport import DEFAULT_REPLY_BYTES
from orchestrator.provider.webhook_settings import WebhookSettings
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.stores.base import DEFAULT_DATABASE
from orchestrator.stores.database_address import is_server
from orchestrator.stores.reads import SharedCaps

__all__ = [
    "BudgetSettings",
    "Config",
    "EndpointLimitSettings",
    "EndpointSettings",
    "ErrorOverride",
    "InDoubtSettings",
    "LaneSettings",
    "LimitSettings",
    "ProviderSettings",
    "TimeoutSettings",
    "config_schema",
    "load_config",
    "rehearsal",
    "sandbox_config",
]

DEFAULT_BASE_URL = "https://api.openai.com/v1"
BASE_URL_VARIABLE = "OPENAI_BASE_URL"
SANDBOX_CONFIG = "sandbox"
# What can stand in place of a server.
_EMBEDDED = ("sandbox", "local_model")
# In place of a price file: nothing costs anything.
_FREE = "free"

# Names under which servers and gateways expect a secret; its value belongs in the environment.
_SECRET_NAME = re.compile(
    r"(^|[-_.])(auth|authentication|authorization|bearer|cookie|credentials?|(api)?key|password|secret|sig|signature|token)($|[-_.])",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"\s*(bearer\s|basic\s|sk-)", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
# A key is one word of printable ASCII: anything else is a quoting error, and would break the request.
_KEY = re.compile(r"[\x21-\x7e]+")
_MODULE = r"^[^\W\d]\w*(\.[^\W\d]\w*)*$"
_QUOTES = re.compile("[\"'`]")


class ErrorOverride(Section):
    """What to do about an error that this server uses in its own way. All given conditions must match."""

    action: Literal[
        "retry", "rate_limited", "slow_down", "full", "outage", "fail", "in_doubt", "halt", "missing", "bounce"
    ] = Field(alias="class")
    """`retry` (counts as an attempt), `rate_limited` (wait and send again, counts as none), `slow_down` (the same, at
    a lower rate), `full` (no place for another open response: fewer are open from now on), `outage` (no request is
    served), `fail` (this request), `in_doubt` (it may have been done), `halt` (the run), or, for polls, `missing`
    (the response is unknown). `bounce` is an older name of `rate_limited`."""
    status: int | None = Field(default=None, ge=100, le=599)
    """The HTTP status."""
    code: str | None = Field(default=None, min_length=1)
    """The error's code or type."""
    text: str | None = Field(default=None, min_length=1)
    """Words found anywhere in the error, in any case."""
    met: Literal["create", "poll", "failed", "look"] = "create"
    """When the error occurs: on `create`, on a `poll`, or as the error of a `failed` response. `look` is an older
    name of `poll`."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        self.override()
        return self

    def override(self) -> Override:
        """The rule for the judgement; raises ``ValueError`` if it is impossible."""
        action = Action.RATE_LIMITED if self.action == "bounce" else Action(self.action)
        phase = Phase.POLL if self.met == "look" else Phase(self.met)
        return Override(action=action, status=self.status, code=self.code, text=self.text, phase=phase)


class ProviderSettings(Section):
    """The server that answers, and how to speak to it."""

    base_url: str = DEFAULT_BASE_URL
    """Where the Responses API is served, up to and without `/responses`. The environment variable `OPENAI_BASE_URL`
    takes precedence."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """The environment variable that holds the key; `null` if the server needs none. The key is never in a file."""
    admin_key_env: str = "OPENAI_ADMIN_KEY"
    """The environment variable that holds an admin key, which `costs --reconcile fetch` needs."""
    api_key_header: str = "Authorization"
    """The header that carries the key, such as `api-key` at Azure."""
    api_key_scheme: str = "Bearer"
    """The word before the key; empty for none."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further headers of every request, such as `OpenAI-Organization`. No secrets."""
    query: dict[str, str] = Field(default_factory=dict)
    """Query parameters of every request, such as `api-version`."""
    transport: Literal["asyncio", "httpx"] = "asyncio"
    """The HTTP client: `asyncio`, by far the fastest; or `httpx`, if a proxy needs it."""
    create_codes: frozenset[Annotated[int, Field(ge=200, le=299)]] = Field(
        default=frozenset({200, 201, 202}), min_length=1
    )
    """HTTP statuses that mean that a response was created."""
    status_aliases: dict[str, Literal["queued", "in_progress", "completed", "failed", "incomplete", "cancelled"]] = (
        Field(default_factory=dict)
    )
    """Other words that this server uses for a response's status, such as `{pending: queued}`."""
    store: Literal["required", "optional"] = "required"
    """`optional` if a background response can be fetched although it is not stored, as in projects with zero data
    retention: a job may then say `store: false`. Such a response is gone about ten minutes after its end."""
    profile: str = "openai"
    """A kind of server whose unusual errors are known."""
    errors: tuple[ErrorOverride, ...] = ()
    """Errors that this server uses in its own way; they take precedence over those of the profile."""
    sandbox: SandboxSettings | None = None
    """In place of a server: the built-in sandbox, started for this run on this machine. No key, no cost."""
    local_model: LocalModelSettings | None = None
    """In place of a server: a small model on this machine, started for this run. No key, no cost."""

    @property
    def is_embedded(self) -> bool:
        """Whether the provider is started for the run, in place of a server."""
        return self.sandbox is not None or self.local_model is not None

    @property
    def address(self) -> str:
        """Which provider it is: the address of the server, or what is started in place of one."""
        if self.sandbox is not None:
            return "sandbox"
        return self.base_url if self.local_model is None else "local model"

    @property
    def overrides(self) -> tuple[Override, ...]:
        """The rules that take precedence over the error table: those of the config, then those of the profile."""
        return overrides_for(self.profile, [error.override() for error in self.errors])

    def request_headers(self, api_key: str | None) -> dict[str, str]:
        """The headers of every request, the key among them: not to be logged."""
        if not api_key:
            return dict(self.headers)
        return {**self.headers, self.api_key_header: f"{self.api_key_scheme} {api_key}".strip()}

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, base_url: str) -> str:
        base_url = base_url.strip()
        if not _HEADER_VALUE.fullmatch(base_url) or " " in base_url or "\t" in base_url:
            raise ValueError("must be an address such as https://api.openai.com/v1, without spaces or other signs")
        try:
            parts = urlsplit(base_url)
            parts.port  # noqa: B018 – raises ValueError for an invalid port
        except ValueError:
            raise ValueError("must be an address such as https://api.openai.com/v1") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as https://api.openai.com/v1")
        if parts.username or parts.password:
            raise ValueError("must not hold a user name or password; the key comes from provider.api_key_env")
        if parts.query or parts.fragment:
            raise ValueError("must not hold a query; use provider.query")
        return base_url.rstrip("/").removesuffix("/responses")

    @field_validator("api_key_env", "admin_key_env")
    @classmethod
    def _is_variable(cls, name: str | None) -> str | None:
        # A key that is written here by mistake must not be repeated in an error.
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("must be the name of an environment variable, not the key itself")
        return name

    @field_validator("api_key_header")
    @classmethod
    def _is_header(cls, name: str) -> str:
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("must be the name of a header")
        return name

    @field_validator("profile")
    @classmethod
    def _is_shipped(cls, profile: str) -> str:
        if profile not in PROFILES:
            refuse(
                "profile",
                [ValidationProblem((), f"must be one of {', '.join(PROFILES)}", did_you_mean(profile, PROFILES))],
            )
        return profile

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        refuse("headers", [*_secrets_in(headers), *_unsendable(headers)])
        return headers

    @field_validator("query")
    @classmethod
    def _holds_no_secret(cls, query: dict[str, str]) -> dict[str, str]:
        refuse("query", _secrets_in(query))
        return query

    @field_validator(*_EMBEDDED, mode="before")
    @classmethod
    def _is_explicit(cls, settings: Any, info: ValidationInfo) -> Any:
        # "sandbox:" without a value would be the real provider, and real money.
        if settings is None:
            raise ValueError(f"must be a mapping; write {info.field_name}: {{}} for its defaults")
        return settings

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        first, *others = [name for name in (*_EMBEDDED, "base_url") if name in self.model_fields_set] or ["base_url"]
        refuse(
            "provider",
            [ValidationProblem((name,), f"cannot stand beside {first}", "keep one of them") for name in others],
        )
        return self


class LimitSettings(Section):
    """Rate limits. Limits reported in the provider's headers take precedence."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Creates per minute, for each model; if absent, the limit is learned."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens per minute, for each model: input plus `max_output_tokens`; if absent, the limit is learned."""
    polls_per_minute: int = Field(default=6000, ge=1)
    """Polls per minute."""
    max_in_flight: int = Field(default=2000, ge=1)
    """Open background responses at once."""
    reply_bytes: int = Field(default=DEFAULT_REPLY_BYTES, ge=2**20)
    """The most bytes of one reply, decompressed. A larger one is not read, and its row fails with
    `unreadable_reply`."""
    reply_bytes_in_memory: int = Field(default=DEFAULT_MOST_BYTES, ge=2**20)
    """The most bytes of all replies of more than 256 KiB together that are in memory; further ones wait. To read a
    reply takes several times its size."""


class EndpointLimitSettings(Section):
    """Rate limits of one endpoint; what is absent is that of `limits`."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Creates per minute, for each model."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens per minute, for each model."""
    polls_per_minute: int | None = Field(default=None, ge=1)
    """Polls per minute."""
    max_in_flight: int | None = Field(default=None, ge=1)
    """Open background responses at once."""


class EndpointSettings(ProviderSettings):
    """One of several endpoints or accounts, with the settings of a `provider` and these."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", examples=["east"])
    """What it is called in costs, messages and results. It is kept with each response: an endpoint that has open
    responses keeps its name."""
    weight: float = Field(default=1.0, ge=0, le=1000)
    """Its share of the requests, beside the weights of the others. With 0 it gets no new ones, and what is open there
    is still collected."""
    limits: EndpointLimitSettings = EndpointLimitSettings()
    """Rate limits of this endpoint, in place of those of `limits`."""
    prices: str | None = Field(default=None, min_length=1)
    """The prices of this endpoint, in place of `prices`: a file, or `free`."""


class TimeoutSettings(Section):
    """Timeouts."""

    connect: Annotated[Duration, Field(gt=0)] = 5.0
    """To open a connection."""
    read: Annotated[Duration, Field(gt=0)] = 60.0
    """For the reply to a call. A create without a reply in time is in doubt."""
    queued: Annotated[Duration, Field(gt=0)] = 3600.0
    """For a response to start; then it is cancelled and sent again."""
    run: Annotated[Duration, Field(gt=0)] = 21600.0
    """For a response to end; then it is cancelled and sent again."""


class SyncSettings(Section):
    """The lane `sync`."""

    at_once: int = Field(default=64, ge=1, le=10_000)
    """Create calls that are held at once, each on a connection of its own. A server of your own answers no faster
    with more of them than it has slots."""


class WindowSettings(Section):
    """The lanes `window-2h` and `window-8h`."""

    models: list[str] | None = Field(default=None, examples=[["gpt-6.2-sol"]])
    """The models that take completion windows; for any other, `auto` chooses no window. If absent, each model is
    tried, and one that refuses is not tried again."""


class BatchSettings(Section):
    """The lane `batch`."""

    max_lines: int = Field(default=10_000, ge=1, le=50_000)
    """Requests in one batch. Smaller batches end sooner, and less is asked again if one expires."""
    max_bytes: Annotated[FileSize, Field(ge=1_000, le=200_000_000)] = 190_000_000
    """The size of one file; the provider takes 200 MB."""
    enqueued_tokens: int = Field(default=20_000_000, ge=1)
    """Input tokens that all batches of a model may have enqueued together: the account's limit. It is lowered by
    itself where the provider refuses a batch for it."""
    grace: Annotated[Duration, Field(ge=0)] = 120.0
    """How long something that the provider shows late is waited for: a new file, a new batch in the list, and lines
    that are in neither file of an ended batch. A line that does not come is asked again, as a possible duplicate."""
    give_up_after: Annotated[Duration, Field(gt=0)] = 90_000.0
    """A batch that has not ended by then (25 hours) is cancelled, and what it has not answered is asked again."""


class LaneSettings(Section):
    """How requests are carried out in each lane."""

    sync: SyncSettings = SyncSettings()
    """The lane `sync`."""
    batch: BatchSettings = BatchSettings()
    """The lane `batch`."""
    windows: WindowSettings = WindowSettings()
    """The lanes `window-2h` and `window-8h`."""


class InDoubtSettings(Section):
    """What to do with a request that may have been sent although its reply was lost."""

    resend_below_usd: Usd = Decimal("0.05")
    """It is sent again only if its worst case costs less than this, in US dollars; else it is held for your decision:
    `orchestrator retry RUN --resolve-in-doubt resend|fail`."""

    wait_for_event: Annotated[Duration, Field(ge=0)] | None = None
    """With `webhooks`, how long such a request waits for an event that names its response before it is sent again or
    held. If absent: a minute longer than nearly all responses take."""

    @property
    def resend_below_pusd(self) -> Picodollars:
        """The threshold in picodollars."""
        return parse_usd(self.resend_below_usd)


class BudgetSettings(Section):
    """Hard caps over all runs of the database, and limits for expensive requests and jobs."""

    usd_per_day: Usd | None = Field(default=None, gt=0)
    """The most that all runs of the database may cost in a day (UTC), in US dollars."""
    usd_per_month: Usd | None = Field(default=None, gt=0)
    """The most that all runs may cost in a calendar month (UTC)."""
    cap_output_tokens: int | None = Field(default=None, ge=LEAST_OUTPUT_TOKENS)
    """Under a budget, a request without `max_output_tokens` is sent with this one. If absent, it is refused."""
    confirm_above_usd: Usd = Decimal(10)
    """On a terminal, `run` asks before it starts a job that may cost more than this. Elsewhere, and with `--yes`, it
    does not ask."""

    def caps(self, run_id: int, *, simulated: bool) -> SharedCaps | None:
        """The caps for the engine and the store, or None if there are none."""
        if self.usd_per_day is None and self.usd_per_month is None:
            return None
        return SharedCaps(
            run_id=run_id,
            simulated=simulated,
            day_pusd=None if self.usd_per_day is None else parse_usd(self.usd_per_day),
            month_pusd=None if self.usd_per_month is None else parse_usd(self.usd_per_month),
        )


def _database(given: object) -> object:
    """A path stays a path; the URL of a server would lose a slash as one."""
    return Path(given) if isinstance(given, str) and not is_server(given) else given


class Config(Section):
    """The settings of runs; every field has a default, which is the real API at OpenAI."""

    provider: ProviderSettings = ProviderSettings()
    """The server that answers, and how to speak to it."""
    providers: list[EndpointSettings] = Field(default_factory=list)
    """In place of `provider`: several endpoints or accounts, which a run uses together."""
    limits: LimitSettings = LimitSettings()
    """Rate limits."""
    timeouts: TimeoutSettings = TimeoutSettings()
    """Timeouts."""
    lanes: LaneSettings = LaneSettings()
    """How requests are carried out in each lane."""
    in_doubt: InDoubtSettings = InDoubtSettings()
    """What to do with a request that may have been sent although its reply was lost."""
    webhooks: WebhookSettings | None = None
    """Events of the provider that name responses which have ended. Without this section there are only polls."""
    budget: BudgetSettings = BudgetSettings()
    """Hard caps over all runs of the database, and limits for expensive requests and jobs."""
    notify: list[NotifyRule] = Field(default_factory=list)
    """Who is notified when a run ends."""
    prices: str | None = Field(default=None, min_length=1)
    """A file of your own prices, relative to this file; they take precedence over the published ones. `free` says
    that nothing costs anything, as at a server of your own."""
    database: Annotated[Path | str, BeforeValidator(_database)] = Path(DEFAULT_DATABASE)
    """The database of runs, like `--db`: a file, relative to the working directory, so that commands without a config
    find the same one; or the URL of a PostgreSQL server, `postgresql://user@host/name`, whose password is better kept
    in PGPASSWORD or ~/.pgpass."""

    allow_modules: list[Annotated[str, Field(pattern=_MODULE)]] = Field(default_factory=list, examples=[["my_tools"]])
    """Python modules that a job file may name in `handlers` and `output_model` although they are not beside it. Only
    a config can allow them, since a job file may come from someone else."""

    _source: Path | None = PrivateAttr(default=None)

    @property
    def source(self) -> Path | None:
        """The config file, or None for the defaults."""
        return self._source

    @model_validator(mode="after")
    def _names_endpoints(self) -> Self:
        if "providers" in self.model_fields_set:
            refuse("providers", endpoint_problems(self.providers, beside=self.model_fields_set))
            # What all endpoints have in common is asked of it.
            self.__dict__["provider"] = self.providers[0]
        return self

    @property
    def endpoints(self) -> list[Config]:
        """The config of each endpoint, as if it were the only one; the config itself if there is only one."""
        if not self.providers:
            return [self]
        return [self._at(endpoint) for endpoint in self.providers]

    def _at(self, endpoint: EndpointSettings) -> Config:
        given = endpoint.limits.model_dump(exclude_none=True)
        update = {
            "provider": endpoint,
            "providers": [],
            "limits": self.limits.model_copy(update=given),
            "prices": endpoint.prices or self.prices,
        }
        return self.model_copy(update=update)

    def at(self, endpoint: str | None) -> Config:
        """The config of an endpoint by its name; None is the only one. Raises ``ConfigError`` if it is not there."""
        for config in self.endpoints:
            if config.endpoint_name == endpoint:
                return config
        names = ", ".join(each.name for each in self.providers)
        has = f"it has: {names}" if names else "it has one provider, without a name"
        what = "that is at its only provider" if endpoint is None else f"that is at endpoint {endpoint!r}"
        raise ConfigError(
            f"the config does not name the endpoint of a response {what}; {has}",
            where=None if self._source is None else str(self._source),
            hint="give the endpoint its entry under `providers` back; with weight: 0 it gets nothing new",
        )

    @property
    def endpoint_name(self) -> str | None:
        """The name of the endpoint, if the config is that of one of several."""
        if self.providers:
            return None
        return self.provider.name if isinstance(self.provider, EndpointSettings) else None

    @property
    def weight(self) -> float:
        """The endpoint's share of the requests, beside the weights of the others."""
        return self.provider.weight if isinstance(self.provider, EndpointSettings) else 1.0

    def check_keys(self, environ: Mapping[str, str]) -> None:
        """Raises ``ConfigError`` if the key of an endpoint is missing."""
        for config in self.endpoints:
            config.api_key(environ)

    def model_post_init(self, context: Any) -> None:
        """Remembers the file, which pydantic hands over as the context."""
        if isinstance(context, dict):
            self._source = context.get("source")

    def api_key(self, environ: Mapping[str, str]) -> str | None:
        """The provider's key, from the environment; None if none is needed. Raises ``ConfigError``."""
        name = self.provider.api_key_env
        if self.provider.is_embedded or name is None:
            return None
        key = environ.get(name, "").strip()
        if not key:
            raise ConfigError(
                f"there is no API key: the environment variable {name} is not set",
                hint=f"set {name}, or try it without a key and without cost: --config {SANDBOX_CONFIG}",
            )
        return _checked_key(key, name)

    def admin_key(self, environ: Mapping[str, str]) -> str:
        """The key that may read the organization's account; raises ``ConfigError``."""
        if self.providers:
            raise ConfigError(
                "the account of one provider is asked for, and the config names several",
                hint="give the account as a file: costs --reconcile FILE",
            )
        name = self.provider.admin_key_env
        key = environ.get(name, "").strip()
        if self.simulated or not _KEY.fullmatch(key):
            raise ConfigError(
                "the embedded sandbox keeps no account" if self.simulated else f"there is no admin key in {name}",
                hint="give the account as a file: costs --reconcile FILE",
            )
        return key

    @property
    def simulated(self) -> bool:
        """Whether runs use the embedded sandbox, which costs no money."""
        return all(config.provider.sandbox is not None for config in self.endpoints)

    def output_cap(self, budget_pusd: Picodollars | None) -> int | None:
        """Returns the ``max_output_tokens`` of requests without one; None if no budget applies to the job."""
        own = self.budget
        capped = budget_pusd is not None or own.usd_per_day is not None or own.usd_per_month is not None
        return own.cap_output_tokens if capped else None

    @property
    def is_free(self) -> bool:
        """Whether nothing costs anything at the provider."""
        if self.providers:
            return all(config.is_free for config in self.endpoints)
        return self.prices == _FREE or self.provider.local_model is not None

    @property
    def local_model_file(self) -> Path | None:
        """The file of the local model; None if the config names none."""
        local = self.provider.local_model
        if local is None or local.file is None:
            return None
        return (self._source.parent if self._source else Path()) / local.file

    @property
    def price_path(self) -> Path | None:
        """The file of the user's own prices, or None."""
        if self.prices is None or self.is_free:
            return None
        return (self._source.parent if self._source else Path()) / self.prices

    @property
    def private_files(self) -> list[Path]:
        """The files of this config, which are never sent to a provider."""
        return [] if self._source is None else [self._source]

    def price_rules(self) -> PriceRules:
        """The user's own prices, read from the file that ``prices`` names; raises ``ConfigError``."""
        if self.is_free:
            return PriceRules(free=True)
        path = self.price_path
        if path is None:
            return PriceRules()
        prices = load_document(path, PriceFile, kind="prices")
        return prices.rules(source=str(path), version=file_version(path.read_bytes()))


def endpoint_problems(
    endpoints: Sequence[EndpointSettings], *, beside: Collection[str]
) -> Iterator[ValidationProblem]:
    """What is wrong with a list of endpoints, beside other sections of the config."""
    for section in ("provider", "webhooks"):
        if section in beside:
            yield ValidationProblem(("providers",), f"cannot stand beside {section}", "keep one of them")
    if not any(endpoint.weight for endpoint in endpoints):
        yield ValidationProblem(("providers",), "must hold an endpoint with a weight above 0")
    seen: set[str] = set()
    for place, endpoint in enumerate(endpoints):
        if endpoint.name in seen:
            yield ValidationProblem(
                ("providers", place, "name"), f"is given twice: {endpoint.name}", "each needs its own"
            )
        seen.add(endpoint.name)
        if endpoint.local_model is not None:
            yield ValidationProblem(("providers", place, "local_model"), "cannot be one of several", "use provider")
        for field, own, first in (
            ("sandbox", endpoint.sandbox is not None, endpoints[0].sandbox is not None),
            ("store", endpoint.store, endpoints[0].store),
        ):
            if own != first:
                yield ValidationProblem(("providers", place, field), "must be the same at all endpoints")


def _checked_key(key: str, name: str) -> str:
    """Returns the key; raises ``ConfigError``, without showing it, if it cannot be one."""
    if not _KEY.fullmatch(key):
        raise ConfigError(
            f"the environment variable {name} holds something that cannot be an API key",
            hint="a key has no spaces, quotes or line breaks in it",
        )
    if _QUOTES.search(key):
        raise ConfigError(
            f"the key in the environment variable {name} has quotes in it",
            hint="write it without quotes: docker's --env-file and some .env readers keep them as part of the value",
        )
    return key


def load_config(path: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Config:
    """Read a config file, or use the defaults: OpenAI's own API. Raises ``ConfigError``.

    ``OPENAI_BASE_URL`` in the environment replaces ``provider.base_url``, but never a sandbox, a local model or an
    entry of ``providers``.
    """
    document = Document.empty("config") if path is None else Document.read(Path(path), kind="config")
    provider = document.data.get("provider") or {}
    base_url = (os.environ if environ is None else environ).get(BASE_URL_VARIABLE)
    # A line of a file with Windows line ends leaves a carriage return.
    base_url = base_url.strip() if base_url else None
    is_remote = isinstance(provider, dict) and provider.keys().isdisjoint(_EMBEDDED)
    if base_url and is_remote and "providers" not in document.data:
        document.set("provider.base_url", base_url, source=f"environment variable {BASE_URL_VARIABLE}")
    return document.validate(Config)


def sandbox_config() -> Config:
    """The config of a rehearsal, shipped with the package: the embedded sandbox, quick and with few faults."""
    return load_document(Path(__file__).parent / "templates" / "sandbox.yaml", Config, kind="config")


def rehearsal(config: Config) -> Config:
    """The same config with the embedded sandbox as its provider."""
    if config.simulated:
        return config
    return config.model_copy(update={"provider": sandbox_config().provider, "providers": []})


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a config file, for editors."""
    return {"$schema": DIALECT, **Config.model_json_schema()}


def _secrets_in(pairs: Mapping[str, str]) -> Iterator[ValidationProblem]:
    for name, value in pairs.items():
        if _SECRET_NAME.search(name) or _SECRET_VALUE.match(value):
            yield ValidationProblem(
                (name,),
                "looks like a key, and a key never stands in a file",
                "put it into an environment variable, and name that in provider.api_key_env "
                "(and its header in provider.api_key_header)",
            )


def _unsendable(headers: Mapping[str, str]) -> Iterator[ValidationProblem]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            yield ValidationProblem((name,), "is no header: names and values are plain ASCII on one line")
