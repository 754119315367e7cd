"""The reference model of datasets: what each verb does to plain objects in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.core.increments import Change, Changes, ComparedRow, DatasetEntry, NotedChange
from orchestrator.core.states import State
from orchestrator.stores.datasets import Dataset, KeptRequest, NightRecord
from orchestrator.stores.reads import ResultRecord

__all__ = ["DatasetModel"]


@dataclass(eq=False, kw_only=True)
class _Held:
    entry: DatasetEntry
    dataset_id: int
    request_id: int


@dataclass(eq=False, kw_only=True)
class _Night:
    dataset_id: int
    as_of: int = 0
    is_closed: bool = False
    changes: Changes | None = None


class DatasetModel:
    """The half of the model that holds datasets; the other half holds the requests."""

    def __init__(self, requests_of: Callable[[int], Sequence[Any]], result: Callable[[Any], ResultRecord]) -> None:
        self._requests_of = requests_of
        self._result = result
        self._datasets: dict[tuple[str, bool], int] = {}
        self._nights: dict[int, _Night] = {}
        self._held: dict[tuple[int, str], _Held] = {}
        self._noted: dict[tuple[int, str], tuple[str, ComparedRow | None]] = {}
        self._last_entry = 0

    # ── verbs ─────────────────────────────────────────────────────────────────────────────────────────────

    async def open_dataset(self, name: str, *, simulated: bool) -> int:
        return self._datasets.setdefault((name, simulated), len(self._datasets) + 1)

    async def begin_night(self, run_id: int, dataset_id: int, *, as_of: int = 0) -> None:
        self._nights.setdefault(run_id, _Night(dataset_id=dataset_id, as_of=as_of))

    async def note_changes(self, run_id: int, changes: Sequence[NotedChange]) -> None:
        for each in changes:
            self._noted[run_id, each.key] = (each.change.value, each.row)

    async def keep_requests(self, kept: Sequence[KeptRequest]) -> None:
        for held in self._held.values():
            for each in kept:
                if held.entry.id == each.entry_id:
                    row = replace(held.entry.row, row_hash=each.row_hash, stage_hash=each.stage_hash)
                    held.entry = replace(held.entry, row=row)

    async def count_changes(self, run_id: int, changes: Changes) -> None:
        self._nights[run_id].changes = changes

    async def gather(self, run_id: int) -> None:
        night = self._nights[run_id]
        for request in self._requests_of(run_id):
            _, row = self._noted.get((run_id, request.key), ("", None))
            if row is not None and request.state in (State.SUCCEEDED, State.FAILED):
                self._gather_one(night, request, row)

    def _gather_one(self, night: _Night, request: Any, row: ComparedRow) -> None:
        dataset_id = night.dataset_id
        answered_at = request.settled_at if request.state is State.SUCCEEDED else None
        held = self._held.get((dataset_id, request.key))
        if held is None:
            self._last_entry += 1
            entry = DatasetEntry(
                id=self._last_entry,
                key=request.key,
                row=row,
                answered_at=answered_at,
                failed_nights=int(answered_at is None),
                as_of=night.as_of,
            )
            self._held[dataset_id, request.key] = _Held(entry=entry, dataset_id=dataset_id, request_id=request.id)
            return
        if (night.as_of, request.id) < (held.entry.as_of, held.request_id):
            return
        old, same = held.entry, request.id == held.request_id
        failed = 0 if answered_at is not None else old.failed_nights
        if answered_at is None and not same:
            equal = (old.row.row_hash, old.row.stage_hash) == (row.row_hash, row.stage_hash)
            failed = old.failed_nights + 1 if equal else 1
        if same and old.answered_at == answered_at:
            return
        held.request_id = request.id
        held.entry = replace(
            old,
            row=row,
            answered_at=answered_at,
            failed_nights=failed,
            removed=old.removed if same else False,
            as_of=night.as_of,
        )

    async def close_night(self, run_id: int) -> None:
        self._nights[run_id].is_closed = True

    async def note_removed(self, run_id: int, entry_ids: Sequence[int]) -> None:
        for held in self._held.values():
            if held.entry.id in entry_ids:
                self._noted.setdefault((run_id, held.entry.key), (Change.REMOVED.value, None))

    async def remove_noted(self, run_id: int, *, drop: bool, at: float) -> None:  # noqa: ARG002
        dataset_id = self._nights[run_id].dataset_id
        of_dataset = {each: night.as_of for each, night in self._nights.items() if night.dataset_id == dataset_id}
        if run_id != max(of_dataset, key=lambda each: (of_dataset[each], each)):
            return
        for (run, key), (change, _) in self._noted.items():
            held = self._held.get((dataset_id, key))
            if run == run_id and change == Change.REMOVED.value and held is not None:
                held.entry = replace(held.entry, removed=True)
                if drop:
                    del self._held[dataset_id, key]

    async def restore_entries(self, entry_ids: Sequence[int]) -> None:
        for held in self._held.values():
            if held.entry.id in entry_ids:
                held.entry = replace(held.entry, removed=False)

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────

    async def dataset(self, name: str, *, simulated: bool) -> Dataset | None:
        found = [each for each in await self.datasets() if (each.name, each.simulated) == (name, simulated)]
        return found[0] if found else None

    async def datasets(self) -> list[Dataset]:
        return [
            Dataset(
                id=dataset_id,
                name=name,
                simulated=simulated,
                rows=len(self._live(dataset_id)),
                last_entry_id=max((held.entry.id for held in self._held.values()), default=0),
            )
            for (name, simulated), dataset_id in sorted(self._datasets.items())
        ]

    async def entries(self, dataset_id: int, keys: Sequence[str]) -> dict[str, DatasetEntry]:
        return {key: self._held[dataset_id, key].entry for key in keys if (dataset_id, key) in self._held}

    async def other_stages(self, dataset_id: int, stage_hash: bytes) -> int:
        live = (held.entry for held in self._live(dataset_id))
        return sum(each.row.stage_hash != stage_hash and each.answered_at is not None for each in live)

    async def entries_after(self, dataset_id: int, after_id: int, *, limit: int) -> list[int]:
        return [each for held in self._live(dataset_id) if (each := held.entry.id) > after_id][:limit]

    async def planned_keys(self, run_id: int, keys: Sequence[str]) -> set[str]:
        return {request.key for request in self._requests_of(run_id)} & set(keys)

    async def night(self, run_id: int) -> NightRecord | None:
        found = self._nights.get(run_id)
        if found is None:
            return None
        return NightRecord(
            run_id=run_id, dataset_id=found.dataset_id, is_closed=found.is_closed, changes=found.changes or Changes()
        )

    async def nights(self, dataset_id: int) -> list[NightRecord]:
        found = [await self.night(run_id) for run_id in sorted(self._nights, reverse=True)]
        return [night for night in found if night is not None and night.dataset_id == dataset_id]

    async def noted_changes(self, run_id: int) -> dict[str, str]:
        return {key: change for (run, key), (change, _) in sorted(self._noted.items()) if run == run_id}

    async def dataset_results(self, dataset_id: int) -> AsyncIterator[ResultRecord]:
        requests = {request.id: request for run in self._nights for request in self._requests_of(run)}
        for held in self._live(dataset_id):
            yield self._result(requests[held.request_id])

    def _live(self, dataset_id: int) -> list[_Held]:
        live = [held for held in self._held.values() if held.dataset_id == dataset_id and not held.entry.removed]
        return sorted(live, key=lambda held: held.entry.id)
