"""Signs webhooks as Standard Webhooks describes (standardwebhooks.com, scheme v1)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from binascii import Error as NotBase64

from orchestrator.core.errors import ConfigError

__all__ = ["signed_headers"]

_PREFIX = "whsec_"


def signed_headers(body: bytes, *, message_id: str, at: int, secret: str) -> dict[str, str]:
    """The headers that let a receiver check who sent a body; ``at`` is in Unix seconds.

    Raises ``ConfigError`` if the secret is not ``whsec_`` and base64.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (NotBase64, ValueError):
        raise ConfigError(
            "the webhook's secret is not base64", hint="make one with: echo whsec_$(openssl rand -base64 24)"
        ) from None
    signed = f"{message_id}.{at}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}
