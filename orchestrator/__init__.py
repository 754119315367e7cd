"""Runs large numbers of LLM requests through the OpenAI Responses API in background mode.

>>> from orchestrator import Orchestrator, load_config, load_job
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.app import Orchestrator
    from orchestrator.config import Config, load_config
    from orchestrator.core.errors import OrchestratorError
    from orchestrator.core.lifecycle import RunState, State
    from orchestrator.intake.spec import Job, load_job
    from orchestrator.stores.records import ResultRecord, Summary
    from orchestrator.stores.story import Story

__all__ = [
    "Config",
    "Job",
    "Orchestrator",
    "OrchestratorError",
    "ResultRecord",
    "RunState",
    "State",
    "Story",
    "Summary",
    "load_config",
    "load_job",
]

_HOMES = {
    "Config": "orchestrator.config",
    "Job": "orchestrator.intake.spec",
    "Orchestrator": "orchestrator.app",
    "OrchestratorError": "orchestrator.core.errors",
    "ResultRecord": "orchestrator.stores.base",
    "RunState": "orchestrator.core.lifecycle",
    "State": "orchestrator.core.lifecycle",
    "Story": "orchestrator.stores.story",
    "Summary": "orchestrator.stores.base",
    "load_config": "orchestrator.config",
    "load_job": "orchestrator.intake.spec",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, so that ``orchestrator --help`` opens at once."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
