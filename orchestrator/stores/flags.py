"""What people note on rows: a flag, which is a word to choose rows by, and a sentence."""

from __future__ import annotations

from typing import Protocol

from orchestrator.core.errors import UsageError

__all__ = ["FlagStore", "checked_flag", "checked_note"]

_MOST_FLAG_CHARACTERS = 50
_MOST_NOTE_CHARACTERS = 2_000


class FlagStore(Protocol):
    """The verb of a store for flags."""

    async def set_flag(self, request_id: int, flag: str | None, note: str, at: float) -> bool:
        """Flag a request, in place of the flag that it had; None takes it away, and the note with it.

        Returns whether there is such a request.
        """
        ...


def checked_flag(text: str) -> str | None:
    """The flag in a text, None if it is blank; raises ``UsageError`` if it cannot be one."""
    flag = text.strip()
    if len(flag) > _MOST_FLAG_CHARACTERS or not flag.isprintable():
        raise UsageError(f"a flag is one short word or phrase, of at most {_MOST_FLAG_CHARACTERS} characters")
    return flag or None


def checked_note(text: str) -> str:
    """The note in a text; raises ``UsageError`` if it is too long."""
    note = text.strip().replace("\r\n", "\n")
    if len(note) > _MOST_NOTE_CHARACTERS:
        raise UsageError(f"a note has at most {_MOST_NOTE_CHARACTERS:,} characters")
    return note
