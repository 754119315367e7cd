"""What every step and task of a run needs: where the run is written down, how far it is, and the time."""

from __future__ import annotations

import random
from dataclasses import dataclass

from orchestrator.core.clock import Clock
from orchestrator.engine.observation import Observation
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.stages import Stages
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Run

__all__ = ["RunContext"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """One run: its record, its stages, its store, its live status, and the clock and the chance it runs by."""

    record: Run
    stages: Stages
    store: Store
    reader: Reader
    status: RunStatus
    observation: Observation
    clock: Clock
    rng: random.Random
