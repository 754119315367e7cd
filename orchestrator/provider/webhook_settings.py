"""The section ``webhooks`` of the config: where events of the provider are received, and how they are checked."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field, field_validator

from orchestrator.core.errors import ConfigError
from orchestrator.core.section import Section
from orchestrator.provider.webhooks import WebhookVerifier

__all__ = ["WebhookSettings"]

_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")


class WebhookSettings(Section):
    """A run listens for events of the provider that name responses which have ended: they are polled at once, and
    polls become rare while events are reliable.
    """

    listen: str = Field(default="127.0.0.1:8787", examples=["127.0.0.1:8787"])
    """The address, as `HOST:PORT`, to which a proxy or a tunnel of yours passes what comes to the public URL."""
    secret_env: str = Field(default="OPENAI_WEBHOOK_SECRET", min_length=1)
    """The environment variable that holds the secret of the webhook endpoint that you made at the provider; two of
    them, with a space in between, while a new one replaces an old one."""
    public_url: str | None = Field(default=None, max_length=2048, examples=["https://hooks.example.org/openai"])
    """The HTTPS URL that reaches this machine. With it a run makes an endpoint at the provider when it begins, keeps
    the secret in memory, and removes the endpoint when it ends; `secret_env` is not read."""

    @field_validator("listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        found = _ADDRESS.fullmatch(listen)
        if found is None or int(found["port"]) > 65_535:
            raise ValueError("must be HOST:PORT, as in 127.0.0.1:8787")
        return listen

    @field_validator("public_url")
    @classmethod
    def _is_https(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https://[^\s/]+(/\S*)?", url):
            raise ValueError("must be an https:// URL: the provider sends events to no other")
        return url

    @property
    def host(self) -> str:
        """The host to listen on, without the brackets of IPv6."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port to listen on; 0 takes a free one."""
        return int(self.listen.rpartition(":")[2])

    def check(self, environ: Mapping[str, str]) -> None:
        """Raises ``ConfigError`` if events of your own endpoint could not be checked."""
        if self.public_url is None:
            self.verifier(environ)

    def verifier(self, environ: Mapping[str, str]) -> WebhookVerifier:
        """What checks events of your own endpoint; raises ``ConfigError`` if its secret is not set, or is none."""
        secrets = environ.get(self.secret_env, "").split()
        if not secrets:
            raise ConfigError(
                f"webhooks.secret_env names {self.secret_env}, which is not set",
                hint=f"export {self.secret_env}=… (the secret that the provider showed when the endpoint was made), "
                "set webhooks.public_url, or remove the section webhooks",
            )
        try:
            return WebhookVerifier(secrets)
        except ValueError as error:
            hint = "copy the secret from the page of the webhook endpoint"
            raise ConfigError(f"{self.secret_env}: {error}", hint=hint) from None
