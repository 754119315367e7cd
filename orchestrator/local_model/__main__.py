"""The process of a local model: reads its order from standard input, and ends when that closes."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

__all__ = ["main"]


def main() -> int:
    """Serves until the process that started it ends; 1 if the model cannot be loaded."""
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    order = json.loads(line)
    try:
        server = _serve(order)
    except Exception as error:  # noqa: BLE001  # whatever llama.cpp says, the process that waits reports it
        _report({"error": str(error) or type(error).__name__})
        return 1
    _report({"address": server.listening_address})
    sys.stdin.buffer.read()
    # At once: what is still computed has no reader, and llama.cpp would finish it first.
    os._exit(0)


def _serve(order: dict[str, Any]) -> Any:
    # An extra, and without types.
    xllamacpp: Any = import_module("xllamacpp")
    wanted = xllamacpp.CommonParams()
    wanted.model.path = order["file"]
    wanted.model_alias = {order["name"]}
    wanted.hostnames = ["127.0.0.1"]
    wanted.port = 0
    wanted.api_keys = [order["key"]]
    wanted.n_parallel = order["at_once"]
    # llama.cpp divides its context among those that it answers at once.
    wanted.n_ctx = order["context_tokens"] * order["at_once"]
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = order["threads"]
    wanted.ui = False
    return xllamacpp.Server(wanted)


def _report(values: dict[str, Any]) -> None:
    # The process that started it may have been killed.
    with suppress(BrokenPipeError):
        os.write(1, json.dumps(values).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
