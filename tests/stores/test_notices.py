"""What every store promises about the outbox of notifications."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.states import RunState
from orchestrator.stores.notices import MOST_TRIES, REPEAT_AFTER_S, NewNotice

from .builders import NOW, Harness

pytestmark = pytest.mark.anyio


def a_notice(harness: Harness, message_id: str, **changes: Any) -> NewNotice:
    values: dict[str, Any] = {
        "message_id": message_id,
        "run_id": harness.run.id,
        "event": "halted",
        "cause": "budget",
        "receiver": "ops",
        "payload": b"{}",
        "created_at": NOW,
    }
    return NewNotice(**(values | changes))


async def end(harness: Harness, *notices: NewNotice) -> None:
    await harness.store.set_run_state(harness.run.id, RunState.HALTED, "budget", NOW, notices=notices)


async def take(harness: Harness, *receivers: str, at: float = NOW) -> list[str]:
    taken = await harness.store.take_notices(receivers or ["ops"], at=at, for_s=60)
    return [each.message_id for each in taken]


async def test_a_notice_is_written_with_the_end_and_taken_by_one_caller(harness: Harness) -> None:
    await end(harness, a_notice(harness, "one"), a_notice(harness, "two", receiver="team"))
    assert (await harness.current_run()).state is RunState.HALTED
    assert await take(harness) == ["one"]
    assert await take(harness) == []
    assert await take(harness, "ops", "team") == ["two"]
    # Its process was killed: another one takes it later.
    assert await take(harness, at=NOW + 61) == ["one"]


async def test_a_delivered_notice_is_never_taken_again(harness: Harness) -> None:
    await end(harness, a_notice(harness, "one"))
    await take(harness)
    await harness.store.note_delivery("one", delivered=True, error=None, at=NOW)
    assert await take(harness, at=NOW + 1_000) == []


async def test_a_failed_try_can_be_repeated_at_once_and_not_for_ever(harness: Harness) -> None:
    await end(harness, a_notice(harness, "one"))
    for _ in range(MOST_TRIES):
        assert await take(harness) == ["one"]
        await harness.store.note_delivery("one", delivered=False, error="HTTP 500", at=NOW)
    assert await take(harness) == []


async def test_the_same_end_is_announced_once_a_day(harness: Harness) -> None:
    for number in range(1_000):
        await end(harness, a_notice(harness, f"at-{number}", created_at=NOW + number))
    await end(harness, a_notice(harness, "other-cause", cause="key"))
    await end(harness, a_notice(harness, "next-day", created_at=NOW + REPEAT_AFTER_S))
    assert sorted(await take(harness)) == ["at-0", "next-day", "other-cause"]


async def test_a_run_is_removed_with_its_notices(harness: Harness) -> None:
    await end(harness, a_notice(harness, "one"))
    await harness.store.remove_run(harness.run.id)
    assert await take(harness) == []
