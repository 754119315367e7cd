"""What a run learns about the provider and the next one should know: latencies and limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.stores.base import Reader, Store

__all__ = ["Learnt", "Lesson"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One thing learnt: the name it is kept under, how to write it down, how to take it up again."""

    name: str
    dump: Callable[[], bytes]
    load: Callable[[bytes], None]


class Learnt:
    """Keeps lessons in the store; a lost or unreadable one only costs a cold start."""

    def __init__(self, store: Store, reader: Reader, lessons: list[Lesson]) -> None:
        self._store = store
        self._reader = reader
        self._lessons = lessons

    async def recall(self) -> None:
        for lesson in self._lessons:
            kept = await self._reader.recall(lesson.name)
            if kept is not None:
                lesson.load(kept)

    async def save(self) -> None:
        for lesson in self._lessons:
            await self._store.remember(lesson.name, lesson.dump())
