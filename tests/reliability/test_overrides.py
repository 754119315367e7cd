"""Servers with misleading error statuses: overrides in the config, and built-in profiles."""

from __future__ import annotations

import pytest
from starlette.responses import Response

from orchestrator.config import ErrorOverride
from orchestrator.core.errors import ExitCode

from .gateway import Call, error
from .rehearsal import Rehearse

pytestmark = pytest.mark.anyio

ROWS = 12
QUEUE_IS_FULL = {"status": 400, "text": "queue is full", "class": "rate_limited"}
FULL = {**QUEUE_IS_FULL, "class": "full"}


@pytest.mark.parametrize(
    "provider",
    [{"profile": "ogx"}, {"errors": [FULL]}, {"errors": [QUEUE_IS_FULL]}],
    ids=["ogx", "full", "rate_limited"],
)
async def test_a_full_queue_is_waited_for_if_the_config_says_so(
    rehearse: Rehearse, provider: dict[str, object]
) -> None:
    at = await rehearse(rows=ROWS, faults={"queue_full": 0.4}, provider=provider)
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.refused["queue_full"] > 0
    assert account.summary.attempts == account.accepted == ROWS


async def test_a_full_queue_is_a_wrong_request_without_an_override(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, faults={"queue_full": 0.4}, limits={"max_in_flight": 2})
    account = await at.run()
    # Without an accepted request it would halt; with one at the start the others fail alone.
    assert account.exit is ExitCode.SOME_FAILED
    failed = account.states["failed"]
    assert account.codes == {"http_400": failed}
    assert account.accepted == ROWS - failed
    assert account.summary.attempts == ROWS
    # Requests before the first success were queued again, and cost nothing.
    assert failed <= account.refused["queue_full"] <= failed + 2


async def test_a_server_that_is_full_from_the_start_halts_a_run_without_an_override(rehearse: Rehearse) -> None:
    at = await rehearse(rows=ROWS, faults={"queue_full": 1})
    account = await at.run()
    assert account.exit is ExitCode.HALTED
    assert account.states == {"pending": ROWS}
    assert account.summary.attempts == 0


@pytest.mark.parametrize(
    ("override", "code", "attempts"),
    [
        ({"code": "server_error", "class": "fail"}, "server_error", 1),
        ({"status": 500, "class": "retry"}, "attempts_exhausted", 3),
        ({"status": 500, "class": "in_doubt"}, "submit_in_doubt", 3),
    ],
)
async def test_an_error_of_a_create_is_what_the_config_says(
    rehearse: Rehearse, override: dict[str, object], code: str, attempts: int
) -> None:
    def script(call: Call) -> Response | None:
        return error(500, "server_error") if call.kind == "create" and call.key == "row-3" else None

    at = await rehearse(rows=6, job={"retry": {"attempts": 3}}, provider={"errors": [override]}, script=script)
    account = await at.run()
    assert account.codes == {code: 1}
    assert account.results["row-3"].attempts == attempts


async def test_an_error_of_class_halt_halts_the_run(rehearse: Rehearse) -> None:
    def script(call: Call) -> Response | None:
        return error(400, "tenant_suspended") if call.kind == "create" and call.ordinal > 4 else None

    provider = {"errors": [{"code": "tenant_suspended", "class": "halt"}]}
    at = await rehearse(rows=ROWS, provider=provider, script=script)
    account = await at.run()
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "tenant_suspended"
    assert account.states == {"succeeded": 4, "pending": ROWS - 4}


@pytest.mark.parametrize(("status", "profile"), [(400, "litellm"), (410, "openai")])
async def test_a_response_reported_as_unknown_by_another_status_expires(
    rehearse: Rehearse, status: int, profile: str
) -> None:
    def script(call: Call) -> Response | None:
        return error(status, None, "Response not found.") if call.kind == "poll" and call.key == "row-3" else None

    at = await rehearse(
        rows=6,
        provider={"profile": profile},
        config={"in_doubt": {"resend_below_usd": 0}},
        script=script,
        speed=240.0,
    )
    account = await at.run()
    assert account.codes == {"response_expired": 1}
    assert account.creates == 6
    assert account.summary.elapsed_s < 600


async def test_a_failure_of_a_response_is_what_the_config_says(rehearse: Rehearse) -> None:
    override = {"code": "invalid_prompt", "met": "failed", "class": "retry"}
    at = await rehearse(
        rows=ROWS,
        faults={"failed_invalid_prompt": 0.3},
        job={"retry": {"attempts": 50}},
        provider={"errors": [override]},
        speed=180.0,
    )
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.summary.attempts == account.accepted > ROWS
    assert account.summary.cost_unknown == account.accepted - ROWS


async def test_status_aliases_of_the_config_are_used(rehearse: Rehearse) -> None:
    """With the alias, a queue that never moves ends at the queued timeout, and not hours later."""
    aliases = {"pending": "queued", "running": "in_progress"}
    at = await rehearse(
        rows=ROWS, faults={"unknown_status": 1}, provider={"status_aliases": aliases}, script=lambda _: None
    )
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.creates == account.summary.attempts == ROWS


def test_every_class_in_the_schema_can_be_used() -> None:
    offered = ErrorOverride.model_json_schema()["properties"]["class"]["enum"]
    assert len(offered) == 10
    for name in offered:
        met = "poll" if name == "missing" else "create"
        assert ErrorOverride.model_validate({"class": name, "status": 418, "met": met}).action == name
