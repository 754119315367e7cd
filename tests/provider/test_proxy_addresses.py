"""The proxy that the environment names is read as curl reads it, and its password is never shown."""

from __future__ import annotations

import base64

import pytest

from orchestrator.config import load_config
from orchestrator.core.errors import ConfigError
from orchestrator.provider.connector import Connector
from orchestrator.provider.transport import Endpoint, environment_proxy

URL = "https://api.example.com/v1"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("written", "password"),
    [("p#ss", "p#ss"), ("p%23ss", "p#ss"), ("p@ss/w?rd", "p@ss/w?rd"), ("p%40s:word", "p@s:word"), ("100%", "100%")],
)
async def test_any_sign_may_stand_in_a_password(monkeypatch: pytest.MonkeyPatch, written: str, password: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{written}@proxy.example:3128/")
    connector = Connector(Endpoint(base_url="http://api.example.com/v1"))
    [_, login] = connector.headers["Proxy-Authorization"].split()
    assert base64.b64decode(login).decode() == f"me:{password}"


@pytest.mark.parametrize("address", ["proxy.example:p0rt", "proxy.example:99999", "[::1", ""])
def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cr#t@{address}")
    with pytest.raises(ConfigError) as caught:
        environment_proxy(URL)
    assert "s3cr" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize(
    ("exceptions", "direct"),
    [
        ("api.example.com:443", True),
        ("api.example.com", True),
        (".example.com:443", True),
        ("api.example.com:8443", False),
        ("other.example.com:443", False),
    ],
)
def test_exceptions_may_name_a_port(monkeypatch: pytest.MonkeyPatch, exceptions: str, direct: bool) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", f"unrelated, {exceptions}")
    assert (environment_proxy(URL) is None) is direct


@pytest.mark.parametrize("ending", ["\r", "\r\n", " ", "\t"])
def test_white_space_around_the_base_url_is_left_out(ending: str) -> None:
    config = load_config(environ={"OPENAI_BASE_URL": f"http://127.0.0.1:9/v1{ending}"})
    assert config.provider.base_url == "http://127.0.0.1:9/v1"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v\r1", "http://127.0.0.1:9/v 1", "http://127.0.0.1:9/\x1bv1"])
def test_other_signs_within_the_base_url_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        load_config(environ={"OPENAI_BASE_URL": url})
