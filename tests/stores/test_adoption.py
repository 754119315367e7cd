"""What every store promises about responses that one run takes over from another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.states import Event, State
from orchestrator.stores.reads import Dependent, Duplicate, OpenAttempt, OtherRequest, PendingRequest
from orchestrator.stores.retained import ObjectKind
from orchestrator.stores.writes import Adoption, Leaving

from .builders import NOW, Harness, a_charge, a_run, an_unknown_charge
from .test_dependents import CONTINUED

pytestmark = pytest.mark.anyio

ASKED = b"asks the same..."


async def another_run(harness: Harness, name: str = "later") -> Harness:
    return replace(harness, run=await harness.store.create_run(a_run(name)))


async def submitted(harness: Harness) -> tuple[PendingRequest, int]:
    """A request whose response is open, and its attempt."""
    [request] = await harness.add(1)
    return request, await harness.submit(request, fingerprint=ASKED, worst_case_pusd=5_000)


async def others(harness: Harness) -> list[OtherRequest]:
    return (await harness.reader.others(harness.run.id, {ASKED: 0.0})).get(ASKED, [])


async def adopt(
    harness: Harness, request: PendingRequest, adopted: PendingRequest, state: State = State.SUBMITTED
) -> OpenAttempt | None:
    return await harness.store.adopt(
        Adoption(
            request_id=request.id,
            run_id=harness.run.id,
            stage=request.stage,
            number=1 + len(await harness.reader.attempts(request.id)),
            fingerprint=ASKED,
            adopted_id=adopted.id,
            from_state=state,
            at=NOW + 5,
        )
    )


async def taken_over(harness: Harness) -> tuple[Harness, PendingRequest, PendingRequest, OpenAttempt]:
    """A later run that has taken the open response of the first one over: the two requests, and the new attempt."""
    first, _ = await submitted(harness)
    later = await another_run(harness)
    [second] = await later.add(1)
    opened = await adopt(later, second, first)
    assert opened is not None
    return later, first, second, opened


async def test_the_run_that_asked_is_charged_and_the_other_one_has_the_answer(harness: Harness) -> None:
    later, first, second, opened = await taken_over(harness)
    asked = (await harness.reader.attempts(first.id))[0]
    assert (opened.response_id, opened.adopted, opened.worst_case_pusd) == (asked.response_id, True, 5_000)
    assert await later.open_attempts() == [opened]
    assert await harness.states() == {State.BLOCKED: 1}
    assert ((await harness.summary()).reserved_pusd, (await later.summary()).reserved_pusd) == (5_000, 0)
    assert await later.end(second, opened.attempt_id, State.SUCCEEDED)
    [one], [two] = [await harness.summary()], [await later.summary()]
    assert (one.cost_pusd, one.reserved_pusd, two.cost_pusd, two.reused) == (1_000, 0, 0, 1)
    [result] = await later.results(State.SUCCEEDED)
    assert (result.reused, result.cost_pusd, result.output_text) == (True, 0, "An answer.")
    # The first run is resumed: its own response has the answer.
    assert await harness.store.end_wait(first.id, NOW + 30, is_over=False) == [Dependent("row-0", State.SUCCEEDED)]
    [result] = await harness.results(State.SUCCEEDED)
    assert (result.reused, result.cost_pusd, result.output_text) == (False, 1_000, "An answer.")
    assert await harness.reader.waits(harness.run.id) == []


async def test_an_unknown_cost_stays_with_the_run_that_asked(harness: Harness) -> None:
    later, _, second, opened = await taken_over(harness)
    ending = {"charge": an_unknown_charge(5_000), "code": "run_timeout", "status": None, "output_text": None}
    assert await later.end(second, opened.attempt_id, State.FAILED, **ending, body=None)
    one, two = await harness.summary(), await later.summary()
    assert (one.cost_unknown, one.cost_unknown_upper_bound_pusd, two.cost_unknown) == (1, 5_000, 0)


async def test_a_failure_is_shared_because_it_was_that_of_its_own_response(harness: Harness) -> None:
    later, first, second, opened = await taken_over(harness)
    await later.end(second, opened.attempt_id, State.FAILED, code="content_filter", charge=a_charge(7))
    failed = Dependent("row-0", State.FAILED, "content_filter")
    assert await harness.store.end_wait(first.id, NOW + 30, is_over=False) == [failed]
    assert ((await harness.summary()).cost_pusd, (await later.summary()).cost_pusd) == (7, 0)


async def test_a_cancel_of_the_later_run_unblocks_the_first_one(harness: Harness) -> None:
    later, first, second, opened = await taken_over(harness)
    await later.end(second, opened.attempt_id, State.CANCELLED, code="cancelled", charge=an_unknown_charge(5_000))
    assert await harness.store.end_wait(first.id, NOW + 30, is_over=True) == [Dependent("row-0", State.PENDING)]
    assert [each.id for each in await harness.delayed()] == [first.id]


async def test_a_retry_is_made_and_paid_by_the_later_run(harness: Harness) -> None:
    later, first, second, opened = await taken_over(harness)
    await later.end(second, opened.attempt_id, State.PENDING, charge=a_charge(7), not_before=NOW + 20)
    assert await harness.store.end_wait(first.id, NOW + 30, is_over=False) is None
    await later.succeed(second)
    assert await harness.store.end_wait(first.id, NOW + 40, is_over=False) == [Dependent("row-0", State.SUCCEEDED)]
    assert ((await harness.summary()).cost_pusd, (await later.summary()).cost_pusd) == (7, 1_000)
    [result] = await harness.results(State.SUCCEEDED)
    assert (result.reused, result.cost_pusd) == (True, 7)


async def test_a_response_comes_back_if_the_later_run_is_gone(harness: Harness) -> None:
    later, first, second, _ = await taken_over(harness)
    assert await harness.store.end_wait(first.id, NOW + 30, is_over=True) == [Dependent("row-0", State.SUBMITTED)]
    [again] = await harness.open_attempts()
    assert (again.request_id, again.adopted) == (first.id, False)
    assert await later.open_attempts() == []
    assert await later.states() == {State.PENDING: 1}
    assert [each.state for each in await others(later)] == [State.SUBMITTED]
    # And once more.
    opened = await adopt(later, second, first)
    assert opened is not None
    assert opened.number == 2
    await later.end(second, opened.attempt_id, State.SUCCEEDED)
    assert (await harness.summary()).cost_pusd == 1_000


async def test_a_third_run_takes_it_over_from_the_second(harness: Harness) -> None:
    later, first, second, opened = await taken_over(harness)
    third = await another_run(harness, "third")
    [request] = await third.add(1)
    assert [each.run for each in await others(third)] == ["later"]
    taken = await adopt(third, request, second)
    assert taken is not None
    assert [each.other_id for each in await harness.reader.waits(harness.run.id)] == [request.id]
    await third.end(request, taken.attempt_id, State.SUCCEEDED)
    for run, waiting in ((later, second), (harness, first)):
        assert await run.store.end_wait(waiting.id, NOW + 30, is_over=True) == [Dependent("row-0", State.SUCCEEDED)]
    assert [(await run.summary()).cost_pusd for run in (harness, later, third)] == [1_000, 0, 0]
    assert opened.response_id == taken.response_id


async def test_nothing_is_taken_over_that_has_moved(harness: Harness) -> None:
    first, attempt_id = await submitted(harness)
    later = await another_run(harness)
    [second] = await later.add(1)
    await harness.end(first, attempt_id, State.SUCCEEDED)
    assert await adopt(later, second, first) is None
    assert await later.states() == {State.PENDING: 1}
    await later.store.request_cancel(later.run.id, NOW)
    other, _ = await submitted(await another_run(harness, "other"))
    assert await adopt(later, second, other) is None


async def test_one_of_two_runs_takes_it_over(harness: Harness) -> None:
    later, first, _, _ = await taken_over(harness)
    third = await another_run(harness, "third")
    [request] = await third.add(1)
    assert await adopt(third, request, first) is None
    assert await third.states() == {State.PENDING: 1}
    assert await later.states() == {State.SUBMITTED: 1}


async def test_a_turn_and_the_results_of_tools_are_taken_over(harness: Harness) -> None:
    first, attempt_id = await submitted(harness)
    await harness.end(first, attempt_id, State.PENDING, **CONTINUED)
    attempt_id = await harness.submit(first)
    await harness.end(first, attempt_id, State.AWAITING_TOOLS, body=b'{"calls": 1}', charge=a_charge(7))
    later = await another_run(harness)
    [second] = await later.add(1)
    opened = await adopt(later, second, first, State.AWAITING_TOOLS)
    assert opened is not None
    assert (opened.state, opened.turn) == (State.AWAITING_TOOLS, 1)
    assert await later.reader.body(opened.attempt_id) == b'{"calls": 1}'
    assert await harness.states() == {State.BLOCKED: 1}
    await later.store.leave(
        Leaving(request_id=second.id, attempt_id=opened.attempt_id, event=Event.FAIL, at=NOW + 20, code="tool_error")
    )
    failed = [Dependent("row-0", State.FAILED, "tool_error")]
    assert await harness.store.end_wait(first.id, NOW + 30, is_over=False) == failed
    assert ((await harness.summary()).cost_pusd, (await later.summary()).cost_pusd) == (1_007, 0)


async def test_a_claim_is_refused_while_another_run_asks_the_same(harness: Harness) -> None:
    first, attempt_id = await submitted(harness)
    later = await another_run(harness)
    [second] = await later.add(1)
    claim = {"fingerprint": ASKED, "others_since": NOW}
    refused = await later.try_claim(second, **claim)
    assert isinstance(refused, list)
    assert [(each.request_id, each.run, each.attempt_id) for each in refused] == [(first.id, "demo", attempt_id)]
    assert await later.states() == {State.PENDING: 1}
    await harness.end(first, attempt_id, State.FAILED, code="content_filter")
    assert isinstance(await later.try_claim(second, **claim), int)
    # It does not matter to one that does not ask.
    third = await another_run(harness, "third")
    [request] = await third.add(1)
    assert isinstance(await third.try_claim(request, fingerprint=ASKED), int)


async def test_a_claim_of_what_is_no_longer_pending_has_nothing_to_wait_for(harness: Harness) -> None:
    await submitted(harness)
    later = await another_run(harness)
    [second] = await later.add(1)
    await later.store.request_cancel(later.run.id, NOW)
    assert await later.try_claim(second, fingerprint=ASKED, others_since=NOW) is None


async def test_a_request_waits_for_another_run_and_takes_only_its_answer(harness: Harness) -> None:
    first, attempt_id = await submitted(harness)
    later = await another_run(harness)
    second, same = await later.add(2)
    other = Duplicate(first.id, here=False)
    assert await later.store.join(second.id, other, ASKED, NOW) == [Dependent("row-0", State.BLOCKED)]
    await later.store.join(same.id, Duplicate(second.id, here=True), ASKED, NOW)
    [wait] = await later.reader.waits(later.run.id)
    assert (wait.request_id, wait.other_id, wait.run, wait.state) == (second.id, first.id, "demo", State.SUBMITTED)
    assert await later.store.end_wait(second.id, NOW, is_over=False) is None
    await harness.end(first, attempt_id, State.SUCCEEDED)
    moved = [Dependent("row-0", State.SUCCEEDED), Dependent("row-1", State.SUCCEEDED)]
    assert await later.store.end_wait(second.id, NOW, is_over=False) == moved
    assert await later.store.end_wait(second.id, NOW, is_over=False) is None
    assert (await later.summary()).reused == 2


@pytest.mark.parametrize("how", ["failed", "incomplete", "gone"])
async def test_a_request_that_waited_in_vain_is_sent(harness: Harness, how: str) -> None:
    first, attempt_id = await submitted(harness)
    later = await another_run(harness)
    [second] = await later.add(1)
    await later.store.join(second.id, Duplicate(first.id, here=False), ASKED, NOW)
    if how == "failed":
        await harness.end(first, attempt_id, State.FAILED, code="content_filter")
    elif how == "incomplete":
        await harness.end(first, attempt_id, State.SUCCEEDED, status="incomplete")
    ended = await later.store.end_wait(second.id, NOW, is_over=how == "gone")
    assert ended == [Dependent("row-0", State.PENDING)]
    if how == "failed":
        assert await later.store.join(second.id, Duplicate(first.id, here=False), ASKED, NOW) == []


async def test_a_cancelled_request_waits_for_nothing(harness: Harness) -> None:
    later, first, second, opened = await taken_over(harness)
    await harness.store.request_cancel(harness.run.id, NOW + 10)
    assert await harness.reader.waits(harness.run.id) == []
    # Its response is open and must not be deleted; it is charged where it was asked for.
    found = await harness.reader.provider_objects(
        harness.run.id, ObjectKind.RESPONSE, ended_before=NOW + 99, after=0, limit=9
    )
    assert found == []
    await later.end(second, opened.attempt_id, State.SUCCEEDED)
    assert (await harness.summary()).cost_pusd == 1_000
    assert await harness.store.end_wait(first.id, NOW + 30, is_over=True) is None
    await harness.store.keep_policy(harness.run.id, "p", "{}")
    await harness.store.drop(harness.run.id, inputs=True, outputs=True)
    [result] = await later.results(State.SUCCEEDED)
    assert result.output_text == "An answer."


async def test_an_answer_stays_usable_as_long_as_it_is_used(harness: Harness) -> None:
    first, attempt_id = await submitted(harness)
    await harness.end(first, attempt_id, State.SUCCEEDED)
    night, used_at = harness, NOW
    for number in range(3):
        night, used_at = await another_run(harness, f"night-{number}"), used_at + 100
        [request] = await night.add(1)
        [found] = (await night.reader.others(night.run.id, {ASKED: used_at - 100})).get(ASKED, [])
        assert (found.attempt_id, found.state) == (attempt_id, State.SUCCEEDED)
        await night.store.join(request.id, Duplicate(found.request_id, here=False), ASKED, used_at)
        assert (await night.request("row-0")).answered_by == attempt_id
    later = await another_run(harness)
    assert await later.reader.others(later.run.id, {ASKED: used_at + 1}) == {}


async def test_a_run_is_needed_as_long_as_another_one_has_its_responses_open(harness: Harness) -> None:
    later, first, second, opened = await taken_over(harness)
    assert (await harness.reader.needed_by(harness.run.id)).waiting_runs == ("later",)
    assert (await harness.reader.needed_by(later.run.id)).waiting_runs == ("demo",)
    await harness.store.request_cancel(harness.run.id, NOW + 10)
    assert (await harness.reader.needed_by(harness.run.id)).waiting_runs == ("later",)
    assert (await harness.reader.needed_by(later.run.id)).waiting_runs == ()
    await later.end(second, opened.attempt_id, State.SUCCEEDED)
    assert (await harness.reader.needed_by(harness.run.id)).waiting_runs == ()
    await harness.store.remove_run(harness.run.id)
    [result] = await later.results(State.SUCCEEDED)
    assert result.output_text == "An answer."
    assert first.id != second.id
