"""Which executors there are, by the name of the lane that a request takes to the provider.

A new lane is a module beside this one and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from orchestrator.executors.background import BackgroundExecutor
from orchestrator.executors.base import Executor
from orchestrator.executors.streamed import StreamedExecutor
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.streaming import StreamingClient

__all__ = ["DEFAULT_LANE", "LANES", "Connections", "open_executor"]

DEFAULT_LANE = "background"


class Connections(Protocol):
    """The clients of one provider, from which a lane takes those it needs."""

    @property
    def client(self) -> ResponsesClient:
        """For calls that return at once."""
        ...

    def streams(self) -> StreamingClient:
        """For event streams; its connections are opened here."""
        ...


Lane: TypeAlias = Callable[[Connections, bool], Executor]
"""Makes an executor; the second argument says whether the job wants its responses streamed."""


def _background(connections: Connections, stream: bool) -> Executor:
    if stream:
        return StreamedExecutor(connections.client, connections.streams())
    return BackgroundExecutor(connections.client)


LANES: Mapping[str, Lane] = {DEFAULT_LANE: _background}


def open_executor(connections: Connections, *, lane: str = DEFAULT_LANE, stream: bool = False) -> Executor:
    """The executor of a lane; raises ``KeyError`` if no lane has that name."""
    return LANES[lane](connections, stream)
