"""The memory that large replies share: each waits until there is room for all of it, so that none waits half-read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["DEFAULT_MOST_BYTES", "FREE_BYTES", "Lease", "ReplyMemory"]

# One of the largest replies at a time; a reply takes several times its size while it is read.
DEFAULT_MOST_BYTES = 24 * 2**20
# Replies up to this size need no lease: nearly all are smaller.
FREE_BYTES = 256 * 1024


class Lease:
    """Room for one reply, given back when the last holder of its body drops it."""

    def __init__(self, memory: ReplyMemory, size: int) -> None:
        self._memory = memory
        self.size = size

    def __del__(self) -> None:
        self._memory.give_back(self.size)


class ReplyMemory:
    """Grants leases in the order in which they are asked for; one that exceeds the whole is granted alone."""

    def __init__(self, most_bytes: int = DEFAULT_MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._taken = 0
        self._waiting: deque[tuple[int, Callable[[Lease], object]]] = deque()

    def take(self, size: int) -> Lease | None:
        """Returns a lease if there is room and no one waits for it."""
        if self._waiting or not self._fits(size):
            return None
        self._taken += size
        return Lease(self, size)

    def wait(self, size: int, granted: Callable[[Lease], object]) -> None:
        """Call ``granted`` with a lease once there is room; it drops one that it does not need."""
        self._waiting.append((size, granted))

    def give_back(self, size: int) -> None:
        """Take back the room of a lease, and grant those that fit now."""
        self._taken -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            wanted, granted = self._waiting.popleft()
            self._taken += wanted
            granted(Lease(self, wanted))

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._most_bytes
