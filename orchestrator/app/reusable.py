"""Which requests of a job need not be sent, because earlier runs of the database have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import islice
from typing import Any

from orchestrator.app.connections import address
from orchestrator.config import Config
from orchestrator.core.states import State
from orchestrator.job.requests.compose import fingerprint
from orchestrator.job.spec import Job
from orchestrator.policy.reuse import usable_since
from orchestrator.stores.base import Reader
from orchestrator.stores.reads import OtherRequest

__all__ = ["Reusable"]

_ASKED_TOGETHER = 2_000
# The id of no run: every run is another one.
_NO_RUN = 0


class Reusable:
    """What a new run of a job would reuse; nothing if the job does not want it, or there is no database."""

    def __init__(self, job: Job, config: Config, reader: Reader | None) -> None:
        self._reader = reader if job.reuse == "same-request" and job.chain is None else None
        self._max_age_s = job.reuse_max_age
        self._provider = address(config)

    @property
    def is_possible(self) -> bool:
        """Whether anything can be reused at all."""
        return self._reader is not None

    def fingerprint(self, fields: Mapping[str, Any]) -> bytes | None:
        """The mark of a request by which it is found; None if it cannot be reused."""
        return fingerprint(fields, provider=self._provider) if self.is_possible else None

    async def among(self, fingerprints: Iterable[bytes], now: float) -> set[bytes]:
        """Those of which an earlier run has the answer, or has them in flight."""
        return {each async for batch in self._others(fingerprints, now) for each in batch}

    async def answers(self, fingerprints: Iterable[bytes], now: float) -> dict[bytes, str | None]:
        """The answers of those that an earlier run has; None of those that it has in flight."""
        found: dict[bytes, str | None] = {}
        async for batch in self._others(fingerprints, now):
            # The last one is the only one that may have a whole answer.
            whole = {each: others[-1].attempt_id for each, others in batch.items() if _is_answered(others)}
            texts = await self._reader.answers(list(whole.values())) if self._reader is not None else {}
            found |= {each: texts.get(whole[each]) if each in whole else None for each in batch}
        return found

    async def _others(
        self, fingerprints: Iterable[bytes], now: float
    ) -> AsyncIterator[Mapping[bytes, list[OtherRequest]]]:
        if self._reader is None:
            return
        left = iter(dict.fromkeys(fingerprints))
        while batch := list(islice(left, _ASKED_TOGETHER)):
            since = {each: usable_since(now, self._max_age_s, each) for each in batch}
            yield await self._reader.others(_NO_RUN, since)


def _is_answered(others: list[OtherRequest]) -> bool:
    return others[-1].state is State.SUCCEEDED
