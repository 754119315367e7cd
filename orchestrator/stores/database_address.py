"""The addresses of databases: the path of a file, or the URL of a server, whose password is never shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

__all__ = ["is_server", "shown_address"]

# A path that was made of a URL has lost one of its slashes.
_SERVER = re.compile(r"(?:postgres|postgresql):/")
_SECRETS = frozenset({"password", "sslpassword"})


def is_server(address: str | Path) -> bool:
    """Whether an address is the URL of a server, rather than the path of a file."""
    return _SERVER.match(str(address)) is not None


def shown_address(address: str) -> str:
    """The address as it may be printed: without the password that the URL of a server may have."""
    if not is_server(address):
        return address
    try:
        parts = urlsplit(address)
    except ValueError:
        return f"{address.partition(':')[0]}://…"
    user, at, host = parts.netloc.rpartition("@")
    query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] not in _SECRETS])
    shown = f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"
    return f"{shown}?{query}" if query else shown
