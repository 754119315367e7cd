"""Signs the notices that are sent as webhooks."""

from __future__ import annotations

from orchestrator.core.errors import ConfigError
from orchestrator.core.webhook_signature import decoded_secret, signature_of

__all__ = ["signed_headers"]


def signed_headers(body: bytes, *, message_id: str, at: int, secret: str) -> dict[str, str]:
    """The headers that let a receiver check who sent a body; ``at`` is in Unix seconds.

    Raises ``ConfigError`` if the secret is not ``whsec_`` and base64.
    """
    try:
        key = decoded_secret(secret)
    except ValueError:
        raise ConfigError(
            "the webhook's secret is not base64", hint="make one with: echo whsec_$(openssl rand -base64 24)"
        ) from None
    signature = signature_of(key, message_id.encode(), str(at).encode(), body).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}
