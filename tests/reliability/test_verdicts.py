"""How the engine acts on each group of the judgement table: attempts, states, codes, the bill.

What each row of the table says is tested in tests/policy. Here a gateway plays the errors of a family all in one run,
each to a row of its own, among rows in which all goes well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pytest
from starlette.responses import JSONResponse, Response

from orchestrator.core.errors import ExitCode
from orchestrator.core.states import State

from .gateway import Call, error
from .rehearsal import Account, Rehearse

pytestmark = pytest.mark.anyio

Reply: TypeAlias = Callable[[Call], Response]

# Rows that are answered: the first two before any fault.
PLAIN = ("plain-1", "plain-2", "plain-3", "plain-4")


def text(status: int, words: str) -> Reply:
    return lambda _: Response(words, status)


def refused(status: int, code: str | None = None, message: str = "No.", **headers: str) -> Reply:
    return lambda _: error(status, code, message, **headers)


def ended(**fields: Any) -> Reply:
    """Returns the reply to a poll with a response that has ended like this."""
    return lambda call: JSONResponse({"id": call.response_id, "object": "response", "output": [], **fields})


def failed(code: str | None) -> Reply:
    """Returns one that ended ``failed``, with HTTP 200."""
    return ended(status="failed", error={"code": code, "message": "It failed."} if code else None)


async def struck(
    rehearse: Rehearse, replies: Mapping[str, Reply], *, kind: str = "create", times: int = 1, **settings: Any
) -> Account:
    """Run a row for each reply, which it gets on so many of its first calls of that kind."""
    left = dict.fromkeys(replies, times)

    def script(call: Call) -> Response | None:
        if call.kind != kind or call.key is None or not left.get(call.key):
            return None
        left[call.key] -= 1
        return replies[call.key](call)

    rows = [*PLAIN[:2], *replies, *PLAIN[2:]]
    # Slow enough for a poll while it runs.
    sandbox = {"latency": {"queue": 6, "run": 3}} if kind == "poll" else {}
    at = await rehearse(rows=rows, script=script, sandbox=sandbox, **{"limits": {"max_in_flight": 2}, **settings})
    account = await at.run(same_bill=False)
    assert not any(left.values()) or times > 9
    assert all((account.results[key].state, account.results[key].attempts) == (State.SUCCEEDED, 1) for key in PLAIN)
    return account


def attempts(account: Account, replies: Mapping[str, Reply]) -> dict[str, tuple[str, int]]:
    """Returns for each case how it ended, and after how many attempts."""
    rows = account.results
    return {case: (rows[case].code or rows[case].state.value, rows[case].attempts) for case in replies}


# ── creates ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_transient_refusals_are_sent_again_and_spend_attempts(rehearse: Rehearse) -> None:
    replies = {
        "timed-out": refused(408),
        "locked": refused(409),
        "server-error": refused(500, "server_error"),
        "unavailable": refused(503, "no_code_we_know"),
        "refused-for-now": refused(418, x_should_retry="true"),
        "conversation-locked": refused(400, "conversation_locked"),
        "wrong-address": text(404, "<html>No route.</html>"),
        "redirect": text(302, ""),
    }
    account = await struck(rehearse, replies, times=2)
    account.check_bill()
    assert attempts(account, replies) == dict.fromkeys(replies, ("succeeded", 3))
    assert account.accepted == len(account.results)
    assert account.summary.cost_unknown == account.summary.possible_duplicates == 0


async def test_permanent_refusals_fail_their_rows_and_cost_nothing(rehearse: Rehearse) -> None:
    replies = {
        "context_length_exceeded": refused(400, "context_length_exceeded"),
        "invalid_value": refused(400, "invalid_value"),
        "moderation_blocked": refused(400, "moderation_blocked"),
        "model_not_found": refused(404, "model_not_found"),
        "previous_response_not_found": refused(400, "previous_response_not_found"),
        "http_413": text(413, "<html>Too large.</html>"),
        "http_422": text(422, ""),
        "http_418": text(418, "short and stout"),
        "http_501": text(501, ""),
        "odd": refused(500, "odd", x_should_retry="false"),
        "request_too_large": refused(429, "rate_limit_exceeded", "Limit 100, Requested 200."),
    }
    account = await struck(rehearse, replies)
    account.check_bill()
    assert account.exit is ExitCode.SOME_FAILED
    # Each with the provider's own code, if there is one.
    assert attempts(account, replies) == {code: (code, 1) for code in replies}
    assert account.creates == account.accepted == len(PLAIN)
    assert account.summary.cost_unknown == 0


async def test_transient_refusals_that_last_too_long_exhaust_the_attempts(rehearse: Rehearse) -> None:
    replies = {"timed-out": refused(408), "server-error": refused(500, "server_error")}
    account = await struck(rehearse, replies, times=99, job={"retry": {"attempts": 3}})
    assert attempts(account, replies) == dict.fromkeys(replies, ("attempts_exhausted", 3))
    assert "server_error" in (account.results["server-error"].message or "")


async def test_rate_limited_creates_are_sent_again_and_spend_nothing(rehearse: Rehearse) -> None:
    replies = {
        "requests": refused(429, "rate_limit_exceeded"),
        "tokens": refused(429, None, "Limit reached on tokens per min."),
        "by-code": refused(400, "rate_limit_exceeded"),
        "slow-down": refused(503, "slow_down"),
        "flex": refused(429, None, "Resource Unavailable"),
    }
    account = await struck(rehearse, replies, times=2, speed=200.0)
    account.check_bill()
    assert attempts(account, replies) == dict.fromkeys(replies, ("succeeded", 1))
    assert account.summary.rate_limited == 2 * len(replies)


async def test_signs_of_an_outage_delay_rows_and_spend_nothing(rehearse: Rehearse) -> None:
    before_headers = "upstream connect error or disconnect/reset before headers. reset reason: "
    replies = {
        "overloaded": refused(503, "server_is_overloaded"),
        "gateway-unconnected": text(503, before_headers + "connection failure"),
        "gateway-overflow": text(503, before_headers + "overflow"),
    }
    account = await struck(rehearse, replies, times=8, speed=120.0)
    account.check_bill()
    assert attempts(account, replies) == dict.fromkeys(replies, ("succeeded", 1))
    assert account.summary.rate_limited == account.summary.cost_unknown == 0


async def test_a_request_that_may_have_been_sent_is_counted_before_it_is_sent_again(rehearse: Rehearse) -> None:
    replies = {
        "502": text(502, "Bad gateway"),
        "504": text(504, ""),
        "522": text(522, "error code: 522"),
        "gateway-reset": text(400, "disconnect/reset before headers. reset reason: connection termination"),
        "html": text(200, "<html>Welcome.</html>"),
        "empty": text(200, ""),
        "no-content": lambda _: Response(status_code=204),
        "odd-success": text(299, "{}"),
    }
    account = await struck(rehearse, replies)
    account.check_bill()
    assert attempts(account, replies) == dict.fromkeys(replies, ("succeeded", 2))
    doubted = [account.results[case] for case in replies]
    assert all((row.possible_duplicates, row.cost_pusd) == (1, None) for row in doubted)
    assert account.summary.cost_unknown == account.summary.possible_duplicates == len(replies)
    # The known cost of the second response plus the bound of the first one.
    known = account.summary.cost_pusd - sum(account.results[key].cost_pusd or 0 for key in PLAIN)
    bounds = sum(row.upper_bound_pusd or 0 for row in doubted)
    assert bounds == known + account.summary.cost_unknown_bound.bounded_pusd


# ── polls ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_failed_polls_change_nothing(rehearse: Rehearse) -> None:
    replies = {
        "refused": refused(400),
        "server-error": refused(500),
        "gateway": text(502, "Bad gateway"),
        "timed-out": refused(408),
        "limited": refused(429, "rate_limit_exceeded"),
        "missing": refused(404),
        "unreadable": text(200, "<html>Welcome.</html>"),
        "without-id": text(200, '{"object": "response"}'),
    }
    account = await struck(rehearse, replies, kind="poll", times=2)
    account.check_bill()
    assert attempts(account, replies) == dict.fromkeys(replies, ("succeeded", 1))
    assert account.creates == len(account.results)
    assert account.ledger["cancels"]["calls"] == 0


# ── responses that ended ──────────────────────────────────────────────────────────────────────────────────────


async def test_transient_failures_are_requested_again(rehearse: Rehearse) -> None:
    codes = "server_error", "server_is_overloaded", "rate_limit_exceeded", "slow_down", "vector_store_timeout"
    replies = {**{code: failed(code) for code in codes}, "nameless": failed(None)}
    account = await struck(rehearse, replies, kind="poll")
    assert attempts(account, replies) == dict.fromkeys(replies, ("succeeded", 2))
    assert account.accepted == len(account.results) + len(replies)
    # Known and ended, at an unknown cost: no duplicates, and no cost of zero.
    assert account.summary.cost_unknown == len(replies)
    assert account.summary.possible_duplicates == 0


async def test_permanent_failures_fail_their_rows(rehearse: Rehearse) -> None:
    codes = "invalid_prompt", "bio_policy", "image_too_small", "a_code_of_next_year"
    replies = {code: failed(code) for code in codes}
    account = await struck(rehearse, replies, kind="poll")
    assert attempts(account, replies) == {code: (code, 1) for code in codes}
    assert account.accepted == len(account.results)


async def test_an_image_that_could_not_be_fetched_is_retried_once(rehearse: Rehearse) -> None:
    replies = {"image": failed("failed_to_download_image")}
    account = await struck(rehearse, replies, kind="poll", times=99)
    assert attempts(account, replies) == {"image": ("attempts_exhausted", 2)}


async def test_a_lack_of_credit_in_a_response_halts_the_run_and_fails_no_row(rehearse: Rehearse) -> None:
    broke = True

    def script(call: Call) -> Response | None:
        struck = broke and call.kind == "poll" and call.key == "row-3"
        return failed("insufficient_quota")(call) if struck else None

    at = await rehearse(rows=6, script=script)
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "insufficient_quota"
    assert account.states == {"succeeded": 5, "pending": 1}
    broke = False
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.OK
    assert await at.spent() == 6


MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Half of an"}]}
CUT_OFF = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}


async def test_ended_responses_without_answers_fail_their_rows(rehearse: Rehearse) -> None:
    replies = {
        "empty_output": ended(status="completed"),
        "max_output_tokens": ended(**CUT_OFF, output=[MESSAGE]),
        "content_filter": ended(status="incomplete", incomplete_details={"reason": "content_filter"}),
        "tired": ended(status="incomplete", incomplete_details={"reason": "tired"}),
        "incomplete": ended(status="incomplete"),
        "requires_action": ended(
            status="completed", output=[{"type": "function_call", "call_id": "call_1", "name": "f"}]
        ),
        "refusal": ended(
            status="completed", output=[{**MESSAGE, "content": [{"type": "refusal", "refusal": "No."}]}]
        ),
    }
    account = await struck(rehearse, replies, kind="poll")
    assert attempts(account, replies) == {code: (code, 1) for code in replies}
    assert account.accepted == len(account.results)
    # They report no usage, so their cost is unknown.
    assert account.summary.cost_unknown == len(replies)


async def test_a_response_cancelled_by_others_is_not_sent_again(rehearse: Rehearse) -> None:
    replies = {"stopped": ended(status="cancelled")}
    account = await struck(rehearse, replies, kind="poll")
    assert account.exit is ExitCode.SOME_FAILED
    assert attempts(account, replies) == {"stopped": ("cancelled", 1)}
    assert account.accepted == len(account.results)
    assert account.summary.cost_unknown == 1


async def test_a_partial_answer_is_kept_if_the_job_says_so(rehearse: Rehearse) -> None:
    replies = {"half": ended(**CUT_OFF, output=[MESSAGE]), "none": ended(**CUT_OFF)}
    account = await struck(rehearse, replies, kind="poll", job={"on_incomplete": "keep"})
    assert attempts(account, replies) == {"half": ("succeeded", 1), "none": ("empty_output", 1)}
    assert account.results["half"].output_text == "Half of an"


async def test_an_answer_that_was_cut_off_is_requested_once_with_a_raised_limit(rehearse: Rehearse) -> None:
    job = {"on_incomplete": {"raise_max_output_tokens_to": 900}}
    at = await rehearse(faults={"incomplete": 0.4}, job=job, script=lambda _: None)
    account = await at.run()
    assert at.gateway is not None
    caps: dict[str | None, list[int]] = {}
    for call in at.gateway.of("create"):
        caps.setdefault(call.key, []).append(call.fields["max_output_tokens"])
    assert max(map(tuple, caps.values())) == (400, 900)
    assert all(cap in ([400], [400, 900]) for cap in caps.values())
    assert set(account.codes) <= {"max_output_tokens"}
    assert account.summary.cost_unknown == 0
