"""Makes files that only their owner can read: what runs keep holds prompts, answers and keys of sandboxes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["PRIVATE", "make_private"]

PRIVATE = 0o600


def make_private(path: Path) -> None:
    """Creates an empty file for its owner alone, whatever the umask; an existing one keeps its mode.

    SQLite gives the files that it puts beside a database the mode of the database.
    An error is met again when the file is opened.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
