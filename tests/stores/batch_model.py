"""Batches in the reference model of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from orchestrator.core.states import Event, State
from orchestrator.stores.provider_batches import BatchNote, Claimed, NewProviderBatch, ProviderBatch
from orchestrator.stores.reads import OpenAttempt
from orchestrator.stores.writes import Claim

__all__ = ["BatchModel"]


class BatchModel:
    """For a model with requests, attempts and a verb ``claim``."""

    _requests: Any
    claim: Any
    _attempts: Any
    _open: Any

    @property
    def _batches(self) -> dict[int, dict[str, Any]]:
        return self.__dict__.setdefault("_stored_batches", {})  # type: ignore[no-any-return]

    async def claim_batch(self, batch: NewProviderBatch, claims: Sequence[Claim]) -> tuple[int | None, list[Claimed]]:
        claimed = [await self.claim(each) for each in claims]
        lines = [each for each in claimed if isinstance(each, int)]
        if not lines:
            return None, claimed
        number = len(self._batches) + 1
        self._batches[number] = {"id": number, "lines": len(lines), **asdict(batch)}
        for attempt_id in lines:
            self._attempts[attempt_id].batch = number
        return number, claimed

    async def note_batch(self, batch: int, note: BatchNote) -> None:
        self._batches[batch].update({name: value for name, value in asdict(note).items() if value is not None})

    async def attach_batch(self, batch: int, batch_id: str, status: str, at: float) -> int:
        if self._batches[batch].get("batch_id") is None:
            self._batches[batch].update(batch_id=batch_id, status=status, submitted_at=at)
        lines = [each for each in self._lines(batch) if each.request.state is State.SUBMITTING]
        for attempt in lines:
            attempt.request.move(Event.ACCEPT, code=None, message=None)
            attempt.request.run.happened(at)
            attempt.accepted_at = at
        return len(lines)

    def _lines(self, batch: int) -> list[Any]:
        in_flight = (State.SUBMITTING, State.SUBMITTED)
        latest = [request.latest for request in self._requests.values() if request.state in in_flight]
        return [attempt for attempt in latest if attempt.batch == batch]

    async def batches(self, run_id: int, *, unfinished: bool) -> list[ProviderBatch]:
        return [
            ProviderBatch(**{name: value for name, value in each.items() if name != "file_deleted_at"})
            for each in self._batches.values()
            if each["run_id"] == run_id and not (unfinished and _is_over(each))
        ]

    async def open_lines(
        self, batch: int, *, attempt_ids: Sequence[int] | None = None, limit: int
    ) -> list[OpenAttempt]:
        lines = sorted(self._lines(batch), key=lambda each: each.id)
        wanted = [each for each in lines if attempt_ids is None or each.id in attempt_ids]
        return [replace(self._open(each.request, each, repairs=0)) for each in wanted[:limit]]

    async def line_attempts(self, batch: int, numbers: Sequence[int]) -> dict[int, int]:
        ids = sorted(each.id for each in self._attempts.values() if each.batch == batch)
        return {number: ids[number - 1] for number in numbers if 0 < number <= len(ids)}

    async def reserved_for_batch(self, batch: int) -> int:
        return sum(each.worst_case_pusd or 0 for each in self._lines(batch))


def _is_over(batch: dict[str, Any]) -> bool:
    has_file = batch.get("input_file") is not None and batch.get("file_deleted_at") is None
    return batch.get("collected_at") is not None and not has_file
