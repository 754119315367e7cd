"""The webhook endpoints of the simulated project, in memory."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

from orchestrator.sandbox.faults.api_errors import bad_request, error_reply

__all__ = ["WebhookEndpoints"]

Json: TypeAlias = Any

_TYPES = frozenset(
    f"{kind}.{end}"
    for kind, ends in (
        ("response", ("completed", "failed", "incomplete", "cancelled")),
        ("batch", ("completed", "failed", "expired", "cancelled")),
    )
    for end in ends
)


class WebhookEndpoints:
    """Endpoints by id; each with its secret and the events that it wants."""

    def __init__(self, secret: str | None) -> None:
        self._endpoints: dict[str, dict[str, Json]] = {}
        self._secrets: dict[str, str] = {}
        # Events asked for as a test: the endpoint's secret and the type.
        self.tests: deque[tuple[str, str]] = deque(maxlen=100)
        if secret is not None:
            self._add("from the settings", "https://sandbox.invalid", sorted(_TYPES), secret, now=0.0)

    def create(self, fields: dict[str, Json], now: float) -> dict[str, Json]:
        """Make an endpoint; the secret is shown only here."""
        name, url, types = fields.get("name"), fields.get("url"), fields.get("event_types")
        if not isinstance(name, str) or not 1 <= len(name) <= 256:
            raise bad_request("Invalid 'name'.", code="invalid_value", param="name")
        if not isinstance(url, str) or not url.startswith("https://") or len(url) > 2048:
            raise bad_request("Invalid 'url': it must be an HTTPS URL.", code="invalid_value", param="url")
        if not isinstance(types, list) or not types or not all(each in _TYPES for each in types):
            raise bad_request("Invalid 'event_types'.", code="invalid_value", param="event_types")
        endpoint = self._add(name, url, types, f"whsec_{b64encode(secrets.token_bytes(32)).decode()}", now)
        return {**endpoint, "signing_secret": self._secrets[endpoint["id"]]}

    def all(self) -> list[dict[str, Json]]:
        """All endpoints, the oldest first."""
        return [*self._endpoints.values()]

    def one(self, endpoint_id: str) -> dict[str, Json]:
        """An endpoint; raises ``ErrorReply`` (404)."""
        if endpoint_id not in self._endpoints:
            message = f"Webhook endpoint with id '{endpoint_id}' not found."
            raise error_reply(404, message, type="invalid_request_error", code=None, kind="not_found")
        return self._endpoints[endpoint_id]

    def delete(self, endpoint_id: str) -> dict[str, Json]:
        """Remove an endpoint."""
        self.one(endpoint_id)
        del self._endpoints[endpoint_id], self._secrets[endpoint_id]
        return {"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True}

    def secrets_for(self, event_type: str) -> Sequence[str]:
        """The secrets of the endpoints that want an event."""
        wanting = (each["id"] for each in self._endpoints.values() if event_type in each["event_types"])
        return [self._secrets[endpoint_id] for endpoint_id in wanting]

    def test(self, endpoint_id: str, event_type: object) -> None:
        """Have an event sent to one endpoint."""
        self.one(endpoint_id)
        if not isinstance(event_type, str) or event_type not in _TYPES:
            raise bad_request("Invalid 'event_type'.", code="invalid_value", param="event_type")
        self.tests.append((self._secrets[endpoint_id], event_type))

    def _add(self, name: str, url: str, types: list[str], secret: str, now: float) -> dict[str, Json]:
        endpoint_id = f"wh_{secrets.token_hex(12)}"
        self._secrets[endpoint_id] = secret
        self._endpoints[endpoint_id] = {
            "id": endpoint_id,
            "object": "webhook_endpoint",
            "created_at": int(now),
            "name": name,
            "url": url,
            "event_types": types,
            "signing_secret_hint": f"{secret[:8]}…",
        }
        return self._endpoints[endpoint_id]
