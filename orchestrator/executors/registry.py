"""Which executors there are, by the lane that a request takes to the provider.

A new lane is a module beside this one and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from orchestrator.core.lanes import Lane
from orchestrator.executors.background import BackgroundExecutor
from orchestrator.executors.base import Executor
from orchestrator.executors.batch import BatchExecutor
from orchestrator.executors.streamed import StreamedExecutor
from orchestrator.executors.sync import SyncExecutor
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.streaming import StreamingClient

if TYPE_CHECKING:
    from orchestrator.provider.batches import BatchClient

__all__ = ["DEFAULT_LANE", "LANES", "Connections", "Executors"]

DEFAULT_LANE = Lane.BACKGROUND


class Connections(Protocol):
    """The clients of one provider, from which a lane takes those it needs."""

    @property
    def client(self) -> ResponsesClient:
        """For calls that return at once."""
        ...

    def held(self) -> ResponsesClient:
        """For create calls that are held until the answer is there; its connections are opened here."""
        ...

    def streams(self) -> StreamingClient:
        """For event streams; its connections are opened here."""
        ...

    def batches(self) -> BatchClient:
        """For batches and their files; its connections are opened here."""
        ...


LaneFactory: TypeAlias = Callable[[Connections, bool], Executor]
"""Makes an executor; the second argument says whether the job wants its responses streamed."""


def _background(connections: Connections, stream: bool) -> Executor:
    if stream:
        return StreamedExecutor(connections.client, connections.streams())
    return BackgroundExecutor(connections.client)


def _sync(connections: Connections, stream: bool) -> Executor:  # noqa: ARG001  # it does not stream
    return SyncExecutor(connections.client, connections.held())


def _batch(connections: Connections, stream: bool) -> Executor:  # noqa: ARG001  # it does not stream
    return BatchExecutor(connections.client)


LANES: Mapping[Lane, LaneFactory] = {
    Lane.BACKGROUND: _background,
    Lane.SYNC: _sync,
    Lane.BATCH: _batch,
    # They differ from it in the fields that they send.
    Lane.FLEX: _background,
    Lane.WINDOW_2H: _background,
    Lane.WINDOW_8H: _background,
}


class Executors:
    """The executors of one run, one for each lane, opened when its first request takes that lane."""

    def __init__(self, connections: Connections, *, stream: bool = False) -> None:
        self._connections = connections
        self._stream = stream
        self._opened: dict[Lane, Executor] = {}
        self._batches: BatchClient | None = None

    def of(self, lane: Lane) -> Executor:
        """The executor of a lane; raises ``KeyError`` if the lane has none."""
        executor = self._opened.get(lane)
        if executor is None:
            executor = self._opened[lane] = LANES[lane](self._connections, self._stream)
        return executor

    def batches(self) -> BatchClient:
        """The client for batches, opened when the first one is sent or found."""
        if self._batches is None:
            self._batches = self._connections.batches()
        return self._batches
