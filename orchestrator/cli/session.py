"""From ``--db`` and ``--config`` to an open orchestrator.

The order of precedence: an option, a variable of the environment, a config that is found, the default.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.core.fast_dataclass import fast_dataclass

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.config import Config

__all__ = ["Places", "find_places", "opened", "read_config"]

CONFIG_VARIABLE = "ORCHESTRATOR_CONFIG"
DATABASE_VARIABLE = "ORCHESTRATOR_DB"
CONFIG_NAME = "orchestrator.yaml"
# A config that needs no file.
SANDBOX = Path("sandbox")


@fast_dataclass(kw_only=False)
class Places:
    """Which config and which database a command uses; None where nothing names one.

    ``beside`` is the folder of a config that was found rather than named: its database is there, too.
    """

    config: Path | None
    database: str | None
    beside: Path | None


def find_places(db: str | None, config: Path | None, environ: Mapping[str, str], folder: Path) -> Places:
    """The places that options, environment and folder name; empty variables count as unset."""
    database = db if db is not None else environ.get(DATABASE_VARIABLE) or None
    named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        return Places(named, database, None)
    found = next(_configs_above(folder), None)
    return Places(found, database, found.parent if found else None)


def read_config(places: Places, *, sandbox: bool = False) -> tuple[Config, str | None]:
    """The config and the database, if one is named; with ``sandbox`` the provider is the embedded sandbox."""
    from orchestrator.config import load_config, rehearsal, sandbox_config

    built_in = places.config == SANDBOX and not SANDBOX.exists()
    if built_in or (sandbox and places.config is None):
        return sandbox_config(), places.database
    config = load_config(places.config)
    database = places.database
    if database is None and places.beside is not None:
        named = config.database
        database = named if isinstance(named, str) else str(_seen_from_here(places.beside / named))
    return rehearsal(config) if sandbox else config, database


@asynccontextmanager
async def opened(
    db: str | None, config: Path | None, *, sandbox: bool = False, writes: bool = False
) -> AsyncIterator[Orchestrator]:
    """The orchestrator that the options describe; what it does not need it does not open.

    A command that ``writes`` upgrades a database of an older version first.
    """
    from orchestrator.app.api import Orchestrator

    places = find_places(db, config, os.environ, Path.cwd())
    if places.config is None and not sandbox:
        # Reading a config takes longer than most answers; without one, it is read when something needs it.
        settings, database = None, places.database
    else:
        settings, database = read_config(places, sandbox=sandbox)
    async with Orchestrator(settings, database=database) as orchestrator:
        if writes:
            await orchestrator.upgrade()
        yield orchestrator


def _configs_above(folder: Path) -> Iterator[Path]:
    for each in (folder, *folder.parents):
        path = each / CONFIG_NAME
        if path.is_file() and path.stat().st_uid in _trusted_owners():
            yield path


def _trusted_owners() -> set[int]:
    """This user and root: a file of another user, such as one in /tmp, could send the key elsewhere."""
    return {os.getuid(), 0}


def _seen_from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
