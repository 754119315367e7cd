"""What was used in the last minute: a sliding window that never forgets too early."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Window"]

_SLOT_S = 0.5
# 60 s, the slot that is being filled, and one slot more: a call may arrive a little sooner or later than the one
# before it did, and the provider counts arrivals.
_SLOTS = 122


@dataclass(slots=True)
class _Slot:
    number: int
    amount: int
    last_at: float


class Window:
    """Amounts by time, kept in slots of half a second; each counts for 60.5 s to 61 s and is then forgotten.

    So the sum over any 60 s, wherever they begin, is at most the largest ``used`` was allowed to become.
    """

    __slots__ = ("_slots", "_used")

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque()
        self._used = 0

    def used(self, now: float) -> int:
        """How much was used in the last minute."""
        slots, oldest = self._slots, int(now / _SLOT_S) - _SLOTS
        while slots and slots[0].number <= oldest:
            self._used -= slots.popleft().amount
        return self._used

    def add(self, now: float, amount: int) -> None:
        """Count an amount used now."""
        slots, number = self._slots, int(now / _SLOT_S)
        # A clock that steps back adds to the newest slot, which is forgotten later than it need be.
        if slots and slots[-1].number >= number:
            slots[-1].amount += amount
            slots[-1].last_at = max(now, slots[-1].last_at)
        else:
            # Here, for nobody else may ever ask: old slots would gather.
            self.used(now)
            slots.append(_Slot(number, amount, now))
        self._used += amount

    def take_back(self, used_at: float, amount: int) -> None:
        """Undo an ``add`` at ``used_at``, unless it is forgotten by now."""
        number = int(used_at / _SLOT_S)
        for slot in reversed(self._slots):
            if slot.number <= number:
                if slot.number == number:
                    back = min(amount, slot.amount)
                    slot.amount -= back
                    self._used -= back
                return

    def since(self, moment: float) -> float:
        """How much was used after a moment; within its slot, in proportion."""
        number, total = int(moment / _SLOT_S), 0.0
        for slot in reversed(self._slots):
            if slot.number > number:
                total += slot.amount
            else:
                if slot.number == number and slot.last_at > moment:
                    total += slot.amount * (number + 1 - moment / _SLOT_S)
                break
        return total

    def room_at(self, now: float, room: int) -> float:
        """The earliest moment at which no more than ``room`` is used, if nothing is added."""
        used = self.used(now)
        if used <= room:
            return now
        for slot in self._slots:
            used -= slot.amount
            if used <= room:
                return (slot.number + _SLOTS) * _SLOT_S
        return now
