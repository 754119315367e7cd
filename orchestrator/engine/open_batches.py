"""Batches in memory: those that take in requests, with the bodies in a file, and those at the provider."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from orchestrator.engine.items import Prepared
from orchestrator.engine.stages import Stage
from orchestrator.policy.batches.forming import BatchSize
from orchestrator.provider.batch_lines import input_line
from orchestrator.stores.provider_batches import ProviderBatch

__all__ = ["FormingBatch", "OpenBatch", "line_size"]

# Lines are sent in pieces of about this size.
_PIECE_BYTES = 64 * 1024
# The provider's count of a text in English is up to a fifth above our estimate.
_TOKEN_MARGIN = 1.25
# The id of an attempt has at most so many digits.
_LONGEST_ID = "9" * 19


def line_size(prepared: Prepared) -> BatchSize:
    """What a request takes of a batch; its attempt has no id yet, so the longest one counts."""
    size = len(input_line(_LONGEST_ID, b"")) + len(prepared.body)
    return BatchSize(lines=1, bytes=size, tokens=round(prepared.tokens * _TOKEN_MARGIN))


class FormingBatch:
    """Requests that will be the lines of one batch.

    Their bodies are in a file without a name, which only this process can read and which ends with it: ten thousand
    of them may be hundreds of megabytes.
    """

    def __init__(self, stage: Stage, model: str, now: float) -> None:
        self.stage = stage
        self.model = model
        self.first_at = now
        self.size = BatchSize()
        self.requests: list[Prepared] = []
        self.closed = False
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed with the batch
        self._ends: list[int] = []

    def add(self, prepared: Prepared, size: BatchSize) -> None:
        """Take in a request; its body and its row are kept in memory no longer."""
        self._file.write(prepared.body)
        self._ends.append((self._ends[-1] if self._ends else 0) + len(prepared.body))
        self.size += size
        prepared.body = b""  # type: ignore[misc]  # no set or dict holds it by value
        prepared.request.row = b""  # type: ignore[misc]
        self.requests.append(prepared)

    def file_size(self, lines: Sequence[tuple[int, int]]) -> int:
        """The bytes of the file with these lines; see ``pieces``."""
        return sum(len(input_line(str(attempt_id), b"")) + self._length(place) for attempt_id, place in lines)

    async def pieces(self, lines: Sequence[tuple[int, int]]) -> AsyncIterator[bytes]:
        """Yields the file with these lines: the attempt of each, and the place of its request in this batch."""
        self._file.flush()
        piece = bytearray()
        for attempt_id, place in lines:
            begin = self._ends[place] - self._length(place)
            body = os.pread(self._file.fileno(), self._length(place), begin)
            piece += input_line(str(attempt_id), body)
            if len(piece) >= _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
        if piece:
            yield bytes(piece)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _length(self, place: int) -> int:
        return self._ends[place] - (self._ends[place - 1] if place else 0)


@dataclass(slots=True, kw_only=True)
class OpenBatch:
    """A batch whose requests are claimed."""

    id: int
    uid: str
    stage: Stage
    model: str
    lines: int
    tokens: int
    made_at: float
    input_file: str | None = None
    uploaded_at: float = 0.0
    batch_id: str | None = None
    status: str | None = None
    asked_at: float | None = None
    submitted_at: float | None = None
    ended_at: float | None = None
    # When orchestrator asked the provider to cancel it.
    cancelled_at: float | None = None
    # How many polls or readings in a row brought nothing, and when the first 404 came.
    misses: int = 0
    missing_since: float | None = None

    @classmethod
    def stored(cls, batch: ProviderBatch, stage: Stage) -> OpenBatch:
        """A batch that an earlier process left."""
        return cls(
            id=batch.id,
            uid=batch.uid,
            stage=stage,
            model=batch.model,
            lines=batch.lines,
            tokens=batch.tokens,
            made_at=batch.made_at,
            input_file=batch.input_file,
            batch_id=batch.batch_id,
            status=batch.status,
            asked_at=batch.asked_at,
            submitted_at=batch.submitted_at,
            ended_at=batch.ended_at,
        )
