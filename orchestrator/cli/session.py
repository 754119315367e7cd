"""From ``--db`` and ``--config`` to an open orchestrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.config import Config

__all__ = ["opened"]


@asynccontextmanager
async def opened(db: Path | None, config: Path | None) -> AsyncIterator[Orchestrator]:
    """The orchestrator that the options describe; what it does not need it does not open."""
    from orchestrator.app.api import Orchestrator

    # Reading a config takes longer than most answers; without one, it is read when something needs it.
    async with Orchestrator(_read(config) if config else None, database=db) as orchestrator:
        yield orchestrator


def _read(path: Path) -> Config:
    from orchestrator.config import load_config

    return load_config(path)
