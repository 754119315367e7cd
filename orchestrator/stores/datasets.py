"""Datasets: for each key the answer that holds, whichever run received it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import field
from typing import Protocol

from orchestrator.core.errors import RunNotFound
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.increments import Changes, DatasetEntry, NotedChange
from orchestrator.stores.reads import ResultRecord

__all__ = ["Dataset", "DatasetReader", "DatasetStore", "KeptRequest", "NightRecord", "find_dataset"]


@fast_dataclass
class Dataset:
    """A dataset. ``last_entry_id`` bounds the ids of its entries; ``rows`` are those that are not removed."""

    id: int
    name: str
    simulated: bool
    rows: int
    last_entry_id: int


@fast_dataclass
class NightRecord:
    """A run that adds to a dataset, and what it found changed; ``changes`` is empty until its input was read.

    ``is_closed`` says that all its answers are in the dataset, and that no more of them come.
    """

    run_id: int
    dataset_id: int
    is_closed: bool = False
    changes: Changes = field(default_factory=Changes)


@fast_dataclass
class KeptRequest:
    """New hashes for an entry whose answer is kept, so that the next run finds it unchanged at once."""

    entry_id: int
    row_hash: bytes
    stage_hash: bytes


class DatasetStore(Protocol):
    """The verbs of a store for datasets; each returns when what it wrote is durable."""

    async def open_dataset(self, name: str, *, simulated: bool) -> int:
        """The id of a dataset, created if absent."""
        ...

    async def begin_night(self, run_id: int, dataset_id: int, *, as_of: int = 0) -> None:
        """Record that a run adds to a dataset, and the day of its rows; may be repeated."""
        ...

    async def note_changes(self, run_id: int, changes: Sequence[NotedChange]) -> None:
        """Record why rows are asked, before they are planned; a repeated key replaces what was noted."""
        ...

    async def keep_requests(self, kept: Sequence[KeptRequest]) -> None:
        """Bring the hashes of entries up to date whose answers are kept."""
        ...

    async def count_changes(self, run_id: int, changes: Changes) -> None:
        """Record what a run found changed, once its input was read."""
        ...

    async def gather(self, run_id: int) -> None:
        """Take over into the dataset what the settled requests of a run say; may be repeated at any time.

        An answer replaces an older one. A row that failed loses its answer if it changed, and counts a night on which
        it failed. What a later day says is never replaced by an earlier one; on one day, the later run counts.
        """
        ...

    async def close_night(self, run_id: int) -> None:
        """Record that all answers of a run are in the dataset."""
        ...

    async def note_removed(self, run_id: int, entry_ids: Sequence[int]) -> None:
        """Record which entries are missing from the input of a run; may be repeated."""
        ...

    async def remove_noted(self, run_id: int, *, drop: bool, at: float) -> None:
        """Mark as removed what a run noted, or drop it; does nothing if a run of a later day adds to the dataset."""
        ...

    async def restore_entries(self, entry_ids: Sequence[int]) -> None:
        """Take back that entries were removed: their rows are in the input again."""
        ...


class DatasetReader(Protocol):
    """What comparing rows, and exporting a dataset, read."""

    async def dataset(self, name: str, *, simulated: bool) -> Dataset | None: ...

    async def datasets(self) -> list[Dataset]:
        """Every dataset, by name."""
        ...

    async def entries(self, dataset_id: int, keys: Sequence[str]) -> dict[str, DatasetEntry]:
        """The entries of keys, removed ones included."""
        ...

    async def other_stages(self, dataset_id: int, stage_hash: bytes) -> int:
        """How many entries with an answer were made by another stage hash."""
        ...

    async def entries_after(self, dataset_id: int, after_id: int, *, limit: int) -> list[int]:
        """Ids of entries that are not removed, in order, from after ``after_id``."""
        ...

    async def planned_keys(self, run_id: int, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are in a run."""
        ...

    async def night(self, run_id: int) -> NightRecord | None: ...

    async def nights(self, dataset_id: int) -> list[NightRecord]:
        """The runs that added to a dataset, the newest first."""
        ...

    def dataset_results(self, dataset_id: int) -> AsyncIterator[ResultRecord]:
        """The latest request of each row that is not removed, in constant memory."""
        ...

    async def noted_changes(self, run_id: int) -> dict[str, str]:
        """Why each row of a run was asked, and which rows it removed, by key."""
        ...


async def find_dataset(reader: DatasetReader, name: str, *, simulated: bool | None = None) -> Dataset:
    """The dataset of a name; one made with real money comes before one made at the sandbox.

    Raises ``RunNotFound`` if there is none.
    """
    known = await reader.datasets()
    found = [each for each in known if each.name == name and simulated in (None, each.simulated)]
    if not found:
        names = ", ".join(sorted({each.name for each in known})) or "none"
        raise RunNotFound(f"there is no dataset named {name!r}", hint=f"the datasets of this database: {names}")
    return min(found, key=lambda each: each.simulated)
