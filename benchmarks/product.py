"""The product as users run it: commands in a folder with a job, a config and a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.latency import Latency
from benchmarks.processes import Cost, measure, python
from benchmarks.serving import responder
from benchmarks.workload import Workload

__all__ = ["command", "database_bytes", "run_command", "scratch", "start_up"]

# On a real disk: if temporary files live in memory, a durable commit costs nothing.
_HOME = Path("results/benchmarks")


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one measurement, removed afterwards."""
    _HOME.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=_HOME) as folder:
        yield Path(folder)


def command(folder: Path, *arguments: str) -> list[str]:
    """A command of the product on the folder's database."""
    return python("-m", "orchestrator", *arguments, "--db", folder / "runs.db")


def run_command(folder: Path, name: str = "measured") -> list[str]:
    """The command that runs the folder's job, or resumes its run of that name."""
    files = (str(folder / "job.yaml"), "--config", str(folder / "config.yaml"))
    return command(folder, "run", *files, "--run", name, "--json", "--progress", "none")


def database_bytes(folder: Path) -> int:
    """The size of the database with its WAL and other files beside it."""
    return sum(file.stat().st_size for file in folder.glob("runs.db*"))


def start_up(*, stages: bool = False) -> Cost:
    """The cost of a run of one row: nearly all of it is start and end, which is subtracted from longer runs."""
    with scratch() as folder, responder(Latency(0.05)) as server:
        Workload(rows=1, stages=stages).write(folder, server.base_url)
        return measure(run_command(folder))
