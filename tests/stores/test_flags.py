"""What every store promises about what people note on rows."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import UsageError
from orchestrator.core.states import State
from orchestrator.stores.flags import checked_flag, checked_note

from .builders import NOW, Harness

pytestmark = pytest.mark.anyio


async def noted(harness: Harness) -> list[tuple[str | None, str | None]]:
    return [(record.flag, record.note) for record in await harness.results(State.PENDING, State.SUCCEEDED)]


async def test_a_flag_is_set_changed_and_taken_away(harness: Harness) -> None:
    first, second = await harness.add(2)
    assert await harness.store.set_flag(first.id, "check", "the date is odd", NOW)
    assert await harness.store.set_flag(second.id, "good", "", NOW)
    assert await noted(harness) == [("check", "the date is odd"), ("good", None)]
    assert await harness.store.set_flag(first.id, "bad", "", NOW)
    assert await harness.store.set_flag(second.id, None, "", NOW)
    assert await noted(harness) == [("bad", None), (None, None)]


async def test_a_flag_stays_when_its_row_moves_on(harness: Harness) -> None:
    [row] = await harness.add(1)
    await harness.store.set_flag(row.id, "check", "half a pair \ud83d", NOW)
    await harness.succeed(row)
    assert await noted(harness) == [("check", "half a pair ?")]


async def test_only_rows_with_a_flag_are_queued_again(harness: Harness) -> None:
    rows = await harness.add(4)
    for row in rows:
        await harness.fail(row, code="server_error")
    for row, flag in zip(rows, ("again", "again", "good"), strict=False):
        await harness.store.set_flag(row.id, flag, "", NOW)
    assert await harness.requeue(State.FAILED, flag="again", code="refusal") == 0
    assert await harness.requeue(State.FAILED, flag="again") == 2
    assert await harness.states() == {State.PENDING: 2, State.FAILED: 2}
    assert await harness.requeue(State.FAILED, flag="nothing") == 0


async def test_only_rows_in_doubt_with_a_flag_are_resolved(harness: Harness) -> None:
    rows = await harness.add(2)
    for row in rows:
        await harness.lose(row)
    await harness.store.set_flag(rows[1].id, "sure", "", NOW)
    assert await harness.requeue(flag="sure", in_doubt="resend") == 1
    assert await harness.states() == {State.IN_DOUBT: 1, State.PENDING: 1}


async def test_rows_without_data_are_counted_by_flag(harness: Harness) -> None:
    rows = await harness.add(2)
    for row in rows:
        await harness.fail(row)
    await harness.store.set_flag(rows[0].id, "again", "", NOW)
    assert await harness.reader.without_data(harness.run.id, [State.FAILED], None, flag="again") == 0


async def test_a_request_that_is_not_there_gets_no_flag(harness: Harness) -> None:
    await harness.add(1)
    assert not await harness.store.set_flag(987_654, "check", "", NOW)
    assert await noted(harness) == [(None, None)]


async def test_the_flags_of_a_removed_run_are_removed(harness: Harness) -> None:
    [row] = await harness.add(1)
    await harness.store.set_flag(row.id, "check", "", NOW)
    await harness.store.remove_run(harness.run.id)
    assert await harness.results(State.PENDING) == []


async def test_a_sample_of_a_run_changes_nothing_else(harness: Harness) -> None:
    await harness.add(1)
    before = await harness.summary()
    for second in range(3):
        await harness.store.add_pulse(harness.run.id, NOW + second)
    await harness.flush()
    assert await harness.summary() == before


def test_a_flag_is_a_short_phrase_and_a_note_is_short() -> None:
    assert [checked_flag(text) for text in (" check ", "", "  ", "to do")] == ["check", None, None, "to do"]
    for flag in ("x" * 51, "two\nlines", "esc \x1b", "turned \u202e"):
        with pytest.raises(UsageError):
            checked_flag(flag)
    assert checked_note(" two\r\nlines ") == "two\nlines"
    with pytest.raises(UsageError):
        checked_note("x" * 2_001)
