"""An endpoint refuses invalid settings, and never shows its key."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import ConfigError
from orchestrator.core.problems import NeverSent
from orchestrator.provider.reply_json import read_json
from orchestrator.provider.transport import Endpoint, Reply, TransportError

KEY = "sk-abcdefghijklmnop"


def test_the_repr_hides_secrets() -> None:
    endpoint = Endpoint(
        base_url="https://h/v1", headers={"Authorization": f"Bearer {KEY}"}, query={"key": "another-secret"}
    )
    assert repr(endpoint) == "Endpoint('https://h/v1', headers=['Authorization'], query=['key'])"
    assert KEY not in f"{endpoint}"


def test_a_reply_shows_neither_headers_nor_body() -> None:
    assert repr(Reply(status=200, headers={"set-cookie": "secret"}, body=b"the model's words")) == "Reply(status=200)"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "ftp://h/v1",
        "https://",
        "https://h/v1?key=1",
        "https://h/v1#x",
        "/v1",
        "http://h:port/v1",
        "http://[::1/v1",
        f"http://{'x' * 64}/v1",
    ],
)
def test_a_wrong_base_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="base URL"):
        Endpoint(base_url=url)


def test_a_login_in_the_url_is_refused_without_showing_it() -> None:
    for url in ("https://user:secret@h/v1", "https://user:secret@h/v1?x=1"):
        with pytest.raises(ConfigError) as caught:
            Endpoint(base_url=url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [f"Bearer {KEY}\n", f"Bearer {KEY}\r\nX: y", f"Bearer {KEY}ä"])
def test_a_header_that_http_cannot_carry(value: str) -> None:
    with pytest.raises(ConfigError, match="Authorization") as caught:
        Endpoint(base_url="https://h/v1", headers={"Authorization": value})
    assert KEY not in str(caught.value)


def test_urls() -> None:
    assert Endpoint(base_url="https://h/v1/").url("/models") == "https://h/v1/models"
    endpoint = Endpoint(base_url="https://h", query={"api-version": "2026&1"})
    assert endpoint.url("/models") == "https://h/models?api-version=2026%261"
    assert endpoint.url("/models?a=b") == "https://h/models?a=b&api-version=2026%261"


def test_a_header_of_the_user_replaces_ours() -> None:
    headers = Endpoint(base_url="https://h", headers={"user-agent": "mine", "X-Team": "a"}).request_headers()
    assert headers["user-agent"] == "mine"
    assert "User-Agent" not in headers
    assert headers["Accept"] == "application/json"


def test_secrets_are_redacted() -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Api-Key": "0123456789abcdef", "X-Title": "a title of mine"}
    endpoint = Endpoint(base_url="https://h", headers=headers)
    body = f"Bearer {KEY}, 0123456789abcdef, a title of mine".encode()
    assert endpoint.redact(body) == b"Bearer [redacted], [redacted], a title of mine"


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        KEY.replace("-", "\\u002d"),
        KEY.replace("-", "\\u002D").replace("s", "\\u0073"),
        "".join(f"\\u{ord(letter):04x}" for letter in KEY),
        f'\\"{KEY}\\"',
        f"'{KEY}'",
    ],
)
@pytest.mark.parametrize("quotes", ["", '"', "'"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32"])
def test_secrets_are_redacted_in_each_way_of_writing_them(written: str, quotes: str, encoding: str) -> None:
    if encoding != "utf-8":
        written = KEY
    endpoint = Endpoint(base_url="https://h", headers={"Authorization": f"Bearer {quotes}{KEY}{quotes}"})
    body = endpoint.redact(f'{{"message":"no: {written}."}}'.encode(encoding))
    message = read_json(body)[0]["message"]
    assert KEY not in message
    assert "[redacted]" in message


def test_a_secret_with_a_slash() -> None:
    endpoint = Endpoint(base_url="https://h", headers={"Authorization": "Bearer abc/def/ghi/jkl"})
    assert endpoint.redact(rb"x abc\/def\/ghi\/jkl y") == b"x [redacted] y"


def test_the_text_of_an_error_is_its_reason() -> None:
    assert str(TransportError(NeverSent(reason="refused"))) == "refused"
