"""From ``--db`` and ``--config`` to an open orchestrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.app import Orchestrator

__all__ = ["opened"]


@asynccontextmanager
async def opened(db: Path | None, config: Path | None) -> AsyncIterator[Orchestrator]:
    """The orchestrator that the options describe; what it does not need it does not open."""
    from orchestrator.app import Orchestrator
    from orchestrator.config import load_config

    async with Orchestrator(load_config(config), database=db) as orchestrator:
        yield orchestrator
