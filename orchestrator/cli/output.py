"""What goes to standard output: results for people or scripts, and nothing else."""

from __future__ import annotations

import errno
import os
import stat
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from rich.console import Console
from rich.text import Text

from orchestrator.core.errors import UsageError
from orchestrator.core.printable import CONTROLS, printable

__all__ = [
    "PipeConsole",
    "ReaderGone",
    "abandon_stdout",
    "hold_standard_streams",
    "note",
    "say",
    "say_json",
    "stdout_bytes",
]


class ReaderGone(Exception):
    """The reader of standard output has closed it, as ``| head`` does."""


class PipeConsole(Console):
    """A console for standard output that raises ``ReaderGone`` when its reader is gone."""

    def on_broken_pipe(self) -> None:
        """Called by rich."""
        raise ReaderGone


def hold_standard_streams() -> None:
    """Replace each standard stream that the caller closed by /dev/null.

    Otherwise the next file or socket would take its number, and what is meant for a terminal would go into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
        if number == 1:
            sys.stdout = os.fdopen(1, "w", closefd=False)
        elif number == 2:
            sys.stderr = os.fdopen(2, "w", closefd=False)
    os.close(number)


def say(text: Text | str) -> None:
    """A result for people, coloured only on a terminal and never cut to its width."""
    if isinstance(text, str):
        text = printable(text)
    elif CONTROLS.search(text.plain):
        text = text.copy()
        text.plain = printable(text.plain)
    with _writing():
        PipeConsole(highlight=False, soft_wrap=True).print(text)
        sys.stdout.flush()


def say_json(value: Any) -> None:
    """A result for scripts: one JSON value on one line."""
    import orjson

    from orchestrator.core import exact_json

    line = exact_json.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    if sys.stdout.isatty():
        line = CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line.decode()).encode()
    with stdout_bytes() as out:
        out.write(line)


def note(text: str) -> None:
    """A remark for people, on standard error; a closed terminal is no reason to fail."""
    try:
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


class _Terminal:
    """Writes text to a terminal with a visible sign in place of each control character."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def write(self, data: bytes) -> int:
        self._stream.write(printable(self._decoder.decode(data)).encode())
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


@contextmanager
def stdout_bytes() -> Iterator[BinaryIO]:
    """Standard output as a stream of bytes; raises ``ReaderGone`` when it has no reader any more.

    On a terminal, control characters are replaced: files and pipes get the bytes as they are.
    """
    with _writing():
        sys.stdout.flush()
        yield cast(BinaryIO, _Terminal(sys.stdout.buffer)) if sys.stdout.isatty() else sys.stdout.buffer
        sys.stdout.buffer.flush()


def abandon_stdout() -> None:
    """Flush; if that fails, keep the interpreter from trying (and complaining) once more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        if error.errno == errno.EIO and stat.S_ISCHR(os.fstat(1).st_mode):  # a terminal that was closed
            raise ReaderGone from None
        raise UsageError(f"standard output cannot be written: {error.strerror}") from error
