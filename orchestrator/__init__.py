"""Runs large numbers of LLM requests through the OpenAI Responses API in background mode.

>>> from orchestrator import Orchestrator, load_config, load_job
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

from orchestrator.core.version import __version__ as __version__

if TYPE_CHECKING:
    from orchestrator.app.api import Orchestrator
    from orchestrator.app.run_results import Results
    from orchestrator.app.run_sync import run_sync
    from orchestrator.config import Config, load_config
    from orchestrator.core.errors import OrchestratorError
    from orchestrator.core.states import RunState, State
    from orchestrator.job.spec import Job, load_job
    from orchestrator.stores.reads import ResultRecord, Summary
    from orchestrator.stores.request_history import RequestHistory

__all__ = [
    "Config",
    "Job",
    "Orchestrator",
    "OrchestratorError",
    "RequestHistory",
    "ResultRecord",
    "Results",
    "RunState",
    "State",
    "Summary",
    "load_config",
    "load_job",
    "run_sync",
]

_HOMES = {
    "Config": "orchestrator.config",
    "Job": "orchestrator.job.spec",
    "Orchestrator": "orchestrator.app.api",
    "OrchestratorError": "orchestrator.core.errors",
    "ResultRecord": "orchestrator.stores.reads",
    "RunState": "orchestrator.core.states",
    "State": "orchestrator.core.states",
    "RequestHistory": "orchestrator.stores.request_history",
    "Summary": "orchestrator.stores.reads",
    "load_config": "orchestrator.config",
    "load_job": "orchestrator.job.spec",
    "Results": "orchestrator.app.run_results",
    "run_sync": "orchestrator.app.run_sync",
}


# Former names, which are still importable.
_RENAMED = {"Story": "RequestHistory"}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that ``orchestrator --help`` opens quickly."""
    if name in _RENAMED:
        warnings.warn(f"{name} is now called {_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        name = _RENAMED[name]
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
