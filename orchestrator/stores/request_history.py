"""All that a database has of one row, as ``show`` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.stores.reads import AttemptRecord, RequestRecord, ToolCall
from orchestrator.stores.stream_events import ProgressEvent

__all__ = ["RequestHistory"]


@fast_dataclass(kw_only=False)
class RequestHistory:
    """One row: the request, each attempt at it, and what belongs to these.

    ``tool_calls`` are by the id of the attempt whose response asked for them, ``progress`` by that of the attempt
    whose stream sent it. ``answered_by`` is the attempt of a duplicate whose answer this one shares.
    """

    request: RequestRecord
    attempts: Sequence[AttemptRecord]
    tool_calls: Mapping[int, Sequence[ToolCall]] = field(default_factory=dict)
    progress: Mapping[int, Sequence[ProgressEvent]] = field(default_factory=dict)
    answered_by: AttemptRecord | None = None

    @property
    def responses(self) -> list[AttemptRecord]:
        """The attempts that may have a response, the latest last; that of another row if its answer is shared."""
        return [*self.attempts, self.answered_by] if self.answered_by is not None else list(self.attempts)
