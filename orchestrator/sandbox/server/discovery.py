"""Publishes the address of a run's embedded sandbox in a file, so that commands beside the run find it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.sandbox.server.process import SandboxEndpoint

__all__ = ["find_endpoint", "published_endpoint"]

_CONNECT_TIMEOUT_S = 1.0


@contextmanager
def published_endpoint(sandbox: SandboxEndpoint, state_file: Path) -> Iterator[None]:
    """Keeps address and key in a file that only this user can read, until the block ends."""
    path = _path(state_file)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"base_url": sandbox.base_url, "api_key": sandbox.api_key, "pid": sandbox.pid}, file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_endpoint(state_file: Path) -> SandboxEndpoint | None:
    """The sandbox that a run has open on a state file; None if there is none, or it died with its run."""
    try:
        found = SandboxEndpoint(**json.loads(_path(state_file).read_text()))
        os.kill(found.pid, 0)
        address = urlsplit(found.base_url)
        with closing(socket.create_connection((address.hostname or "", address.port or 0), _CONNECT_TIMEOUT_S)):
            return found
    except (OSError, ValueError, TypeError):
        return None


def _path(state_file: Path) -> Path:
    return state_file.with_name(f"{state_file.name}.address")
