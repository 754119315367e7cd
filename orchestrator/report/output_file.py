"""The target of an export: a file that appears only when it is complete, or a stream."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from orchestrator.core.errors import UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.report.parquet_file import require_parquet

__all__ = ["ProtectedFile", "check_target", "whole_file"]

_BUFFER = 1 << 20
# Answers are as private as prompts; a file that is replaced keeps the mode that it was given.
_NEW_FILE_MODE = 0o600


@fast_dataclass(kw_only=False)
class ProtectedFile:
    """A file that no output may replace, whether or not it exists now; ``what`` says what it is."""

    path: Path
    what: str


def check_target(path: Path, protected: Iterable[ProtectedFile] = ()) -> None:
    """Raise ``UsageError`` if no file can be written to ``path``, or none may be; creates nothing."""
    for each in protected:
        if _is_same(path, each.path):
            raise UsageError(
                f"this is {each.what}, and would be overwritten", where=str(path), hint="name another file"
            )
    if path.suffix.lower() == ".parquet":
        require_parquet()
    if path.is_dir():
        raise UsageError("this is a directory, not a file to write to", where=str(path))
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UsageError(f"no file can be written here: {parent} is not a directory", where=str(path))
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise UsageError("no permission to write here", where=str(path))


def _is_same(one: Path, other: Path) -> bool:
    """Whether both names lead to one file, through links of either kind too, or would once it exists."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _mode_of(target: Path) -> int:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return _NEW_FILE_MODE


def _created(path: Path, *, mode: int) -> BinaryIO:
    """A new file, which never has more rights than ``mode``, whatever the umask."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _NEW_FILE_MODE)
    os.fchmod(handle, mode)
    return os.fdopen(handle, "wb", buffering=_BUFFER)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces ``path`` at the end, and leaves no trace if writing fails.

    A target that is no regular file (``/dev/null``, a named pipe) is written directly. Raises ``UsageError`` for
    errors of the file system.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as stream:
                yield stream
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with _created(part, mode=_mode_of(target)) as stream:
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
