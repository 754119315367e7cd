"""The files that no output may replace: what a run reads, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.report.output_file import ProtectedFile

if TYPE_CHECKING:
    from orchestrator.config import Config
    from orchestrator.job.spec import Job

__all__ = ["protected_files"]

_OF_SQLITE = ("", "-wal", "-shm", "-journal")
_BESIDE_DATABASE = (
    *_OF_SQLITE,
    ".lock",
    *(f".sandbox{suffix}" for suffix in (*_OF_SQLITE, ".address")),
)


def protected_files(database: Path | None, *, config: Config | None, job: Job | None) -> list[ProtectedFile]:
    """The database with its companions, the config with its prices, and the job with its input, as far as given."""
    return [*_of_database(database), *_of_config(config), *_of_job(job)]


def _of_database(database: Path | None) -> Iterator[ProtectedFile]:
    if database is None:
        return
    # The lock is beside the file itself, the rest beside the name that was given.
    for path in dict.fromkeys((database, database.resolve())):
        for suffix in _BESIDE_DATABASE:
            what = "the database" if not suffix else "a file of the database"
            yield ProtectedFile(path.with_name(path.name + suffix), what)


def _of_config(config: Config | None) -> Iterator[ProtectedFile]:
    if config is None:
        return
    if config.source is not None:
        yield ProtectedFile(config.source, "the config")
    if config.price_path is not None:
        yield ProtectedFile(config.price_path, "the price file")


def _of_job(job: Job | None) -> Iterator[ProtectedFile]:
    if job is None:
        return
    from orchestrator.core.errors import SpecError
    from orchestrator.job.rows.sources import STDIN, find_sources

    if job.source is not None:
        yield ProtectedFile(job.source, "the job file")
    try:
        sources = find_sources(job.input.path, job.base_dir, job.input.earlier_paths)
    except SpecError:
        # An input that is gone needs no protection.
        return
    yield from (ProtectedFile(source.path, "an input file") for source in sources if source.relative != STDIN)
