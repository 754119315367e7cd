"""Rigs for tests that run the whole product."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.warm import warm_python

from .rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Callable[..., Rig]:
    """Makes the folder of a user with a job ready to run."""

    def make(**settings: Any) -> Rig:
        return Rig(tmp_path, **settings)

    return make


@pytest.fixture
def server() -> Iterator[Callable[..., str]]:
    """Starts a sandbox of its own, as a provider that continues when the run ends; returns its base URL."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> str:
        process = subprocess.Popen(
            [warm_python(), "-m", "orchestrator", "sandbox", "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if "listening on " in line:
                return line.split("listening on ")[1].split()[0]
        raise AssertionError("the sandbox did not start")

    yield start
    for process in started:
        process.terminate()
        process.communicate()


@pytest.fixture
def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
