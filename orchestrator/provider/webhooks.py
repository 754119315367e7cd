"""Reads the provider's webhooks: who sent a delivery, and which object it is about.

An event is a hint to poll and nothing more, so all that is read of it is its type and the id of its object.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from enum import StrEnum

import orjson

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.webhook_signature import SECRET_PREFIX, decoded_secret, signature_of

__all__ = ["RESPONSE_ENDINGS", "Delivery", "Flaw", "WebhookEvent", "WebhookVerifier", "read_event"]

# The events that say that a response has ended (responses API, "webhooks").
RESPONSE_ENDINGS = frozenset({"response.completed", "response.failed", "response.incomplete", "response.cancelled"})

_TOLERANCE_S = 300
# A timestamp is a Unix time; more digits would only cost time to read.
_MOST_DIGITS = 12
# The provider signs with two secrets while one replaces the other; more signatures would only cost time.
_MOST_SIGNATURES = 8


@fast_dataclass(kw_only=False)
class Delivery:
    """One delivery as received: the three headers that sign it, empty if absent, and its raw body."""

    message_id: bytes
    timestamp: bytes
    signatures: bytes
    body: bytes


@fast_dataclass(kw_only=False)
class WebhookEvent:
    """What a delivery reports: its type, and the id of the response or batch that it is about."""

    message_id: bytes
    type: str
    subject: str


class Flaw(StrEnum):
    """Why a delivery is refused."""

    UNSIGNED = "unsigned"
    FORGED = "forged"
    # Its signature is right: the clock of this machine, or that of the sender, is wrong.
    OUT_OF_TIME = "out_of_time"


class WebhookVerifier:
    """Verifies that deliveries are signed with one of some secrets; several, while a new one replaces an old one.

    Raises ``ValueError`` for a secret that begins with ``whsec_`` and is not base64. Others are used as they are.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [
            decoded_secret(secret) if secret.startswith(SECRET_PREFIX) else secret.encode() for secret in secrets
        ]
        if not all(self._keys):
            raise ValueError("a webhook's secret is empty")

    def flaw(self, delivery: Delivery, now: float) -> Flaw | None:
        """Why a delivery is not to be trusted; None if it is. ``now`` is the time of this machine's own clock."""
        message_id, timestamp, given = delivery.message_id, delivery.timestamp, delivery.signatures.split()
        if not message_id or not given or not timestamp.isdigit() or len(timestamp) > _MOST_DIGITS:
            return Flaw.UNSIGNED
        signed = False
        for key in self._keys:
            expected = signature_of(key, message_id, timestamp, delivery.body)
            for each in given[:_MOST_SIGNATURES]:
                signed |= hmac.compare_digest(expected, each)
        if not signed:
            return Flaw.FORGED
        return Flaw.OUT_OF_TIME if abs(now - int(timestamp)) > _TOLERANCE_S else None


def read_event(delivery: Delivery) -> WebhookEvent | None:
    """The event of a delivery; None if it names no type or no object, as kinds that are not known may."""
    try:
        fields = orjson.loads(delivery.body)
    except orjson.JSONDecodeError:
        return None
    data = fields.get("data") if isinstance(fields, dict) else None
    subject = data.get("id") if isinstance(data, dict) else None
    if not isinstance(subject, str) or not isinstance(fields.get("type"), str):
        return None
    return WebhookEvent(delivery.message_id, fields["type"], subject)
