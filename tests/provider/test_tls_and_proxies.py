"""TLS with real certificates, and proxies named by the environment."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import anyio
import pytest

from orchestrator.core.errors import ConfigError
from orchestrator.core.problems import NeverSent
from orchestrator.provider.transport import TransportError, environment_proxy
from tests.provider.conftest import Connect
from tests.provider.raw_server import Connection, RawServer, serve_raw

pytestmark = pytest.mark.anyio

OPENSSL = shutil.which("openssl")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    if OPENSSL is None:
        pytest.skip("the openssl command is needed to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    command = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    return both


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def echo(connection: Connection) -> None:
    while True:
        request = await connection.request()
        await connection.answer(request.body)


async def test_a_certificate_without_a_trusted_authority(certificate: Path, connect: Connect) -> None:
    async with serve_raw(server_context(certificate)) as server:
        with pytest.raises(TransportError) as caught:
            await connect(base_url=server.url).call("POST", "/responses", body=b"{}")
        assert isinstance(caught.value.problem, NeverSent)
        assert "certificate of 127.0.0.1 is not valid: self-signed" in caught.value.problem.reason
        assert server.requests == []


async def test_custom_authorities(certificate: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serve_raw(server_context(certificate)) as server:
        server.script = echo
        transport = connect(base_url=server.url)
        for _ in range(3):
            assert (await transport.call("POST", "/responses", body=b"hello")).body == b"hello"
        assert server.connections == 1
        await transport.aclose()
        await server.all_closed()


async def test_a_call_over_tls_that_is_cancelled(
    certificate: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(connection: Connection) -> None:
        await connection.request()
        await connection.gone()

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serve_raw(server_context(certificate)) as server:
        server.script = silent
        transport = connect(base_url=server.url)
        with anyio.move_on_after(0.2) as scope:
            await transport.call("POST", "/responses", body=b"hello")
        assert scope.cancelled_caught
        await transport.aclose()
        await server.all_closed()


async def test_plain_http_goes_through_the_proxy(
    server: RawServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = echo
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:word@"))
    transport = connect(base_url="http://provider.invalid/v1")
    assert (await transport.call("POST", "/responses", body=b"hello")).body == b"hello"
    assert server.requests[0].target == "http://provider.invalid/v1/responses"
    assert server.requests[0].headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"


async def test_https_goes_through_a_tunnel(
    server: RawServer, certificate: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tunnel(connection: Connection) -> None:
        request = await connection.request()
        host, _, port = request.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await connection.send(b"HTTP/1.1 200 Connection established\r\nVia: us\r\n\r\n")

        async def pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)
            target.close()

        await asyncio.gather(pour(connection.reader, writer), pour(reader, connection.writer))

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr("orchestrator.provider.transport._is_loopback", lambda _: False)
    monkeypatch.setenv("https_proxy", server.url.replace("//", "//user:word@"))
    async with serve_raw(server_context(certificate)) as provider:
        server.script = tunnel
        provider.script = echo
        transport = connect(base_url=provider.url)
        for _ in range(2):
            assert (await transport.call("POST", "/responses", body=b"secret words")).body == b"secret words"
        assert (server.connections, provider.connections) == (1, 1)
        (opened,) = server.requests
        assert (opened.method, opened.target) == ("CONNECT", f"127.0.0.1:{provider.port}")
        assert opened.headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"
        assert "proxy-authorization" not in provider.requests[0].headers
        await transport.aclose()
        await provider.all_closed()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", b"", b"garbage\r\n\r\n"])
async def test_a_proxy_that_opens_no_tunnel(
    server: RawServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    async def refuse(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer)

    server.script = refuse
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(TransportError) as caught:
        await connect(base_url="https://provider.invalid/v1").call("POST", "/responses", body=b"secret words")
    assert [request.method for request in server.requests] == ["CONNECT"]
    if answer.startswith(b"HTTP"):
        assert isinstance(caught.value.problem, NeverSent)


async def test_the_environment_can_be_ignored(
    server: RawServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    with pytest.raises(TransportError) as caught:
        await connect(base_url="http://provider.invalid", trust_env=False).call("GET", "/models")
    assert isinstance(caught.value.problem, NeverSent)
    assert server.requests == []


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_which_proxy(proxies: pytest.MonkeyPatch) -> None:
    assert environment_proxy("https://api.openai.com/v1") is None
    proxies.setenv("https_proxy", "gateway:3128")
    proxies.setenv("no_proxy", ".internal")
    assert environment_proxy("https://api.openai.com/v1") == "http://gateway:3128"
    assert environment_proxy("http://api.openai.com/v1") is None
    assert environment_proxy("https://llm.internal/v1") is None


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "box.localhost"])
def test_loopback_goes_through_no_proxy(proxies: pytest.MonkeyPatch, host: str) -> None:
    proxies.setenv("http_proxy", "http://gateway:3128")
    assert environment_proxy(f"http://{host}/v1") is None


def test_a_socks_proxy_is_refused_with_a_message(proxies: pytest.MonkeyPatch) -> None:
    proxies.setenv("all_proxy", "socks5://user:secret@gateway:1080")
    with pytest.raises(ConfigError, match="socks5") as caught:
        environment_proxy("https://api.openai.com/v1")
    assert "secret" not in str(caught.value)
