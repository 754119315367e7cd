"""Deletes what the provider keeps of a run, and checks that it is gone."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import anyio

from orchestrator.app.ask import Again, Retries, call_with_retries
from orchestrator.app.retention.deletions import (
    Gone,
    Impossible,
    Left,
    Verdict,
    judge_deletion,
    judge_disappearance,
)
from orchestrator.core.clock import Clock
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.policy.errors.error_rules import Override
from orchestrator.policy.rate_limits.limits import Limiter
from orchestrator.provider.client import CallFailed, Collectible, ResponsesClient
from orchestrator.stores.base import Store
from orchestrator.stores.retained import ObjectKind, ProviderObject, RetentionReader

__all__ = ["Purge", "Purged"]

T = TypeVar("T")

_COLLECTIONS: dict[ObjectKind, Collectible] = {
    ObjectKind.RESPONSE: "responses",
    ObjectKind.CONVERSATION: "conversations",
    ObjectKind.FILE: "files",
}
# A conversation is written to by responses, and a file is read by them; so they go last.
_ORDER = (ObjectKind.RESPONSE, ObjectKind.CONVERSATION, ObjectKind.FILE)
_PAGE = 500
# Objects deleted at the same time.
_AT_ONCE = 16
# To be rate-limited is no failure, but a provider that refuses every call must not hold the purge forever.
_RETRIES = Retries(attempts=5, rate_limited_attempts=100, base_s=1.0, timeout_s=float("inf"))
# After this many failures in a row the server does not delete, and a million calls would not change that.
_GIVE_UP_AFTER = 20


@dataclass(slots=True)
class Purged:
    """How the deletion of the provider's copies ended, in this process.

    ``deleted`` counts by kind those that were there and are gone; ``unknown`` those that the provider did not know
    when we came (expired, or of another project than the key's); ``left`` those that are still there, or may be.
    """

    deleted: dict[ObjectKind, int] = field(default_factory=lambda: dict.fromkeys(ObjectKind, 0))
    unknown: int = 0
    left: int = 0
    # Why the first of them was left.
    reason: str | None = None
    # It ended before its time: more is left than ``left`` counts.
    stopped: bool = False

    @property
    def complete(self) -> bool:
        """Nothing is left."""
        return not self.left

    def leave(self, reason: str) -> None:
        """Count one that is still there."""
        self.left += 1
        self.reason = self.reason or reason


class Purge:
    """Deletes within the allowance for polls, several at a time; what is gone is on disk at once.

    It may be repeated after a crash: what is on disk is passed over, and what was deleted in the last moment before
    is found to be gone.
    """

    def __init__(
        self,
        client_of: Callable[[ProviderObject], ResponsesClient],
        *,
        store: Store,
        reader: RetentionReader,
        limiter: Limiter,
        clock: Clock,
        rng: random.Random,
        overrides: Sequence[Override] = (),
    ) -> None:
        self._client_of = client_of
        self._store = store
        self._reader = reader
        self._limiter = limiter
        self._clock = clock
        self._rng = rng
        self._overrides = overrides
        self._failures_in_a_row = 0

    async def run(
        self, run_id: int, *, ended_before: float, kinds: Sequence[ObjectKind] = tuple(ObjectKind)
    ) -> Purged:
        """Delete the copies of all responses that had ended by a given time, and with them what they used."""
        purged = Purged()
        for kind in _ORDER:
            if kind in kinds:
                async for page in self._pages(run_id, kind, ended_before):
                    await self._delete_all(run_id, page, purged)
                    if purged.stopped:
                        return purged
        return purged

    async def objects(self, run_id: int, objects: Sequence[ProviderObject]) -> Purged:
        """Delete these copies."""
        purged = Purged()
        await self._delete_all(run_id, objects, purged)
        return purged

    async def _pages(self, run_id: int, kind: ObjectKind, ended_before: float) -> AsyncIterator[list[ProviderObject]]:
        after = 0
        while page := await self._reader.provider_objects(
            run_id, kind, ended_before=ended_before, after=after, limit=_PAGE
        ):
            yield page
            after = page[-1].place
            if kind is not ObjectKind.RESPONSE or len(page) < _PAGE:
                return

    async def _delete_all(self, run_id: int, copies: Sequence[ProviderObject], purged: Purged) -> None:
        waiting = iter(copies)

        async def work() -> None:
            for copy in waiting:
                if purged.stopped:
                    return
                await self._delete(run_id, copy, purged)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(_AT_ONCE, len(copies))):
                tasks.start_soon(work)

    async def _delete(self, run_id: int, copy: ProviderObject, purged: Purged) -> None:
        """Delete one and fetch it; what is not certainly gone counts as left."""
        of, client = _COLLECTIONS[copy.kind], self._client_of(copy)
        if copy.kind is ObjectKind.CONVERSATION:
            await self._empty(client, copy.provider_id)
        was_there = await self._insist(lambda: client.delete(copy.provider_id, of=of), judge_deletion)
        if not isinstance(was_there, bool):
            self._leave(was_there, purged)
            return
        found = await self._insist(lambda: client.check_stored(copy.provider_id, of=of), judge_disappearance)
        if not isinstance(found, Gone):
            self._leave(found, purged)
            return
        await self._store.note_deleted(run_id, copy, was_there=was_there, at=self._clock.now())
        purged.deleted[copy.kind] += was_there
        purged.unknown += not was_there
        self._failures_in_a_row = 0

    async def _empty(self, client: ResponsesClient, conversation_id: str) -> None:
        """Take a conversation's items out of it: whether they go with it is nowhere said."""
        try:
            items = [item async for item in client.conversation_items(conversation_id)]
        except CallFailed:
            return  # what is wrong shows with the conversation itself
        for item in items:
            await self._insist(partial(client.delete_item, conversation_id, item), judge_deletion)

    def _leave(self, found: Gone | Left | Impossible | None, purged: Purged) -> None:
        purged.leave(
            found.message if isinstance(found, Left | Impossible) else "it is still there after its deletion"
        )
        self._failures_in_a_row += 1
        purged.stopped |= isinstance(found, Impossible) or self._failures_in_a_row >= _GIVE_UP_AFTER

    async def _insist(
        self, call: Callable[[], Awaitable[T | Problem]], judge: Callable[[Problem, Sequence[Override]], Verdict]
    ) -> T | Gone | Left | Impossible:
        """Call until there is an answer or a final verdict."""

        def again(problem: Problem) -> Again | None:
            verdict = judge(problem, self._overrides)
            return verdict if isinstance(verdict, Again) else None

        answer = await call_with_retries(
            call, clock=self._clock, rng=self._rng, judge=again, retries=_RETRIES, limiter=self._limiter
        )
        if not isinstance(answer, NeverSent | ReplyLost | Refused):
            return answer
        verdict = judge(answer, self._overrides)
        return Left(verdict.message) if isinstance(verdict, Again) else verdict
