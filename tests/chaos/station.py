"""A run with its own provider: a sandbox in a process that outlives the run, and that can stop and restart."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from tests.end_to_end.rig import Rig
from tests.warm import warm_python

__all__ = ["KEY", "Provider", "Station", "free_port"]

KEY = "sk-sandbox-of-the-chaos-tests"
_ROOT = Path(__file__).parents[2]
_OURS = ("OPENAI_", "ORCHESTRATOR_")


@dataclass
class Provider:
    """A sandbox as a server, which keeps its address and its state file when it restarts."""

    folder: Path
    settings: Mapping[str, Any]
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server on its state file; returns when it listens."""
        config = self.folder / "provider.yaml"
        config.write_text(json.dumps({"provider": {"sandbox": dict(self.settings)}}))
        arguments = [
            "--port",
            str(self.port),
            "--state",
            str(self.folder / "provider.state"),
            "--config",
            str(config),
        ]
        self.process = subprocess.Popen(
            [warm_python(), "-m", "orchestrator", "sandbox", *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        if not any("listening on" in line for line in self.process.stderr):
            raise AssertionError("the sandbox did not start")

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Ends the process; its state stays in the file."""
        if self.process is None:
            return
        self.process.send_signal(by)
        self.process.communicate()
        self.process = None

    def ledger(self) -> dict[str, Any]:
        """The ledger, over all restarts."""
        loaded: dict[str, Any] = httpx.get(f"{self.address}/_ledger", timeout=600).json()
        return loaded

    def responses(self) -> list[dict[str, Any]]:
        """One record for each response that it created, in order."""
        lines = httpx.get(f"{self.address}/_ledger/responses", timeout=600).text.splitlines()
        return [json.loads(line) for line in lines]


@dataclass
class Station(Rig):
    """A user's folder whose config names a provider; ``launcher`` is the module that runs the command.

    ``warm`` processes start at once, but one that is killed from outside runs for a few milliseconds longer.
    """

    provider: Provider | None = None
    launcher: Sequence[str] = ("orchestrator",)
    warm: bool = False

    def __post_init__(self) -> None:
        assert self.provider is not None
        where = {"base_url": f"{self.provider.address}/v1", "profile": "ogx"}
        limits = {"requests_per_minute": 60_000, "polls_per_minute": 60_000, "max_in_flight": 64}
        self.config = {"provider": where, "limits": limits} | self.config
        super().__post_init__()

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Starts a command and returns while it runs."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ORCHESTRATOR_"))
        }
        given = {"OPENAI_API_KEY": KEY, "PYTHONPATH": str(_ROOT), "COLUMNS": "80", "NO_COLOR": "1"}
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [warm_python() if self.warm else sys.executable, "-m", *self.launcher, *arguments],
            cwd=self.folder,
            env={**inherited, **given, **(env or {})},
            text=True,
            **(streams | options),
        )


def free_port() -> int:
    """A port on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
