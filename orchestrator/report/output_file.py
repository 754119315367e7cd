"""The target of an export: a file that appears only when it is complete, or a stream."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from orchestrator.core.errors import UsageError
from orchestrator.report.parquet_file import require_parquet

__all__ = ["check_target", "whole_file"]

_BUFFER = 1 << 20


def check_target(path: Path) -> None:
    """Raise ``UsageError`` if no file can be written to ``path``; creates nothing."""
    if path.suffix.lower() == ".parquet":
        require_parquet()
    if path.is_dir():
        raise UsageError("this is a directory, not a file to write to", where=str(path))
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UsageError(f"no file can be written here: {parent} is not a directory", where=str(path))
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise UsageError("no permission to write here", where=str(path))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces ``path`` at the end, and leaves no trace if writing fails.

    A target that is no regular file (``/dev/null``, a named pipe) is written directly. Raises ``UsageError`` for
    errors of the file system.
    """
    target = path.resolve()
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                yield stream
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with part.open("wb", buffering=_BUFFER) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"cannot be written: {error.strerror or type(error).__name__}", where=str(path)) from error
