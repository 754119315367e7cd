"""Whether events announce the ends of responses reliably enough to poll less often."""

from __future__ import annotations

from collections import deque
from enum import Enum

__all__ = ["Announced", "Announcements"]

_WINDOW, _ENOUGH = 25, 24


class Announced(Enum):
    """How far ends are announced: not at all or with gaps, perhaps (nothing has shown it yet), or reliably."""

    NOT = 0
    PERHAPS = 1
    RELIABLY = 2


class Announcements:
    """Record each end with ``ended``; ``announced`` is what that has shown.

    Ends are announced reliably once 24 of the latest 25 were: with three in ten lost, that is nearly never so by
    chance. The first end that is not announced takes it back, and another 25 must show it again.
    """

    def __init__(self) -> None:
        self._latest: deque[bool] = deque(maxlen=_WINDOW)
        self.announced = Announced.PERHAPS

    def ended(self, *, announced: bool) -> None:
        """Record that a response has ended, and whether an event said so."""
        if not announced and self.announced is not Announced.NOT:
            self.announced = Announced.NOT
            self._latest.clear()
        self._latest.append(announced)
        if len(self._latest) == _WINDOW and sum(self._latest) >= _ENOUGH:
            self.announced = Announced.RELIABLY
