"""One HTTP exchange with the provider: what every transport guarantees, and what they share."""

from __future__ import annotations

import os
import re
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

import anyio
import certifi

from orchestrator.core.errors import ConfigError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.problems import NeverSent, ReplyLost
from orchestrator.core.version import __version__
from orchestrator.provider.redaction import Redaction
from orchestrator.provider.reply_memory import Lease, ReplyMemory

__all__ = [
    "DEFAULT_REPLY_BYTES",
    "KEEPALIVE_S",
    "TIMEOUT_SETTING",
    "Endpoint",
    "Reply",
    "Slots",
    "Transport",
    "TransportError",
    "environment_proxy",
    "system_message",
    "tls_context",
    "too_large",
    "was_stopped",
]

# Shorter than the five seconds after which uvicorn and Node close an idle connection: for a create call sent into a
# closing connection it is unknown whether it was received.
KEEPALIVE_S = 4.0

TIMEOUT_SETTING = "timeouts.read in the config sets how long to wait"

DEFAULT_REPLY_BYTES = 24 * 2**20

# A timer that fires so late says that the process was stopped: by a signal, a debugger or a sleeping machine.
_STOPPED_S = 1.0

_HEADER_TEXT = re.compile(r"[\t\x20-\x7e]*")

# Headers whose values are secrets, and the minimum length of one: the "Bearer" of "Bearer sk-…" is too short.
_SECRET_NAME = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)
_SECRET_LENGTH = 12


@fast_dataclass
class Reply:
    """A complete HTTP reply: the names of ``headers`` are lower-case, ``body`` is decompressed."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    # The room that a large body takes of the memory that replies share.
    lease: Lease | None = field(default=None, repr=False, compare=False)


class TransportError(Exception):
    """There was no complete reply; ``problem`` says whether the request was sent.

    ``partial`` is the part that arrived, if the status line did.
    """

    def __init__(self, problem: NeverSent | ReplyLost, partial: Reply | None = None) -> None:
        super().__init__(problem.reason)
        self.problem = problem
        self.partial = partial


class Transport(Protocol):
    """Sends one request over HTTP and reads one reply; thousands of calls may run at the same time."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float | None = None,
    ) -> Reply:
        """Returns the reply with any status; the only network error that it raises is ``TransportError``.

        ``path`` starts with a slash, is already quoted, and may have a query. Redirects are not followed. The problem
        is ``NeverSent`` only if no byte of the request can have been sent, else ``ReplyLost``. A silent provider
        times out after ``read_timeout_s``, and a slow reply after ``connect_timeout_s + read_timeout_s``.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections; no call may follow."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Endpoint:
    """Where the provider is, and how to call it.

    ``headers`` (including authentication) and ``query`` are sent with every request. ``max_reply_bytes`` limits a
    decompressed body, ``reply_memory`` all large bodies together. ``trust_env`` uses ``HTTPS_PROXY``, ``HTTP_PROXY``
    and ``NO_PROXY``, never for loopback. Raises ``ConfigError`` for a URL or a header that HTTP cannot carry, without
    showing its value.
    """

    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    max_connections: int = 256
    max_reply_bytes: int = DEFAULT_REPLY_BYTES
    reply_memory: ReplyMemory = field(default_factory=ReplyMemory)
    trust_env: bool = True
    redaction: Redaction = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _is_base_url(self.base_url):
            raise ConfigError(
                f"{_without_login(self.base_url)!r} is not the base URL of an API",
                hint="it looks like https://api.openai.com/v1; a query belongs into provider.query, a login into "
                "provider.headers",
            )
        for name, value in self.headers.items():
            if not _HEADER_TEXT.fullmatch(value):
                raise ConfigError(
                    f"the value of the header {name} holds a character that HTTP does not allow",
                    hint="a key that was read from a file often ends in a line break",
                )
        words = (word for name, value in self.headers.items() if _SECRET_NAME.search(name) for word in value.split())
        # Servers that echo a key may leave out the quotes around it.
        secrets = {
            part.encode() for word in words for part in (word, word.strip("'\"")) if len(part) >= _SECRET_LENGTH
        }
        object.__setattr__(self, "redaction", Redaction(secrets))

    def __repr__(self) -> str:
        """Returns a text without the values of headers and query, which hold the key."""
        return f"Endpoint({self.base_url!r}, headers={sorted(self.headers)}, query={sorted(self.query)})"

    def url(self, path: str) -> str:
        """Returns the whole URL of a path, with the endpoint's query."""
        url = self.base_url.rstrip("/") + path
        if not self.query:
            return url
        return f"{url}{'&' if '?' in path else '?'}{urlencode(self.query)}"

    def request_headers(self) -> dict[str, str]:
        """Returns the headers of every request; a header of the endpoint replaces ours of the same name."""
        ours = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"orchestrator/{__version__}",
        }
        theirs = {name.lower() for name in self.headers}
        return {**{name: value for name, value in ours.items() if name.lower() not in theirs}, **self.headers}

    def redact(self, body: bytes) -> bytes:
        """Returns the body with every secret of our headers redacted, because error pages may echo them."""
        return self.redaction.redact(body)


class Slots:
    """Limits the connections in use; a request that gets none in time counts as never sent."""

    def __init__(self, count: int, *, wait_s: float) -> None:
        self._count = count
        self._wait_s = wait_s
        self._free = anyio.Semaphore(count, fast_acquire=True)

    def take_free(self) -> bool:
        """Take a connection if one is free; returns whether it was."""
        try:
            self._free.acquire_nowait()
        except anyio.WouldBlock:
            return False
        return True

    async def take(self) -> None:
        """Take a connection when one is free; raises ``TransportError`` (never sent, local) if all stay busy."""
        with anyio.move_on_after(self._wait_s):
            await self._free.acquire()
            return
        reason = f"all {self._count} connections stayed busy for {self._wait_s:g} s"
        raise TransportError(NeverSent(reason=reason, local=True))

    def give_back(self) -> None:
        """Release a connection for the next request."""
        self._free.release()


def too_large(endpoint: Endpoint, partial: Reply) -> TransportError:
    """Returns the error for a body that exceeds the endpoint's limit."""
    reason = (
        f"the reply is larger than {endpoint.max_reply_bytes} bytes; limits.reply_bytes in the config sets the limit"
    )
    return TransportError(ReplyLost(reason=reason, status=partial.status, unreadable=True, too_large=True), partial)


def was_stopped(due_at: float, now: float) -> bool:
    """Whether a timer fires so late that the process must have been stopped: then its timeout has not passed yet."""
    return now - due_at >= _STOPPED_S


def environment_proxy(base_url: str) -> str | None:
    """Returns the proxy that the environment names for a URL, or None; loopback never has one."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    place = f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    if _is_loopback(host) or urllib.request.proxy_bypass(host) or urllib.request.proxy_bypass(place):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None:
        return None
    scheme, separator, rest = proxy.strip().partition("://")
    if not separator:
        scheme, rest = "http", scheme
    scheme = scheme.lower()
    if scheme not in {"http", "https"}:
        raise ConfigError(
            f"the environment names a {scheme} proxy, and only HTTP proxies are supported",
            hint=f"set NO_PROXY={host} if the provider can be reached without it",
        )
    # Like curl, whatever precedes the last @ is the login: a password may hold any sign, encoded or not.
    login, at, address = rest.rpartition("@")
    user, colon, password = login.partition(":")
    proxy = f"{scheme}://{_encoded(user)}{colon}{_encoded(password)}{at}{address.rstrip('/')}"
    if not _is_proxy(proxy):
        raise ConfigError(
            "the environment names a proxy whose address cannot be read",
            hint="it looks like http://user:password@proxy.example:3128; the value is not shown, for its password",
        )
    return proxy


def _encoded(word: str) -> str:
    return quote(unquote(word), safe="")


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        return bool(parts.hostname) and not parts.query and not parts.fragment and parts.port != 0
    except ValueError:
        return False


def tls_context() -> ssl.SSLContext:
    """Returns a context that trusts the system's and certifi's authorities, or only those of SSL_CERT_FILE."""
    context = ssl.create_default_context()
    if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        # Slim container images and new macOS Pythons have no authorities of their own.
        context.load_verify_locations(certifi.where())
    return context


def system_message(error: BaseException) -> str:
    """Returns the message of the operating system or OpenSSL; ``str(error)`` may quote what was sent."""
    match error:
        case ssl.SSLCertVerificationError():
            return error.verify_message
        case ssl.SSLError():
            return error.reason or "handshake failed"
        # asyncio replaces the system's message; the numbers of resolver errors are negative and not the system's.
        case OSError(errno=int() as number) if number > 0:
            return os.strerror(number)
    return type(error).__name__


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        valid = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment) and "@" not in parts.netloc
    return valid and plain and bool(host) and parts.scheme in {"http", "https"}


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
