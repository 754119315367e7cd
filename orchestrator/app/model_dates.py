"""Warnings about the models of a job that the provider shuts down soon, or did."""

from __future__ import annotations

from datetime import date
from urllib.parse import urlsplit

from orchestrator.config import Config
from orchestrator.job.requests.expressions import is_template
from orchestrator.job.spec import Job
from orchestrator.policy.shutdowns import shutdown_warning

__all__ = ["model_warnings"]

# Others that offer the same models shut them down on days of their own.
_WHOSE_DATES = "api.openai.com"


def model_warnings(job: Job, config: Config, today: date) -> list[str]:
    """Returns what is announced about the job's model; nothing at another provider, and nothing in a rehearsal."""
    model = job.request.get("model")
    is_named = isinstance(model, str) and not is_template(model)
    if not is_named or config.simulated or urlsplit(config.provider.base_url).hostname != _WHOSE_DATES:
        return []
    warning = shutdown_warning(str(model), today)
    return [warning] if warning else []
