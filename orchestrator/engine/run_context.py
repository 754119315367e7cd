"""What every step and task of a run needs: where the run is written down, how far it is, and the time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

from orchestrator.core.clock import Clock
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.engine.observation import Observation
from orchestrator.engine.run_endpoints import RunEndpoints
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.stages import Stages
from orchestrator.stores.base import (
    CostReader,
    DuplicateReader,
    HistoryReader,
    LearnedReader,
    PendingReader,
    RecoveryReader,
    RunReader,
    Store,
)
from orchestrator.stores.pipeline_rows import StageReader
from orchestrator.stores.provider_batches import ProviderBatchReader
from orchestrator.stores.reads import Run
from orchestrator.stores.stream_events import StreamEventReader
from orchestrator.stores.uploaded_files import UploadReader

__all__ = ["EngineReader", "RunContext"]


class EngineReader(
    RunReader,
    PendingReader,
    DuplicateReader,
    HistoryReader,
    RecoveryReader,
    CostReader,
    LearnedReader,
    UploadReader,
    StreamEventReader,
    StageReader,
    ProviderBatchReader,
    Protocol,
):
    """What carrying out a run reads; results, histories and retention are read by others."""


@fast_dataclass
class RunContext:
    """One run: its record, stages, endpoints, store and live status, and the clock and the chance it runs by."""

    record: Run
    stages: Stages
    endpoints: RunEndpoints
    # The places of the endpoints by their names; None is the only one.
    places: Mapping[str | None, int] = field(default_factory=lambda: {None: 0})
    store: Store
    reader: EngineReader
    status: RunStatus
    observation: Observation
    clock: Clock
    rng: random.Random

    def in_flight_at(self, endpoint: int) -> int:
        """How many requests are being sent to an endpoint, are open there, or have tools running."""
        status, here = self.status, self.endpoints[endpoint]
        open_ = here.polling + len(status.poll_queue.of(endpoint))
        return here.sending + open_ + status.running_tools + status.batches
