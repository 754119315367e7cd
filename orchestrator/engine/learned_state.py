"""What a run learns about the provider, kept for the next run: latencies and limits."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.stores.base import LearnedReader, Store

__all__ = ["LearnedState", "Snapshot"]


@fast_dataclass(kw_only=False)
class Snapshot:
    """One part of the learned state: the name it is stored under, how to dump it, how to load it."""

    name: str
    dump: Callable[[], bytes]
    load: Callable[[bytes], None]


class LearnedState:
    """Keeps snapshots in the store; a lost or unreadable one only costs a cold start."""

    def __init__(self, store: Store, reader: LearnedReader, snapshots: list[Snapshot], *, saves: bool = True) -> None:
        """Without ``saves`` nothing is kept: what one of several processes has learned is not true of all."""
        self._store = store
        self._reader = reader
        self._snapshots = snapshots
        self._saves = saves

    async def recall(self) -> None:
        """Load each snapshot that an earlier run has saved."""
        for snapshot in self._snapshots:
            kept = await self._reader.recall(snapshot.name)
            if kept is not None:
                snapshot.load(kept)

    async def save(self) -> None:
        """Save all snapshots."""
        for snapshot in self._snapshots if self._saves else ():
            await self._store.remember(snapshot.name, snapshot.dump())
