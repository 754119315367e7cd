"""Compares the rows of a run with its dataset, and lets only those be planned that must be asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from anyio import to_thread

from orchestrator.core.clock import Clock
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.increments import ASKED, Change, Changes, ComparedRow, DatasetEntry, NotedChange
from orchestrator.core.model import NewRequest
from orchestrator.engine.items import Halted
from orchestrator.policy.increments import IncrementRules, change_of, shrank_too_much
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.datasets import Dataset, DatasetReader, KeptRequest

__all__ = ["Compared", "Night", "NightRules", "Reading", "RowComparer"]

_ENTRIES_AT_ONCE = 10_000
_REMOVED_AT_ONCE = 5_000


@fast_dataclass
class NightRules:
    """What a run does with rows whose request changed, and with rows that are gone.

    ``is_complete`` says that the run reads its whole input; with a limit, a row that is not read is not gone.
    ``reuse_max_age_s`` is how old an answer to the same request may be to be taken for a row that is asked; None if
    it may not be taken at all.
    """

    changed_request: Literal["stop", "ask", "keep"]
    removed: Literal["keep", "mark", "drop"]
    removed_at_most: float
    is_complete: bool
    reads_once: bool
    reuse_max_age_s: float | None

    @property
    def finds_removed(self) -> bool:
        """Whether rows that are missing from the input are looked for."""
        return self.is_complete and self.removed != "keep"


@fast_dataclass(kw_only=False)
class Compared:
    """A row, its entry in the dataset if it has one, and how they compare."""

    request: NewRequest
    entry: DatasetEntry | None
    row: ComparedRow
    change: Change

    @property
    def restored_entry(self) -> int | None:
        """The entry's id, if it was removed from the dataset and its row is in the input again."""
        entry = self.entry
        return entry.id if entry is not None and entry.removed and self.change is not Change.SUPERSEDED else None

    @property
    def new_hashes(self) -> KeptRequest | None:
        """The entry's new hashes, if they differ from those it has."""
        entry, row = self.entry, self.row
        if entry is None or self.change is Change.SUPERSEDED:
            return None
        if (entry.row.row_hash, entry.row.stage_hash) == (row.row_hash, row.stage_hash):
            return None
        return KeptRequest(entry_id=entry.id, row_hash=row.row_hash, stage_hash=row.stage_hash)


class RowComparer:
    """Compares rows with entries. ``request_hash`` makes the request of a row; it may read the files that it names.

    Where rows name files, the same row may ask something else, so its request is always compared.
    """

    def __init__(
        self,
        *,
        stage_hash: bytes,
        request_hash: Callable[[NewRequest], bytes | None],
        names_files: bool,
        rules: IncrementRules,
        clock: Clock,
    ) -> None:
        self.stage_hash = stage_hash
        self._request_hash = request_hash
        self._names_files = names_files
        self._rules = rules
        self._clock = clock

    def compare(self, rows: Sequence[NewRequest], entries: Mapping[str, DatasetEntry]) -> list[Compared]:
        """Each row with its entry, in their order; raises ``BadRow`` if one cannot be rendered."""
        return [self._compare(row, entries.get(row.key)) for row in rows]

    def _compare(self, request: NewRequest, entry: DatasetEntry | None) -> Compared:
        row = ComparedRow(row_hash=_digest(request.row), stage_hash=self.stage_hash)
        same_row = entry is not None and entry.row.row_hash == row.row_hash and not self._names_files
        made: list[bytes | None] = []

        def same_request() -> bool:
            made.append(self._request_hash(request))
            return entry is not None and made[0] is not None and made[0] == entry.row.request_hash

        change = change_of(
            entry,
            same_row=same_row,
            same_stage=entry is not None and entry.row.stage_hash == self.stage_hash,
            same_request=same_request,
            rules=self._rules,
            now=self._clock.now(),
        )
        if change in ASKED and not made:
            made.append(self._request_hash(request))
        return Compared(request, entry, replace(row, request_hash=made[0]) if made else row, change)


class Reading:
    """One reading of the input, from its first row: how its rows compare with the dataset, and which are missing."""

    def __init__(self, dataset: Dataset, comparer: RowComparer, reader: DatasetReader) -> None:
        self._dataset = dataset
        self._comparer = comparer
        self._reader = reader
        self._seen = _Seen(dataset.last_entry_id)
        self.changes = Changes()

    async def compare(self, rows: Sequence[NewRequest]) -> tuple[list[Compared], list[NewRequest]]:
        """The rows of a batch with their entries, and apart from them those whose key an earlier row has."""
        entries = await self._reader.entries(self._dataset.id, [row.key for row in rows])
        once: list[Compared] = []
        repeated: list[NewRequest] = []
        for each in await to_thread.run_sync(self._comparer.compare, rows, entries):
            if self._seen.add(each.entry):
                once.append(each)
            else:
                repeated.append(each.request)
        self.changes.update(each.change for each in once)
        return once, repeated

    async def missing(self) -> list[int]:
        """The ids of the entries that no row of the input has."""
        missing: list[int] = []
        after_id = 0
        while page := await self._reader.entries_after(self._dataset.id, after_id, limit=_ENTRIES_AT_ONCE):
            missing += [entry_id for entry_id in page if entry_id not in self._seen]
            after_id = page[-1]
        return missing


class Night:
    """One run of a job with increments.

    Its input is read from the beginning by every process that resumes it: comparing costs no money, and what was
    planned before is found in the run.
    """

    def __init__(
        self, run_id: int, dataset: Dataset, comparer: RowComparer, rules: NightRules, *, store: Store, reader: Reader
    ) -> None:
        self._run_id = run_id
        self._dataset = dataset
        self._comparer = comparer
        self._rules = rules
        self._store = store
        self._reader = reader
        self._wanted = self.passes[0]
        self._reading = Reading(dataset, comparer, reader)

    @property
    def has_entries(self) -> bool:
        """Whether there is anything to compare with."""
        return self._dataset.rows > 0

    @property
    def reuse_max_age_s(self) -> float | None:
        """How old an answer may be to be taken for a row that is asked."""
        return self._rules.reuse_max_age_s

    @property
    def passes(self) -> list[frozenset[Change]]:
        """What each reading of the input plans.

        If all rows are asked again, those that changed come first: a budget may end the run before the others.
        """
        if self._rules.changed_request != "ask":
            return [ASKED - {Change.REQUEST_CHANGED}]
        if self._rules.reads_once:
            return [ASKED]
        others = {Change.NEW, Change.REQUEST_CHANGED}
        return [ASKED - others, frozenset({Change.NEW}), frozenset({Change.REQUEST_CHANGED})]

    @property
    def is_first_pass(self) -> bool:
        """Whether this is the first reading of the input; what is skipped is recorded then."""
        return self._wanted == self.passes[0]

    def begin_pass(self, wanted: frozenset[Change]) -> None:
        """Begin to read the input from its first row."""
        self._wanted = wanted
        self._reading = Reading(self._dataset, self._comparer, self._reader)

    async def choose(self, rows: Sequence[NewRequest]) -> tuple[list[NewRequest], list[NewRequest]]:
        """Compare a batch of rows; returns those that this pass plans, and those whose key an earlier row has."""
        once, repeated = await self._reading.compare(rows)
        await self._keep([each for each in once if each.change not in ASKED or self._keeps(each.change)])
        return await self._ask([each for each in once if each.change in self._wanted]), repeated

    def _keeps(self, change: Change) -> bool:
        return change is Change.REQUEST_CHANGED and self._rules.changed_request == "keep"

    async def _keep(self, compared: Sequence[Compared]) -> None:
        """Bring the entries up to date whose answers hold, although their rows or requests are written otherwise."""
        kept = [each.new_hashes for each in compared if each.new_hashes is not None]
        restored = [entry_id for each in compared if (entry_id := each.restored_entry) is not None]
        if kept:
            await self._store.keep_requests(kept)
        if restored:
            await self._store.restore_entries(restored)

    async def _ask(self, compared: Sequence[Compared]) -> list[NewRequest]:
        """Record why rows are asked; returns those that the run does not have yet."""
        if not compared:
            return []
        planned = await self._reader.planned_keys(self._run_id, [each.request.key for each in compared])
        asked = [each for each in compared if each.request.key not in planned]
        noted = [NotedChange(key=each.request.key, change=each.change, row=each.row) for each in asked]
        await self._store.note_changes(self._run_id, noted)
        return [each.request for each in asked]

    async def end_reading(self, *, complete: bool) -> Halted | None:
        """Note which rows are gone, and what changed in all; returns why nothing may be sent, or None.

        ``complete`` says that every row of the input could be read.
        """
        changes = self._reading.changes
        if complete and self._rules.finds_removed:
            gone = await self._reading.missing()
            if shrank_too_much(len(gone), self._dataset.rows, self._rules.removed_at_most):
                return _input_shrank(len(gone), self._dataset.rows, self._rules.removed_at_most)
            for first in range(0, len(gone), _REMOVED_AT_ONCE):
                await self._store.note_removed(self._run_id, gone[first : first + _REMOVED_AT_ONCE])
            changes[Change.REMOVED] = len(gone)
        await self._store.count_changes(self._run_id, changes)
        return None

    async def finish(self, *, finished: bool, now: float) -> None:
        """Take the run's answers over into the dataset; if it finished, remove the rows that are gone."""
        await self._store.gather(self._run_id)
        if finished:
            await self._store.remove_noted(self._run_id, drop=self._rules.removed == "drop", at=now)


class _Seen:
    """Which entries had a row in the input: a bit for each, because a million ids in a set are 60 MB."""

    def __init__(self, last_id: int) -> None:
        self._bits = bytearray(last_id // 8 + 1)

    def add(self, entry: DatasetEntry | None) -> bool:
        """Mark an entry; False if it was marked already. A row without an entry is always new."""
        if entry is None:
            return True
        if entry.id in self:
            return False
        self._bits[entry.id >> 3] |= 1 << (entry.id & 7)
        return True

    def __contains__(self, entry_id: int) -> bool:
        place = entry_id >> 3
        return place < len(self._bits) and bool(self._bits[place] & (1 << (entry_id & 7)))


def _input_shrank(gone: int, rows: int, at_most: float) -> Halted:
    return Halted(
        "input_shrank",
        f"{gone:,} of the {rows:,} rows of the dataset are missing from the input, more than"
        f" increments.removed_at_most ({at_most:.0%}) allows; nothing was sent. If they are gone for good, run it"
        " once with --set increments.removed_at_most=100%",
        collect=True,
    )


def _digest(packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=16).digest()
