from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks import Webhook, WebhookVerificationError

from orchestrator.core.webhook_signature import signature_of
from orchestrator.provider.webhooks import Delivery, Flaw, WebhookVerifier, read_event

NOW = 1_780_000_000.0
SECRET = "whsec_" + base64.b64encode(b"a secret of two dozen b.").decode()
BODY = b'{"object":"event","id":"evt_1","type":"response.completed","created_at":1,"data":{"id":"resp_1"}}'
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of theirs").decode()


def a_delivery(body: bytes = BODY, *, secret: str = SECRET, at: float = NOW, message_id: str = "wh_1") -> Delivery:
    """One that a sender signs with the library of the standard."""
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(at, UTC), body.decode())
    return Delivery(message_id.encode(), str(int(at)).encode(), signature.encode(), body)


def changed(delivery: Delivery, **parts: bytes) -> Delivery:
    given = {name: getattr(delivery, name) for name in ("message_id", "timestamp", "signatures", "body")}
    return Delivery(**given | parts)


def headers_of(delivery: Delivery) -> Mapping[str, str]:
    return {
        "webhook-id": delivery.message_id.decode(),
        "webhook-timestamp": delivery.timestamp.decode(),
        "webhook-signature": delivery.signatures.decode(),
    }


def test_a_signed_delivery_is_accepted_and_read() -> None:
    delivery = a_delivery()
    assert WebhookVerifier([SECRET]).flaw(delivery, NOW) is None
    event = read_event(delivery)
    assert event is not None
    assert (event.message_id, event.type, event.subject) == (b"wh_1", "response.completed", "resp_1")


RIGHT = a_delivery().signatures
FLAWED = {
    "another body": (changed(a_delivery(), body=BODY.replace(b"resp_1", b"resp_2")), Flaw.FORGED),
    "another id": (changed(a_delivery(), message_id=b"wh_2"), Flaw.FORGED),
    "another time": (changed(a_delivery(), timestamp=b"%d" % (NOW - 1)), Flaw.FORGED),
    "another secret": (a_delivery(secret=OTHER_SECRET), Flaw.FORGED),
    "no signature": (changed(a_delivery(), signatures=b""), Flaw.UNSIGNED),
    "no id": (changed(a_delivery(), message_id=b""), Flaw.UNSIGNED),
    "no time": (changed(a_delivery(), timestamp=b""), Flaw.UNSIGNED),
    "a time with a sign": (changed(a_delivery(), timestamp=b"-1"), Flaw.UNSIGNED),
    "a time of words": (changed(a_delivery(), timestamp=b"now"), Flaw.UNSIGNED),
    "a time without end": (changed(a_delivery(), timestamp=b"9" * 5000), Flaw.UNSIGNED),
    "a signature without a comma": (changed(a_delivery(), signatures=RIGHT.replace(b",", b"")), Flaw.FORGED),
    "a signature with two commas": (changed(a_delivery(), signatures=RIGHT + b",v1"), Flaw.FORGED),
    "another scheme": (changed(a_delivery(), signatures=RIGHT.replace(b"v1,", b"v2,")), Flaw.FORGED),
    "half a signature": (changed(a_delivery(), signatures=RIGHT[:20]), Flaw.FORGED),
    "too many signatures": (changed(a_delivery(), signatures=b"v1,AAAA " * 50 + RIGHT), Flaw.FORGED),
    "an old one": (a_delivery(at=NOW - 301), Flaw.OUT_OF_TIME),
    "one of the future": (a_delivery(at=NOW + 301), Flaw.OUT_OF_TIME),
}


@pytest.mark.parametrize("name", FLAWED)
def test_a_flawed_delivery_is_refused(name: str) -> None:
    delivery, flaw = FLAWED[name]
    assert WebhookVerifier([SECRET]).flaw(delivery, NOW) is flaw


@pytest.mark.parametrize("late_s", [-300, 0, 300])
def test_clocks_may_differ_by_five_minutes(late_s: int) -> None:
    assert WebhookVerifier([SECRET]).flaw(a_delivery(at=NOW), NOW + late_s) is None


def test_either_secret_is_accepted_while_one_replaces_the_other() -> None:
    both = WebhookVerifier([SECRET, OTHER_SECRET])
    assert both.flaw(a_delivery(secret=SECRET), NOW) is both.flaw(a_delivery(secret=OTHER_SECRET), NOW) is None
    old, new = a_delivery(secret=OTHER_SECRET).signatures, a_delivery(secret=SECRET).signatures
    assert WebhookVerifier([SECRET]).flaw(changed(a_delivery(), signatures=old + b" " + new), NOW) is None


def test_a_secret_without_prefix_is_used_as_it_is() -> None:
    signature = signature_of(b"plain words", b"wh_1", b"%d" % NOW, BODY)
    delivery = Delivery(b"wh_1", b"%d" % NOW, signature, BODY)
    assert WebhookVerifier(["plain words"]).flaw(delivery, NOW) is None


@pytest.mark.parametrize("secret", ["whsec_%%%", "whsec_", "", "whsec_é"])
def test_a_secret_that_can_be_none_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="webhook's secret"):
        WebhookVerifier([secret])


def standard_accepts(secret: str, delivery: Delivery) -> bool:
    try:
        Webhook(secret).verify(delivery.body, dict(headers_of(delivery)), json_parse=False)
    except (WebhookVerificationError, ValueError):
        # A signature without exactly one comma, and a body of other bytes, are no error of its own to this library.
        return False
    return True


def sdk_accepts(secret: str, delivery: Delivery) -> bool:
    client = OpenAI(api_key="sk-test", webhook_secret=secret)
    try:
        client.webhooks.verify_signature(delivery.body, dict(headers_of(delivery)))
    except (InvalidWebhookSignatureError, ValueError):
        return False
    return True


@pytest.mark.parametrize("accepts", [standard_accepts, sdk_accepts])
def test_the_same_deliveries_are_accepted_as_by(
    accepts: Callable[[str, Delivery], bool],
) -> None:
    now = datetime.now(UTC).timestamp()
    ours = WebhookVerifier([SECRET])
    right = a_delivery(at=now)
    cases = [
        right,
        changed(right, body=BODY + b" "),
        changed(right, message_id=b"wh_2"),
        changed(right, signatures=b"v1,AAAA " + right.signatures),
        changed(right, signatures=right.signatures.replace(b"v1", b"v2")),
        a_delivery(at=now - 1000),
        a_delivery(at=now + 1000),
        a_delivery(secret=OTHER_SECRET, at=now),
        a_delivery(body=orjson.dumps({"text": "é" * 3000}), at=now),
    ]
    assert [ours.flaw(case, now) is None for case in cases] == [accepts(SECRET, case) for case in cases]
    assert [ours.flaw(case, now) is None for case in cases].count(True) == 3


@given(st.binary(max_size=60), st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=60))
def test_no_bytes_are_trusted_or_break_it(
    signatures: bytes, message_id: bytes, timestamp: bytes, body: bytes
) -> None:
    delivery = Delivery(message_id, timestamp, signatures, body)
    assert WebhookVerifier([SECRET]).flaw(delivery, NOW) is not None
    read_event(delivery)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{}", b"\xff", b'{"type":"response.completed"}', b'{"type":"x","data":[]}',
     b'{"type":1,"data":{"id":"resp_1"}}', b'{"type":"x","data":{"id":7}}', b'{"data":{"id":"resp_1"}}'],
)  # fmt: skip
def test_what_names_no_object_is_no_event(body: bytes) -> None:
    assert read_event(changed(a_delivery(), body=body)) is None


def test_an_event_may_lack_what_is_not_needed() -> None:
    event = read_event(changed(a_delivery(), body=b'{"type":"batch.completed","data":{"id":"batch_1"},"more":[]}'))
    assert event is not None
    assert event.subject == "batch_1"
