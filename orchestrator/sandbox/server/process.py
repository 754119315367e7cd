"""The embedded sandbox: a process of its own that ends with the last run that uses it."""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import orjson

from orchestrator.core.errors import ConfigError, OrchestratorError, StoreError
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.discovery import SandboxEndpoint, SharedSandbox, is_locked, use_published
from orchestrator.sandbox.storage.sandbox_database import StateFileBusy

__all__ = ["SandboxEndpoint", "embedded_sandbox"]

_EXIT_WAIT_S = 5
# For a sandbox that cannot be shared: one that starts or ends at this moment, or `orchestrator sandbox --state`.
_FREE_WAIT_S = 30
_SILENT_S = 0.5
_CHECK_S = 0.05


@asynccontextmanager
async def embedded_sandbox(
    settings: SandboxSettings, state_file: Path | None, *, warn: Callable[[str], None] = lambda _: None
) -> AsyncIterator[SandboxEndpoint]:
    """A sandbox on 127.0.0.1: the one that another run has open on the same state file, else a new one.

    It ends with the last process that uses it, however that ends. Its key is random unless the settings have one.
    Raises ``StoreError`` or ``ConfigError`` if it cannot start.
    """
    started = time.monotonic()
    while True:
        shared = await _shared_sandbox(state_file, started, warn) if state_file else None
        if shared is not None:
            with shared:
                if shared.endpoint.settings != _digest(settings):
                    warn("the sandbox of another run on this database is used, with the settings of that run")
                yield shared.endpoint
            return
        process = _Process()
        try:
            endpoint = await process.start(settings, state_file)
        except StateFileBusy:  # another one started at the same moment
            await process.end()
            continue
        except BaseException:
            await process.end()
            raise
        try:
            yield endpoint
        finally:
            await process.end()
        return


async def _shared_sandbox(state_file: Path, started: float, warn: Callable[[str], None]) -> SharedSandbox | None:
    """The sandbox of another process; None once no sandbox works on the file."""
    said = False
    while is_locked(state_file):
        if shared := use_published(state_file):
            return shared
        waited_s = time.monotonic() - started
        if waited_s >= _FREE_WAIT_S:
            raise StateFileBusy(state_file)
        if waited_s >= _SILENT_S and not said:
            said = True
            warn(f"waiting for {state_file}: another sandbox works on it, such as `orchestrator sandbox --state`")
        await anyio.sleep(_CHECK_S)
    return None


class _Process:
    """The process of a sandbox that this process started."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C reaches only the parent, which still needs the sandbox in order to end cleanly.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestrator.sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._said = b""

    async def start(self, settings: SandboxSettings, state_file: Path | None) -> SandboxEndpoint:
        """Sends its settings by standard input, which other users cannot read, and waits for its address."""
        key = settings.api_key.get_secret_value() if settings.api_key else f"sk-sandbox-{secrets.token_hex(16)}"
        order = {
            "settings": _with_secrets(settings, key),
            "state_file": str(state_file) if state_file else None,
            "digest": _digest(settings),
        }
        await anyio.to_thread.run_sync(self._send, orjson.dumps(order) + b"\n", abandon_on_cancel=True)
        report = await self._report()
        if report is None:
            raise ConfigError("the embedded sandbox ended before it could start")
        if report.get("error") == StateFileBusy.__name__ and state_file:
            raise StateFileBusy(state_file)
        if "error" in report:
            raise _ERRORS.get(report["error"], OrchestratorError)(report["message"], hint=report["hint"])
        return SandboxEndpoint(report["base_url"], key, _digest(settings), self._process.pid)

    async def end(self) -> None:
        """Ends the process, or leaves it to the other processes that use it."""
        process = self._process
        with anyio.CancelScope(shield=True):
            if process.stdin:
                process.stdin.close()
            with anyio.move_on_after(_EXIT_WAIT_S):
                if await self._report() is None:
                    await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
                else:  # it is still used
                    threading.Thread(target=process.wait, daemon=True).start()
                    self._close()
                    return
            if process.poll() is None:
                process.kill()
                process.wait()
            self._close()

    def _close(self) -> None:
        if self._process.stdout:
            self._process.stdout.close()

    def _send(self, line: bytes) -> None:
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.write(line)

    async def _report(self) -> dict[str, Any] | None:
        """What it says next; None when it has ended."""
        if self._process.stdout is None or self._process.stdout.closed:
            return None
        number = self._process.stdout.fileno()
        while b"\n" not in self._said:
            await anyio.wait_readable(number)
            chunk = os.read(number, 65_536)
            if not chunk:
                return None
            self._said += chunk
        line, _, self._said = self._said.partition(b"\n")
        report: dict[str, Any] = orjson.loads(line)
        return report


def _with_secrets(settings: SandboxSettings, api_key: str) -> dict[str, Any]:
    """The settings as JSON values, with the secrets that a dump masks."""
    values = settings.model_dump(mode="json") | {"api_key": api_key}
    if settings.webhooks is not None and settings.webhooks.secret is not None:
        values["webhooks"]["secret"] = settings.webhooks.secret.get_secret_value()
    return values


def _digest(settings: SandboxSettings) -> str:
    return hashlib.sha256(settings.model_dump_json(exclude={"api_key"}).encode()).hexdigest()


_ERRORS: dict[str, type[OrchestratorError]] = {error.__name__: error for error in (ConfigError, StoreError)}
