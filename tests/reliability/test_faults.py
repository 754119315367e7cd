"""Each fault of the sandbox alone: how the rows end, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.errors import ExitCode
from orchestrator.sandbox.sandbox_settings import BATCH_FAULTS, FILE_FAULTS, Faults

from .rehearsal import Account, Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 12
# A row with repeated faults must not run out of attempts; which rows these are depends on the order of arrival.
PATIENT = {"retry": {"attempts": 50}}

# For faults with long waits.
HURRIED = {"speed": 180.0}
OGX = {"profile": "ogx"}
FLEX = {"request": {"service_tier": "flex"}}

# The create is refused, so nothing was created: it is sent again after a wait, and no attempt is spent.
RATE_LIMITED: dict[str, dict[str, Any]] = {
    "rate_limited": {},
    "slow_down": {},
    "queue_full": {"provider": OGX},
    "flex_unavailable": {"job": FLEX, "speed": 240.0},
}
UNSPENT: dict[str, dict[str, Any]] = {"overloaded": HURRIED}
# Refused, and one of the job's attempts is spent.
SPENT: dict[str, dict[str, Any]] = {
    "server_error": HURRIED,
    "conversation_locked": HURRIED,
    "request_timeout": HURRIED,
    "conflict": HURRIED,
}
# It is unknown whether a response was created: sent again under the same key, counted as a possible duplicate.
NEVER_CREATED: dict[str, dict[str, Any]] = {"bad_gateway_before": {}, "html_502": {}, "drop_before": {}}
CREATED: dict[str, dict[str, Any]] = {
    "bad_gateway_after": {},
    "gateway_timeout": {},
    "gateway_reset": {},
    "drop_after": {},
    "html_200": {"limits": {"max_in_flight": 4}},
    "hang": {"timeouts": {"read": 2}, "rate": 0.15},
}
# The id arrived, so it is not in doubt, even if nothing may be sent again.
HOLD = {"config": {"in_doubt": {"resend_below_usd": 0}}}
SALVAGED: dict[str, dict[str, Any]] = {"drop_mid_body": HOLD, "truncated_body": HOLD, "broken_200": HOLD}
# The response is known and fails: a new one is requested.
ASKED_AGAIN: dict[str, dict[str, Any]] = {
    "failed_server_error": HURRIED,
    "failed_rate_limited": HURRIED,
    "stuck_queued": {"timeouts": {"queued": 10}, "rate": 0.2},
    "stuck_in_progress": {"timeouts": {"run": 10}, "rate": 0.2},
}
# It would end the same way again: the row fails with this code, and the usage is charged.
FAILED = {
    "failed_invalid_prompt": "invalid_prompt",
    "incomplete": "max_output_tokens",
    "incomplete_length": "max_output_tokens",
    "content_filter": "content_filter",
    "empty_output": "empty_output",
    "refusal": "refusal",
    "requires_action": "requires_action",
}
# It succeeds, in whatever form; nothing is sent twice.
HARMLESS: dict[str, dict[str, Any]] = {
    "vanish": {"faults": {"vanish_after_s": 60}},
    "young_404": {"faults": {"young_404_s": 6}},
    "ill_typed": {},
    "terminal_in_create": {},
    "background_ignored": {"rate": 1.0},
    "unknown_status": {"rate": 1.0},
    "late_after_cancel": {"rate": 1.0},
    # Faults of streams, which such a run does not open.
    "stream_drop": {"rate": 1.0},
    "stream_error": {"rate": 1.0},
    "stuck_when_left": {"rate": 1.0},
    "odd_text": {"rate": 1.0},
    "odd_fields": {"rate": 1.0},
}
# A poll fails: it is repeated, and nothing is sent twice.
POLLED_AGAIN: dict[str, dict[str, Any]] = {
    "poll_500": {},
    "poll_429": {},
    "poll_404": {},
    "poll_drop": {},
    "poll_html": {},
    "poll_hang": {"timeouts": {"read": 2}, "rate": 0.1},
    "poll_unreadable": {"rate": 0.1},
}


async def struck(rehearse: Rehearse, fault: str, settings: dict[str, Any]) -> tuple[Rehearsal, Account]:
    """Run the job with only that fault."""
    settings = dict(settings)
    faults = {fault: settings.pop("rate", 0.3), **settings.pop("faults", {})}
    job = {**PATIENT, **settings.pop("job", {})}
    at = await rehearse(rows=ROWS, faults=faults, job=job, **settings)
    return at, await at.run()


def all_answered(account: Account) -> None:
    assert account.exit is ExitCode.OK
    assert account.states == {"succeeded": ROWS}
    assert all(row.output_text for row in account.results.values())


@pytest.mark.parametrize(("fault", "settings"), RATE_LIMITED.items())
async def test_a_rate_limited_create_costs_no_attempt(
    rehearse: Rehearse, fault: str, settings: dict[str, Any]
) -> None:
    _, account = await struck(rehearse, fault, settings)
    all_answered(account)
    assert account.refused[fault] > 0
    assert account.creates == ROWS + account.refused[fault]
    assert account.summary.attempts == ROWS
    # A server without a free place is no rate limit.
    assert account.summary.rate_limited == (0 if fault == "queue_full" else account.refused[fault])
    assert account.summary.cost_unknown == account.summary.possible_duplicates == 0


@pytest.mark.parametrize(("fault", "settings"), UNSPENT.items())
async def test_an_overload_costs_no_attempt(rehearse: Rehearse, fault: str, settings: dict[str, Any]) -> None:
    _, account = await struck(rehearse, fault, settings)
    all_answered(account)
    assert account.refused[fault] > 0
    assert account.creates == ROWS + account.refused[fault]
    assert account.summary.attempts == ROWS
    assert account.summary.rate_limited == account.summary.cost_unknown == account.summary.possible_duplicates == 0


@pytest.mark.parametrize(("fault", "settings"), SPENT.items())
async def test_a_transient_refusal_spends_an_attempt(
    rehearse: Rehearse, fault: str, settings: dict[str, Any]
) -> None:
    _, account = await struck(rehearse, fault, settings)
    all_answered(account)
    assert account.refused[fault] > 0
    assert account.summary.attempts == account.creates == ROWS + account.refused[fault]
    # Nothing was created by a refusal, so it cannot have cost anything.
    assert account.summary.cost_unknown == account.summary.possible_duplicates == 0


@pytest.mark.parametrize(("fault", "settings"), {**NEVER_CREATED, **CREATED}.items())
async def test_a_request_that_may_have_been_sent_is_counted_and_sent_again_under_its_key(
    rehearse: Rehearse, fault: str, settings: dict[str, Any]
) -> None:
    at, account = await struck(rehearse, fault, settings)
    all_answered(account)
    again = account.creates - ROWS
    assert again == (account.refused[fault] if fault in NEVER_CREATED else account.lost) > 0
    assert account.accepted == ROWS + account.lost
    assert account.summary.attempts == account.creates
    assert account.summary.possible_duplicates == account.summary.cost_unknown == again
    assert (
        account.summary.possible_duplicates_bound.bounded_pusd == account.summary.cost_unknown_bound.bounded_pusd > 0
    )
    assert account.ledger["duplicates"]["after_lost_reply"] == account.lost
    responses = await at.responses()
    assert len({(each["key"], each["idempotency_key"]) for each in responses}) == ROWS


@pytest.mark.parametrize(("fault", "settings"), SALVAGED.items())
async def test_the_response_of_an_id_in_a_broken_reply_is_polled(
    rehearse: Rehearse, fault: str, settings: dict[str, Any]
) -> None:
    _, account = await struck(rehearse, fault, settings)
    all_answered(account)
    assert account.lost > 0
    assert account.creates == account.accepted == account.summary.attempts == ROWS
    assert account.summary.cost_unknown == account.summary.possible_duplicates == 0


@pytest.mark.parametrize(("fault", "settings"), ASKED_AGAIN.items())
async def test_a_response_with_a_transient_failure_is_requested_again(
    rehearse: Rehearse, fault: str, settings: dict[str, Any]
) -> None:
    at, account = await struck(rehearse, fault, settings)
    all_answered(account)
    gone = account.accepted - ROWS
    assert gone > 0
    assert account.delivered == {"completed": ROWS, "cancelled" if "stuck" in fault else "failed": gone}
    assert account.creates == account.summary.attempts == account.accepted
    # The cost of a failed or cancelled response is unknown; but each is known, so none is a duplicate.
    assert account.summary.cost_unknown == gone
    assert account.summary.possible_duplicates == 0
    responses = await at.responses()
    assert len({each["idempotency_key"] for each in responses}) == account.accepted


@pytest.mark.parametrize(("fault", "code"), FAILED.items())
async def test_a_permanent_failure_of_a_response_fails_its_row(rehearse: Rehearse, fault: str, code: str) -> None:
    _, account = await struck(rehearse, fault, {})
    failed = account.states["failed"]
    assert account.exit is ExitCode.SOME_FAILED
    assert account.states == {"succeeded": ROWS - failed, "failed": failed}
    assert account.codes == {code: failed}
    assert account.creates == account.accepted == account.summary.attempts == ROWS
    if fault == "failed_invalid_prompt":
        assert account.summary.cost_unknown == failed
    else:
        assert account.summary.cost_unknown == 0
        assert account.summary.cost_pusd == account.ledger["cost_pusd"]


@pytest.mark.parametrize(("fault", "settings"), HARMLESS.items())
async def test_a_quirk_changes_nothing(rehearse: Rehearse, fault: str, settings: dict[str, Any]) -> None:
    _, account = await struck(rehearse, fault, settings)
    all_answered(account)
    assert account.creates == account.accepted == account.summary.attempts == ROWS
    assert account.summary.cost_unknown == account.summary.possible_duplicates == 0


@pytest.mark.parametrize(("fault", "settings"), POLLED_AGAIN.items())
async def test_a_failed_poll_is_repeated(rehearse: Rehearse, fault: str, settings: dict[str, Any]) -> None:
    _, account = await struck(rehearse, fault, settings)
    all_answered(account)
    assert sum(n for name, n in account.ledger["polls"]["refused"].items() if name != "total") > 0
    assert account.creates == account.accepted == account.summary.attempts == ROWS
    assert account.summary.cost_unknown == account.summary.possible_duplicates == 0
    assert account.summary.rate_limited == account.ledger["polls"]["refused"].get("poll_429", 0)


async def test_a_stale_response_is_given_up_and_its_answer_kept(rehearse: Rehearse) -> None:
    _, account = await struck(rehearse, "stale_snapshot", {"timeouts": {"queued": 10}})
    all_answered(account)
    # The cancel shows that it had completed long ago; it is paid for once.
    assert account.ledger["cancels"]["calls"] > 0
    assert account.creates == account.accepted == account.summary.attempts == ROWS
    assert account.summary.cost_unknown == 0


async def test_a_request_that_cannot_be_processed_fails_its_row_and_costs_nothing(rehearse: Rehearse) -> None:
    _, account = await struck(rehearse, "unprocessable", {"limits": {"max_in_flight": 2}})
    failed = account.states["failed"]
    assert account.exit is ExitCode.SOME_FAILED
    assert account.states == {"succeeded": account.accepted, "failed": failed}
    assert account.accepted + failed == account.summary.attempts == ROWS
    # A fault before the first acceptance may recur: it could be the job's, and halt the run.
    assert 0 < failed <= account.refused["unprocessable"] <= failed + 2
    assert account.summary.cost_unknown == account.summary.possible_duplicates == 0


async def test_a_missing_permission_halts_the_run_and_fails_no_row(rehearse: Rehearse) -> None:
    _, account = await struck(rehearse, "forbidden", {"limits": {"max_in_flight": 2}})
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "unsupported_country_region_territory"
    assert 1 <= account.refused["forbidden"] <= 2
    assert account.states["pending"] == ROWS - account.accepted
    assert "failed" not in account.states
    assert account.summary.attempts == account.accepted


# Other files test faults that halt a run, outages, invalid answers and function calls.
ELSEWHERE = {
    "never_kept",
    *("insufficient_quota", "quota_exhausted_after", "bad_key_after", "outages", "calm_after"),
    *("invalid_json", "wrong_schema", "unknown_tool", "broken_arguments", "wrong_arguments"),
    *("unreadable_200", "unreadable_end", "poll_swapped"),
    *BATCH_FAULTS,
    *FILE_FAULTS,
}
SETTINGS = {"retry_after", "vanish_after_s", "young_404_s", "calm_batches_after", "batch_late_s", "batch_cancel_s"}


def test_every_fault_is_tested() -> None:
    tables = (
        RATE_LIMITED,
        UNSPENT,
        SPENT,
        NEVER_CREATED,
        CREATED,
        SALVAGED,
        ASKED_AGAIN,
        FAILED,
        HARMLESS,
        POLLED_AGAIN,
    )
    alone = {"stale_snapshot", "unprocessable", "forbidden"}
    named = {fault for table in tables for fault in table} | alone | ELSEWHERE
    assert named == Faults.model_fields.keys() - SETTINGS
