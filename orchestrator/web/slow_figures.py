"""Figures that scan a run: computed beside the pages, and kept until the run has changed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["Figures", "SlowFigures"]

T = TypeVar("T")
_KEPT = 40


@fast_dataclass(kw_only=False)
class Figures(Generic[T]):
    """What was computed last, None if nothing was; ``is_current`` says that nothing has changed since."""

    value: T | None
    is_current: bool


@dataclass(slots=True)
class _Entry:
    version: Hashable = None
    value: Any = None
    work: asyncio.Task[None] | None = None


class SlowFigures:
    """Results by their name; one computation at a time for each."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    async def get(
        self, name: Hashable, version: Hashable, make: Callable[[], Awaitable[T]], *, within_s: float | None
    ) -> Figures[T]:
        """The figures of a version; after ``within_s``, those of an earlier one, while they are still computed."""
        entry = self._entries.setdefault(name, _Entry())
        self._entries.move_to_end(name)
        while len(self._entries) > _KEPT:
            self._entries.popitem(last=False)
        if entry.value is not None and entry.version == version:
            return Figures(entry.value, is_current=True)
        if entry.work is None or entry.work.done():
            entry.work = asyncio.create_task(_compute(entry, version, make))
        # A page that is not waited for does not end the computation.
        await asyncio.wait([entry.work], timeout=within_s)
        if entry.work.done():
            entry.work.result()
        return Figures(entry.value, is_current=entry.value is not None and entry.version == version)

    async def aclose(self) -> None:
        """End what is still computed."""
        working = [entry.work for entry in self._entries.values() if entry.work is not None]
        for work in working:
            work.cancel()
        await asyncio.gather(*working, return_exceptions=True)


async def _compute(entry: _Entry, version: Hashable, make: Callable[[], Awaitable[Any]]) -> None:
    entry.value = await make()
    entry.version = version
