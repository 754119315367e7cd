"""Puts the endpoints of a run together: their limits, circuit breakers, uploads, and what is learned of each."""

from __future__ import annotations

import random
from collections.abc import Sequence

from orchestrator.app.connections import Provider, limits_snapshot
from orchestrator.config import Config
from orchestrator.engine.allowances import Allowances
from orchestrator.engine.learned_state import Snapshot
from orchestrator.engine.observation import Observation
from orchestrator.engine.outages import Outages
from orchestrator.engine.run_endpoints import RunEndpoint
from orchestrator.executors.registry import Executors
from orchestrator.job.spec import Job
from orchestrator.job.stream_limit import MOST_STREAMS
from orchestrator.policy.errors.resumed_polls import Access, ResumedPolls
from orchestrator.policy.rate_limits.limits import Limiter, Pools
from orchestrator.policy.rate_limits.places import OpenPlaces

__all__ = ["learned_limits", "may_expire", "run_endpoint"]


def run_endpoint(
    provider: Provider,
    job: Job,
    access: Access,
    *,
    accept_expired: bool,
    observation: Observation,
    rng: random.Random,
) -> RunEndpoint:
    """An endpoint as a run uses it."""
    config = provider.config
    return RunEndpoint(
        executors=Executors(provider, stream=job.stream),
        allowances=_allowances(config, job, observation.clock.now()),
        outages=Outages(observation, rng),
        name=config.endpoint_name,
        weight=config.weight,
        overrides=config.provider.overrides,
        resumed_polls=ResumedPolls(access, may_expire=accept_expired or may_expire(config)),
    )


def _allowances(config: Config, job: Job, now: float) -> Allowances:
    limits = config.limits
    return Allowances(
        pools=Pools(
            requests_per_minute=limits.requests_per_minute, tokens_per_minute=limits.tokens_per_minute, now=now
        ),
        polls=Limiter(requests_per_minute=limits.polls_per_minute, tokens_per_minute=None, now=now),
        held_at_once=config.lanes.sync.at_once,
        places=OpenPlaces(min(limits.max_in_flight, MOST_STREAMS) if job.stream else limits.max_in_flight),
    )


def may_expire(config: Config) -> bool:
    """Whether all open responses of a run may have expired, or cost nothing to request again."""
    return config.is_free or config.provider.store == "optional"


def learned_limits(providers: Sequence[Provider], endpoints: Sequence[RunEndpoint]) -> list[Snapshot]:
    """What is learned of the limits of each endpoint, for the next run."""
    return [
        Snapshot(limits_snapshot(provider.config), pools.snapshot, pools.restore)
        for provider, pools in zip(providers, (each.allowances.pools for each in endpoints), strict=True)
    ]
