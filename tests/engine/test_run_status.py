"""When a run is over, and when something may still be sent or polled."""

from __future__ import annotations

import pytest

from orchestrator.engine.items import Halted, Waiting
from orchestrator.engine.run_status import RunStatus

from .builders import NOW, an_open_response

HALTED = Halted("budget", "the budget is used up", collect=True)
REFUSED = Halted("invalid_api_key", "the key is refused", collect=False)


def status(**changes: object) -> RunStatus:
    made = RunStatus(unsealed_stages={"main"})
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_what_is_in_flight_is_counted_once() -> None:
    run = status(sending=2, polling=3, running_tools=4)
    run.poll_queue.push(Waiting(an_open_response(1), NOW))
    assert (run.open, run.in_flight) == (4, 10)


def test_a_run_is_done_when_all_is_planned_sent_and_settled() -> None:
    def is_over(**changes: object) -> tuple[bool, bool]:
        run = status(queue_empty=True, unsealed_stages=set())
        for name, value in changes.items():
            setattr(run, name, value)
        return run.only_polls, run.done

    assert is_over() == (True, True)
    assert is_over(unsealed_stages={"main"}) == (False, False)
    assert is_over(queue_empty=False) == (False, False)
    assert is_over(sending=1) == (False, False)
    assert is_over(polling=1) == is_over(running_tools=1) == (True, False)


def test_each_stage_must_be_sealed() -> None:
    run = RunStatus(unsealed_stages={"main", "review"}, queue_empty=True)
    run.seal("main")
    assert not run.done
    run.seal("review")
    assert run.done


@pytest.mark.parametrize(
    ("changes", "may_send", "may_poll"),
    [
        ({}, True, True),
        ({"halted": HALTED}, False, True),
        ({"halted": REFUSED}, False, False),
        ({"interrupted": True}, False, False),
        ({"cancelling": True}, False, True),
    ],
)
def test_a_reason_to_stop_ends_the_sending(changes: dict[str, object], may_send: bool, may_poll: bool) -> None:
    run = status(**changes)
    assert (run.may_send, run.may_poll) == (may_send, may_poll)


def test_the_first_reason_to_halt_is_kept() -> None:
    run = status()
    run.halt(HALTED)
    run.halt(REFUSED)
    assert run.halted is HALTED
    assert run.done


@pytest.mark.anyio
async def test_the_end_wakes_the_loop_and_nothing_else_does() -> None:
    run = status()
    run.notify_if_done()
    assert not run.end_signal._is_set
    run.interrupted = True
    run.notify_if_done()
    await run.end_signal.wait()
