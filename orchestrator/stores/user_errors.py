"""The errors of every driver that speak of commands: one wording, whichever database it is."""

from __future__ import annotations

from orchestrator.core.errors import RunBusy, StoreError

__all__ = [
    "NAME_ANOTHER",
    "RUN_A_JOB",
    "dataset_locked",
    "empty_database",
    "name_taken",
    "no_database",
    "run_locked",
    "shard_locked",
]

# Parts of hints.
NAME_ANOTHER = "name another file with --db FILE"
RUN_A_JOB = "orchestrator run JOB"


def run_locked(name: str, *, holder: str) -> RunBusy:
    """The run's lock is held: ``holder`` is "this process" or "another process", with its id if known."""
    return RunBusy(f"run {name!r} is locked by {holder}", hint=f"see its progress: orchestrator status {name}")


def shard_locked(name: str) -> RunBusy:
    """Workers hold shards of the run, or a process that works on it alone holds all of them."""
    return RunBusy(
        f"run {name!r} is locked by processes that hold shards of it",
        hint=f"see its progress: orchestrator status {name}",
    )


def dataset_locked(name: str, *, holder: str) -> RunBusy:
    """Another run adds to the dataset."""
    return RunBusy(f"dataset {name!r} is locked by {holder}", hint="run the same command again when it has ended")


def name_taken(name: str) -> RunBusy:
    """Two processes created a run of one name at the same time, and the other one was first."""
    return RunBusy(
        f"another process has just created a run named {name!r}",
        hint="run the same command again to resume it, or give another name with --run NAME",
    )


def no_database(address: str) -> StoreError:
    """A command that only reads names a database that does not exist."""
    return StoreError("there is no such database", where=address, hint="name the right one with --db FILE")


def empty_database(address: str) -> StoreError:
    """The database exists and no run was ever made in it."""
    return StoreError("the database is empty", where=address, hint=f"start a run with: {RUN_A_JOB}")
