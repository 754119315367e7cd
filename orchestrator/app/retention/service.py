"""Applies what a job says about retention: deletes at the provider, and drops here what was exported."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from orchestrator.app.connections import address, open_providers
from orchestrator.app.retention.purge import Purge, Purged
from orchestrator.app.stage_summaries import row_of
from orchestrator.config import Config
from orchestrator.core.clock import Clock
from orchestrator.core.errors import UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.states import SETTLED, RunState, State
from orchestrator.job.retention import RetentionSection, delete_ended_before
from orchestrator.policy.rate_limits.limits import Limiter
from orchestrator.provider.client import ResponsesClient
from orchestrator.stores.base import Reader, Store
from orchestrator.stores.reads import Run
from orchestrator.stores.retained import ObjectKind, ProviderObject, Retained

__all__ = ["Due", "RetentionService"]

_ENDLESS = float("inf")


@fast_dataclass(kw_only=False)
class Due:
    """Copies of these kinds, of responses that had ended by a given time."""

    ended_before: float
    kinds: tuple[ObjectKind, ...]


class RetentionService:
    """Applies the retention of one database's runs; the caller holds the lock of the run."""

    def __init__(
        self, config: Config, database: Path | None, *, store: Store, reader: Reader, clock: Clock, rng: random.Random
    ) -> None:
        self._config = config
        self._database = database
        self._store = store
        self._reader = reader
        self._clock = clock
        self._rng = rng

    async def purge(self, run: Run) -> Purged:
        """Delete all that the provider keeps of a run; raises ``UsageError`` if the run is not over."""
        counts = (await self._reader.summary(run.id)).requests
        unsettled = sum(counts.values()) - sum(counts.get(state, 0) for state in (*SETTLED, State.IN_DOUBT))
        if unsettled or not run.plan.complete:
            raise UsageError(
                f"run {run.name!r} is not over: {unsettled:,} of its requests are open or wait to be sent",
                hint=f"resume it (`run`), or give up the rest: orchestrator cancel {run.name}; then purge it",
            )
        self._refuse_stranger(run, await self._reader.retained(run.id))
        return await self._delete(run, _ENDLESS, tuple(ObjectKind))

    async def purge_rows(self, run: Run, keys: Sequence[str], *, stage: str | None = None) -> Purged:
        """Delete the responses of single rows; raises ``UsageError`` if one is not settled."""
        self._refuse_stranger(run, await self._reader.retained(run.id))
        objects: list[ProviderObject] = []
        for key in keys:
            request = await row_of(self._reader, run, key, stage=stage)
            if request.state not in SETTLED:
                raise UsageError(
                    f"{key!r} is {request.state.value}, not settled: its response is still needed",
                    hint=f"orchestrator cancel {run.name} --key {key} ends it; then purge it",
                )
            objects += await self._responses_of(request.id)
        async with self._purging() as purge:
            return await purge.objects(run.id, objects)

    async def _responses_of(self, request_id: int) -> list[ProviderObject]:
        """The responses that are a request's own and that the provider still has, as far as is known."""
        return [
            ProviderObject(ObjectKind.RESPONSE, attempt.response_id, endpoint=attempt.endpoint)
            for attempt in await self._reader.attempts(request_id)
            if attempt.response_id is not None
            and attempt.deleted_at is None
            and await self._reader.holder(attempt.response_id) == attempt.id
        ]

    async def due(self, run: Run) -> Due | None:
        """What is due by now according to the run's retention; None if nothing is."""
        retained = await self._reader.retained(run.id)
        if retained is None or run.state not in (RunState.FINISHED, RunState.CANCELLED):
            return None
        policy = RetentionSection.model_validate_json(retained.policy)
        before = delete_ended_before(policy, now=self._clock.now(), exported_at=retained.exported_at)
        if before is None:
            return None
        over = run.ended_at is not None and run.ended_at <= before
        kinds = tuple(ObjectKind) if over else (ObjectKind.RESPONSE,)
        for kind in kinds:
            if await self._reader.provider_objects(run.id, kind, ended_before=before, after=0, limit=1):
                return Due(before, kinds)
        return None

    async def purge_due(self, run: Run, due: Due) -> Purged:
        """Delete it."""
        self._refuse_stranger(run, await self._reader.retained(run.id))
        return await self._delete(run, due.ended_before, due.kinds)

    async def exported(self, run: Run) -> None:
        """All results of a run are in a file: note it, and drop here what needs to be kept no longer."""
        retained = await self._reader.retained(run.id)
        if retained is None:
            return
        await self._store.note_export(run.id, self._clock.now())
        policy = RetentionSection.model_validate_json(retained.policy)
        if "drop" in (policy.inputs, policy.outputs):
            await self._store.drop(run.id, inputs=policy.inputs == "drop", outputs=policy.outputs == "drop")

    async def _delete(self, run: Run, ended_before: float, kinds: tuple[ObjectKind, ...]) -> Purged:
        async with self._purging() as purge:
            return await purge.run(run.id, ended_before=ended_before, kinds=kinds)

    @asynccontextmanager
    async def _purging(self) -> AsyncIterator[Purge]:
        async with open_providers(self._config, self._database) as providers:
            clients = {each.config.endpoint_name: each.client for each in providers}
            # Files are kept with the address of their endpoint.
            clients |= {address(each.config): each.client for each in providers}
            polls = self._config.limits.polls_per_minute
            yield Purge(
                partial(_client_of, self._config, clients),
                store=self._store,
                reader=self._reader,
                limiter=Limiter(requests_per_minute=polls, tokens_per_minute=None, now=self._clock.now()),
                clock=self._clock,
                rng=self._rng,
                overrides=self._config.provider.overrides,
            )

    def _refuse_stranger(self, run: Run, retained: Retained | None) -> None:
        """Another provider knows none of the ids, and all of them would pass for deleted."""
        here = address(self._config)
        if retained is not None and retained.provider != here:
            raise UsageError(
                f"the responses of run {run.name!r} are at {retained.provider}, and the config names {here}",
                hint="give the --config that the run was made with",
            )


def _client_of(
    config: Config, clients: Mapping[str | None, ResponsesClient], copy: ProviderObject
) -> ResponsesClient:
    """The client of the endpoint that has a copy; raises ``ConfigError`` if the config does not name it."""
    if not config.providers:
        return clients[None]
    if copy.endpoint not in clients:
        config.at(copy.endpoint)
    return clients[copy.endpoint]
