"""What the calls that create responses work on."""

from __future__ import annotations

from orchestrator.core.clock import Clock
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.sandbox.faults.fault_plan import FaultPlan
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.simulation.event_endpoints import WebhookEndpoints
from orchestrator.sandbox.simulation.history import History
from orchestrator.sandbox.simulation.models import Catalogue
from orchestrator.sandbox.storage.response_store import ResponseStore
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["CallContext"]


@fast_dataclass
class CallContext:
    """The settings, the stored state and what is derived from them."""

    settings: SandboxSettings
    state: SandboxDatabase
    responses: ResponseStore
    history: History
    fault_plan: FaultPlan
    catalogue: Catalogue
    clock: Clock
    webhooks: WebhookEndpoints
