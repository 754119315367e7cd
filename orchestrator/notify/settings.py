"""The config's section ``notify``: who is notified of which events."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from orchestrator.core.errors import ConfigError
from orchestrator.core.section import Section
from orchestrator.job.documents.values import Duration

__all__ = ["Channel", "NotifyRule", "secret_of"]

EventName: TypeAlias = Literal[
    "finished", "failed", "halted", "cancelled", "late", "broken", "stalled", "budget_80", "budget_100"
]


class Channel(StrEnum):
    """The ways in which a notice is delivered."""

    COMMAND = "command"
    WEBHOOK = "webhook"
    PING = "ping"
    APPRISE = "apprise"


class NotifyRule(Section):
    """One receiver and the events it receives. Exactly one of `command`, `webhook`, `ping_env` and `apprise_env`."""

    on: list[EventName] = Field(default=["failed", "halted"], min_length=1)
    """What the receiver is notified of. Ends of a run: `finished` (all rows succeeded), `failed` (finished with
    failed rows), `halted`, `cancelled`; a ping receives all of these, and nothing else. Before the end: `late` (not
    finished after `schedule.late_after`), `stalled` (nothing ends for very long), `budget_80` and `budget_100` (so
    much of a budget is used). Of `run --due`: `broken` (the job file cannot be used)."""
    command: list[str] | None = Field(default=None, min_length=1, examples=[["bin/load", "{run}", "{database}"]])
    """A program and its arguments; `{run}`, `{event}` and `{database}` are filled in. It gets the notice as JSON on
    standard input, and runs in the working directory after the run's lock is released."""
    webhook: str | None = None
    """A URL that receives the notice as JSON by POST."""
    secret_env: str | None = Field(default=None, min_length=1)
    """The environment variable that holds the secret by which webhooks are signed (Standard Webhooks, `whsec_…`)."""
    ping_env: str | None = Field(default=None, min_length=1)
    """The environment variable that holds a check's URL: `/start` is called when a run begins, and `/CODE` with the
    exit code when it ends. It notices a killed process, which can notify no one."""
    apprise_env: str | None = Field(default=None, min_length=1)
    """The environment variable that holds an apprise URL, such as `slack://…`; needs the extra `notify`."""
    timeout: Annotated[Duration, Field(gt=0, le=300)] = 30.0
    """How long one delivery may take."""

    @property
    def channel(self) -> Channel:
        """How notices of this rule are delivered."""
        if self.command is not None:
            return Channel.COMMAND
        if self.webhook is not None:
            return Channel.WEBHOOK
        return Channel.PING if self.ping_env is not None else Channel.APPRISE

    @property
    def receiver(self) -> str:
        """An id of the receiver that holds nothing of its address; a changed timeout or list of events keeps it."""
        decisive = self.model_dump_json(include={"command", "webhook", "ping_env", "apprise_env"})
        return hashlib.blake2b(decisive.encode(), digest_size=8).hexdigest()

    @property
    def title(self) -> str:
        """The receiver for people, without what may be secret in its address."""
        match self.channel:
            case Channel.COMMAND:
                return f"command {(self.command or [''])[0]}"
            case Channel.WEBHOOK:
                return f"webhook at {urlsplit(self.webhook or '').hostname}"
            case Channel.PING:
                return f"ping {self.ping_env}"
            case Channel.APPRISE:
                return f"apprise {self.apprise_env}"

    def wants(self, event: str) -> bool:
        """Whether the receiver is notified of an event."""
        return self.channel is Channel.PING or event in self.on

    @field_validator("webhook")
    @classmethod
    def _is_a_url(cls, webhook: str | None) -> str | None:
        if webhook is not None:
            parts = urlsplit(webhook)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("must be a URL that begins with https:// or http://")
            if parts.username or parts.password:
                raise ValueError("must hold no user or password; use secret_env, or a secret path in apprise_env")
        return webhook

    @model_validator(mode="after")
    def _has_one_receiver(self) -> Self:
        given = [
            name for name in ("command", "webhook", "ping_env", "apprise_env") if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise ValueError("must name one of command, webhook, ping_env and apprise_env")
        if self.secret_env is not None and self.webhook is None:
            raise ValueError("secret_env is for a webhook")
        return self


def secret_of(name: str, environ: Mapping[str, str]) -> str:
    """The value of an environment variable that a rule names; raises ``ConfigError`` if it is not set."""
    value = environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"the environment variable {name} is not set", hint="notify names it in the config")
    return value
