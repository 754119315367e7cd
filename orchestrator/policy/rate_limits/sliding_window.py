"""How much was used in the last minute: a sliding window that never forgets too early."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Window"]

_SLOT_S = 0.5
# 60 s, the current slot, and one more slot: the provider counts arrivals, and the time from sending to arrival
# varies.
_SLOTS = 122


@dataclass(slots=True)
class _Slot:
    number: int
    amount: int
    last_at: float


class Window:
    """Amounts by time, in slots of half a second; each counts for 60.5 s to 61 s.

    So the sum over any 60 s never exceeds the largest value that ``used`` was allowed to reach.
    """

    __slots__ = ("_slots", "_used")

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque()
        self._used = 0

    def used(self, now: float) -> int:
        """Returns how much was used in the last minute."""
        slots, oldest = self._slots, int(now / _SLOT_S) - _SLOTS
        while slots and slots[0].number <= oldest:
            self._used -= slots.popleft().amount
        return self._used

    def add(self, now: float, amount: int) -> None:
        """Count an amount used now."""
        slots, number = self._slots, int(now / _SLOT_S)
        # If the clock steps back, the amount goes to the newest slot and counts a little too long.
        if slots and slots[-1].number >= number:
            slots[-1].amount += amount
            slots[-1].last_at = max(now, slots[-1].last_at)
        else:
            # Without this, slots would accumulate if no caller ever asks for ``used``.
            self.used(now)
            slots.append(_Slot(number, amount, now))
        self._used += amount

    def take_back(self, used_at: float, amount: int) -> None:
        """Undo an ``add`` at ``used_at``, unless its slot is gone."""
        number = int(used_at / _SLOT_S)
        for slot in reversed(self._slots):
            if slot.number <= number:
                if slot.number == number:
                    back = min(amount, slot.amount)
                    slot.amount -= back
                    self._used -= back
                return

    def since(self, start: float) -> float:
        """Returns how much was used after ``start``; within its slot, in proportion."""
        number, total = int(start / _SLOT_S), 0.0
        for slot in reversed(self._slots):
            if slot.number > number:
                total += slot.amount
            else:
                if slot.number == number and slot.last_at > start:
                    total += slot.amount * (number + 1 - start / _SLOT_S)
                break
        return total

    def room_at(self, now: float, room: int) -> float:
        """Returns the earliest time at which at most ``room`` is used, if nothing is added."""
        used = self.used(now)
        if used <= room:
            return now
        for slot in self._slots:
            used -= slot.amount
            if used <= room:
                return (slot.number + _SLOTS) * _SLOT_S
        return now
