"""Runs that receive events of ended responses: fewer polls, and lost replies are found instead of paid for again."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from orchestrator.app.doctor import Finding
from orchestrator.core.errors import ConfigError, ExitCode
from orchestrator.core.events import Warned

from .rehearsal import Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
SPEED = 5.0
ROWS = 24
HOLD, SEND_AGAIN = {"resend_below_usd": 0}, {"resend_below_usd": 0.05}


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", SECRET)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def with_webhooks(
    rehearse: Rehearse,
    *,
    events: dict[str, Any] | None = None,
    in_doubt: dict[str, Any] | None = None,
    sandbox: dict[str, Any] | None = None,
    listen: dict[str, Any] | None = None,
    **settings: Any,
) -> Rehearsal:
    address = f"127.0.0.1:{free_port()}"
    webhooks = {"deliver_to": f"http://{address}/openai", "secret": SECRET, **(events or {})}
    latency = {"queue": 0.1, "run": {"from_s": 0.5, "to_s": 1.5}}
    return await rehearse(
        **({"rows": ROWS, "speed": SPEED} | settings),
        sandbox={"webhooks": webhooks, "latency": latency, **(sandbox or {})},
        config={"webhooks": {"listen": address, **(listen or {})}, "in_doubt": in_doubt or {}},
    )


async def test_announced_responses_are_polled_once(rehearse: Rehearse) -> None:
    at = await with_webhooks(rehearse, rows=150, limits={"max_in_flight": 10})
    account = await at.run()
    assert account.states == {"succeeded": 150}
    # The first ones are polled as without events: nothing is known of their reliability.
    assert account.summary.polls <= 150 + 80


async def test_polls_do_all_the_work_if_no_event_comes(rehearse: Rehearse) -> None:
    at = await with_webhooks(rehearse, events={"lost": 1})
    account = await at.run()
    assert account.states == {"succeeded": ROWS}
    assert account.summary.polls >= ROWS


async def test_forged_and_repeated_events_cost_no_poll(rehearse: Rehearse) -> None:
    at = await with_webhooks(rehearse, events={"repeated": 1, "forged": 1}, rows=60, limits={"max_in_flight": 6})
    account = await at.run()
    assert account.states == {"succeeded": 60}
    assert account.ledger["polls"]["calls"] == account.summary.polls <= 60 + 80
    refused = [event for event in at.events if isinstance(event, Warned) and event.code == "webhook_refused"]
    assert len(refused) == 1
    assert "no signature fits" in refused[0].message


@pytest.mark.parametrize("in_doubt", [HOLD, SEND_AGAIN], ids=["expensive", "cheap"])
async def test_responses_whose_replies_were_lost_are_found(rehearse: Rehearse, in_doubt: dict[str, Any]) -> None:
    at = await with_webhooks(rehearse, faults={"drop_after": 0.4}, in_doubt=in_doubt)
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.states == {"succeeded": ROWS}
    assert account.lost > 0
    assert account.accepted == account.creates == account.summary.attempts == ROWS
    assert account.summary.possible_duplicates == account.summary.cost_unknown == 0


@pytest.mark.parametrize(
    ("in_doubt", "states"),
    [(HOLD, {"succeeded", "in_doubt"}), (SEND_AGAIN, {"succeeded"})],
    ids=["held", "sent again"],
)
async def test_without_an_event_a_request_in_doubt_is_judged_as_ever(
    rehearse: Rehearse, in_doubt: dict[str, Any], states: set[str]
) -> None:
    at = await with_webhooks(
        rehearse, events={"lost": 1}, faults={"drop_after": 0.3}, in_doubt={**in_doubt, "wait_for_event": 3}
    )
    account = await at.run()
    assert set(account.states) == states
    assert account.lost > 0
    assert account.states.get("in_doubt", 0) + account.summary.possible_duplicates == account.lost


async def test_an_event_that_comes_too_late_makes_the_cost_known(rehearse: Rehearse) -> None:
    at = await with_webhooks(
        rehearse,
        events={"delay": 6.0},
        faults={"drop_after": 0.3},
        in_doubt={**SEND_AGAIN, "wait_for_event": 0},
        limits={"max_in_flight": 2},
    )
    account = await at.run()
    assert account.states == {"succeeded": ROWS}
    assert account.summary.possible_duplicates == account.lost > 0
    # All but those whose event was still to come at the end.
    assert account.summary.cost_unknown < account.lost


async def test_rows_held_by_an_earlier_process_are_found_by_their_events(rehearse: Rehearse) -> None:
    at = await with_webhooks(rehearse, faults={"drop_after": 0.4}, in_doubt=HOLD, events={"delay": 20})
    webhooks, at.config = at.config, at.config.model_copy(update={"webhooks": None})
    held = await at.run()
    assert held.states["in_doubt"] == held.lost > 0
    at.config = webhooks
    account = await at.run()
    assert account.states == {"succeeded": ROWS}
    assert account.creates == ROWS


async def test_an_endpoint_is_made_for_the_run_and_removed(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_WEBHOOK_SECRET")
    at = await with_webhooks(
        rehearse,
        rows=60,
        limits={"max_in_flight": 6},
        events={"secret": None},
        listen={"public_url": "https://hooks.example.org/openai"},
    )
    headers = {"Authorization": "Bearer sk-test"}
    async with httpx.AsyncClient(base_url=at.base_url, verify=False, headers=headers) as client:  # noqa: S501
        left = {"url": "https://hooks.example.org", "event_types": ["batch.completed"]}
        await client.post("/webhook_endpoints", json={"name": "of another program", **left})
        account = await at.run()
        names = [each["name"] for each in (await client.get("/webhook_endpoints")).json()["data"]]
    assert account.states == {"succeeded": 60}
    assert account.summary.polls <= 60 + 80
    assert names == ["of another program"]
    assert not [event for event in at.events if isinstance(event, Warned)]


async def test_a_run_whose_port_is_taken_polls_as_without_webhooks(rehearse: Rehearse) -> None:
    at = await with_webhooks(rehearse, faults={"drop_after": 0.3}, in_doubt=SEND_AGAIN)
    assert at.config.webhooks is not None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", at.config.webhooks.port))
        taken.listen()
        account = await at.run()
    assert account.states == {"succeeded": ROWS}
    assert account.summary.possible_duplicates == account.lost > 0
    assert [event.code for event in at.events if isinstance(event, Warned)] == ["webhooks_unavailable"]


async def test_a_run_without_its_secret_or_with_an_impossible_address_does_not_begin(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = await with_webhooks(rehearse, listen={"listen": "192.0.2.1:8787"})
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1") as refused:
        await at.run()
    assert "webhooks.listen" in (refused.value.hint or "")
    monkeypatch.delenv("OPENAI_WEBHOOK_SECRET")
    began = len(at.events)
    with pytest.raises(ConfigError, match="names OPENAI_WEBHOOK_SECRET, which is not set"):
        await at.run()
    assert len(at.events) == began


async def doctor_on(at: Rehearsal) -> Finding:
    async with at.orchestrator() as orchestrator:
        findings = {finding.name: finding for finding in await orchestrator.doctor()}
    return findings["webhooks"]


async def test_the_doctor_has_a_test_event_sent(rehearse: Rehearse) -> None:
    at = await with_webhooks(rehearse, events={"secret": None}, listen={"public_url": "https://hooks.example.org"})
    found = await doctor_on(at)
    assert found.ok
    assert "a test event reached 127.0.0.1" in found.detail
    headers = {"Authorization": "Bearer sk-test"}
    async with httpx.AsyncClient(base_url=at.base_url, verify=False, headers=headers) as client:  # noqa: S501
        assert (await client.get("/webhook_endpoints")).json()["data"] == []


async def test_the_doctor_names_a_missing_secret_and_a_taken_address(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = await with_webhooks(rehearse)
    assert at.config.webhooks is not None
    found = await doctor_on(at)
    assert (found.ok, "OPENAI_WEBHOOK_SECRET is set" in found.detail) == (True, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", at.config.webhooks.port))
        taken.listen()
        found = await doctor_on(at)
        assert (found.ok, "cannot listen on" in found.detail) == (False, True)
    monkeypatch.delenv("OPENAI_WEBHOOK_SECRET")
    found = await doctor_on(at)
    assert (found.ok, "which is not set" in found.detail) == (False, True)
