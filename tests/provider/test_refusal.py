"""Error replies of every shape become one type of value."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.model import RateLimits
from orchestrator.core.problems import Refused
from orchestrator.provider.body_text import LIMIT, body_text
from orchestrator.provider.refusal import parse_refusal
from orchestrator.provider.transport import Reply

NOW = 1_764_158_832.0


def refused(body: Any, *, status: int = 400, **headers: str) -> Refused:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return parse_refusal(
        Reply(status=status, headers={name.replace("_", "-"): text for name, text in headers.items()}, body=raw),
        now=NOW,
    )


def test_the_error_of_the_api() -> None:
    body = {
        "error": {
            "message": "Missing required parameter: 'tools[0].name'.",
            "type": "invalid_request_error",
            "param": "tools[0].name",
            "code": "missing_required_parameter",
        }
    }
    assert refused(body) == Refused(
        status=400,
        code="missing_required_parameter",
        type="invalid_request_error",
        param="tools[0].name",
        message="Missing required parameter: 'tools[0].name'.",
    )


def test_the_headers_of_a_429() -> None:
    found = refused(
        {"error": {"message": "Slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}},
        status=429,
        retry_after="20",
        x_should_retry="true",
        x_ratelimit_remaining_requests="0",
        x_request_id="req_1",
    )
    assert found == Refused(
        status=429,
        code="rate_limit_exceeded",
        type="requests",
        message="Slow down",
        retry_after_s=20,
        should_retry=True,
        rate_limits=RateLimits(remaining_requests=0),
        request_id="req_1",
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": "no credits"}, (None, None, "no credits")),
        ({"error": "no credits", "code": 402, "type": "billing"}, ("402", "billing", "no credits")),
        ({"error": "Not Found", "message": "No route"}, (None, None, "Not Found: No route")),
        ({"error": {"message": "m"}, "error_type": "rate_limit"}, (None, "rate_limit", "m")),
        ({"error": {"message": "m", "code": 429, "type": None}}, ("429", None, "m")),
        ({"error": {"message": "m", "code": "", "type": True}}, (None, None, "m")),
        ({"detail": "queue is full, try again later"}, (None, None, "queue is full, try again later")),
        ({"detail": ["one", "two"]}, (None, None, "one; two")),
        ({"detail": {"error": {"code": "c", "message": "m"}}}, ("c", None, "m")),
        ({"detail": {"code": "c", "msg": "?"}}, ("c", None, '{"detail":{"code":"c","msg":"?"}}')),
        ({"object": "error", "message": "m", "type": "NotFoundError", "code": 404}, ("404", "NotFoundError", "m")),
        ({"error": None}, (None, None, '{"error":null}')),
        ({"error": []}, (None, None, '{"error":[]}')),
        (["oh", "no"], (None, None, '["oh","no"]')),
        (b"upstream connect\n\n  error", (None, None, "upstream connect error")),
        (b"", (None, None, "Bad Request (empty reply)")),
        (b"\xff\xfe", (None, None, "��")),
        # Cut off in the middle: complete fields are used, else the text is kept.
        (b'{"error":{"code":"rate_limit_exceeded","message":"Rate lim', ("rate_limit_exceeded", None, None)),
        (b'{"error":{"message":"Rate limit reached","type":"tok', (None, None, "Rate limit reached")),
        (b'{"err', (None, None, '{"err')),
    ],
)
def test_other_shapes(body: Any, expected: tuple[str | None, str | None, str | None]) -> None:
    found = refused(body)
    code, kind, message = expected
    assert (found.code, found.type) == (code, kind)
    assert message is None or found.message == message
    assert found.message


def test_a_validator_that_quotes_the_request() -> None:
    detail = {"type": "missing", "loc": ["body", "model", 0], "msg": "Field required", "input": {"input": "canary"}}
    assert refused({"detail": [detail, {"msg": "And this"}, 7]}, status=422).message == (
        "body.model.0: Field required; And this"
    )


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (b"<html><head><title>502 Bad\n Gateway</title></head><body>x</body></html>", "502 Bad Gateway"),
        (b"\xef\xbb\xbf \n<!DOCTYPE HTML><HTML><TITLE>A &amp; B</TITLE>", "A & B"),
        (b"<!-- x --><html><style>p{}</style><body><h1>Down</h1><p>for now</p><script>x()</script>", "Down for now"),
        (b"<html><title> </title><body>text</body>", "text"),
        (b"<html><script>cut off", ""),
        (b"<h1>Not Found</h1>", "Not Found"),
        (b"a < b and c > d", "a < b and c > d"),
    ],
)
def test_pages(page: bytes, text: str) -> None:
    assert body_text(page) == text
    assert refused(page, status=502).message == (text or "Bad Gateway (empty reply)")


def test_a_redirect_names_its_target() -> None:
    found = refused(b"<html><title>Moved</title>", status=308, location="https://h/v2/responses?token=secret#x")
    assert (found.status, found.message) == (308, "redirected to https://h/v2/responses")


def test_messages_are_cut() -> None:
    for body in ({"error": {"message": "x" * 9000}}, b"y " * 9000, b"<html>" + b"z" * 9000):
        assert len(refused(body).message) == LIMIT


def test_an_unknown_status_without_a_body() -> None:
    assert refused(b"", status=599).message == "empty reply"


def test_a_hostile_page_takes_little_time() -> None:
    started = time.process_time()
    for page in (
        b"<html>" + b"<" * 3_000_000,
        b"<!--" * 500_000,
        b"<title" * 500_000,
        b"<html>" + b"<script" * 500_000,
        b"<!---->" * 60 + b"x",
        b"<!-- -->" * 8_000 + b"<p>",
        b"<html>" + b"</script" * 9_000,
    ):
        body_text(page)
    assert time.process_time() - started < 5


@given(st.binary() | st.text().map(str.encode))
def test_any_body_gives_a_short_message(body: bytes) -> None:
    found = refused(body)
    assert 0 < len(found.message) <= LIMIT
    assert found.message == " ".join(found.message.split())
