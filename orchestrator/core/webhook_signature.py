"""Signs webhooks as Standard Webhooks describes (standardwebhooks.com, scheme v1)."""

from __future__ import annotations

import base64
import hashlib
import hmac

__all__ = ["SECRET_PREFIX", "decoded_secret", "signature_of"]

SECRET_PREFIX = "whsec_"  # noqa: S105 – it marks secrets and is none


def decoded_secret(secret: str) -> bytes:
    """The key in a secret of base64, with or without its prefix; raises ``ValueError`` if it is not base64."""
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        raise ValueError("the webhook's secret is not base64") from None


def signature_of(key: bytes, message_id: bytes, timestamp: bytes, body: bytes) -> bytes:
    """The signature of a body, as it stands in the header: the scheme, a comma, and base64."""
    signed = b"%b.%b.%b" % (message_id, timestamp, body)
    return b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
