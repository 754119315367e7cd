"""``doctor`` tries with two small requests what it reports."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from orchestrator.app.doctor import Finding

from .gateway import Call, error
from .rehearsal import Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

FREE: dict[str, Any] = {"prices": "free"}
SLOW = {"queue": 10, "run": 20}


async def findings(at: Rehearsal, **options: Any) -> dict[str, Finding]:
    async with at.orchestrator() as orchestrator:
        return {finding.name: finding for finding in await orchestrator.doctor(**options)}


def at_address(at: Rehearsal, base_url: str) -> None:
    provider = at.config.provider.model_copy(update={"base_url": base_url})
    at.config = at.config.model_copy(update={"provider": provider})


async def test_a_server_with_everything(rehearse: Rehearse) -> None:
    found = await findings(await rehearse(sandbox={"latency": SLOW}, config=FREE), model="gpt-6-luna")
    assert all(finding.ok for finding in found.values())
    assert {"background", "polling", "cancel", "delete", "tokens", "model"} <= set(found)
    assert "queued" in found["background"].detail


async def test_whether_it_streams(rehearse: Rehearse) -> None:
    found = await findings(await rehearse(sandbox={"latency": SLOW}, config=FREE))
    assert found["stream"].detail == "events arrive, the first is response.created"

    def refusing(call: Call) -> Response | None:
        return error(400, "unsupported_value", "No streams.") if call.fields.get("stream") else None

    found = await findings(await rehearse(script=refusing, sandbox={"latency": SLOW}, config=FREE))
    assert found["stream"].ok
    assert found["stream"].detail.startswith("not supported (HTTP 400 unsupported_value: No streams.)")
    assert found["background"].ok


async def test_the_trial_leaves_no_response_behind(rehearse: Rehearse) -> None:
    calls: list[str] = []

    def script(call: Call) -> None:
        # Neither a create nor a cancel: a delete.
        kind = call.path.rpartition("/")[2]
        calls.append("delete" if kind.startswith("resp_") and call.kind == "create" else kind)

    await findings(await rehearse(script=script, sandbox={"latency": SLOW}, config=FREE))
    assert (calls.count("responses"), calls.count("cancel"), calls.count("delete")) == (2, 2, 2)


async def test_the_end_of_a_model_is_reported_with_its_day(rehearse: Rehearse) -> None:
    found = await findings(await rehearse(config=FREE), model="gpt-5-mini")
    assert "2026-12-11" in found["shutdown"].detail
    assert "shutdown" not in await findings(await rehearse(config=FREE), model="gpt-6-luna")


@pytest.mark.parametrize("prices", [{}, FREE])
async def test_a_server_that_keeps_nothing_is_not_ok(rehearse: Rehearse, prices: dict[str, Any]) -> None:
    at = await rehearse(faults={"never_kept": 1}, sandbox={"latency": SLOW}, config=prices)
    found = await findings(at)
    assert not found["polling"].ok
    assert "404" in found["polling"].detail


async def test_a_server_that_ignores_the_background(rehearse: Rehearse) -> None:
    found = await findings(await rehearse(faults={"background_ignored": 1}, config=FREE))
    assert "ignored" in found["background"].detail
    assert "lane: sync" in (found["background"].hint or "")


@pytest.mark.parametrize(("asked", "right"), [("", "/v1"), ("/v1/v1", "/v1")])
async def test_the_right_address_is_named(rehearse: Rehearse, asked: str, right: str) -> None:
    at = await rehearse()
    root = at.base_url.removesuffix("/v1")
    at_address(at, f"{root}{asked}")
    found = await findings(at)
    assert not found["provider"].ok
    assert found["provider"].hint == f"write provider.base_url: {root}{right}"
    assert "polling" not in found


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (error(400, "model_not_loaded", "No model is loaded."), "HTTP 400 model_not_loaded: No model is loaded."),
        (JSONResponse({"detail": "Queue is full."}, 400), "HTTP 400: Queue is full."),
    ],
)
async def test_the_servers_own_words_are_shown(rehearse: Rehearse, refusal: Response, words: str) -> None:
    at = await rehearse(script=lambda call: refusal if call.kind == "create" else None, config=FREE)
    found = await findings(at)
    assert (found["create"].ok, found["create"].detail) == (False, words)


async def test_calls_that_are_not_offered_are_named(rehearse: Rehearse) -> None:
    def script(call: Call) -> Response | None:
        return error(405, None, "Method Not Allowed") if call.kind == "cancel" else None

    found = await findings(await rehearse(script=script, sandbox={"latency": SLOW}, config=FREE))
    assert found["cancel"].detail == "not supported (HTTP 405 invalid_request_error: Method Not Allowed)"


async def test_a_model_that_is_not_offered(rehearse: Rehearse) -> None:
    found = await findings(await rehearse(config=FREE), model="no-such-model")
    assert not found["model"].ok


async def test_an_expensive_model_is_tried_only_if_it_is_named(rehearse: Rehearse) -> None:
    at = await rehearse(sandbox={"latency": SLOW})
    assert "million" in (await findings(at))["model"].detail
    assert (await at.ask("/_ledger"))["seen_by_client"]["cost_pusd"] <= 1_000_000_000
