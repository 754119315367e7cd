"""The servers that the sandbox imitates, and how a run fares at each of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from orchestrator.core.errors import ExitCode
from orchestrator.sandbox.faults.server_kinds import ImitatedServer
from orchestrator.sandbox.sandbox_settings import SandboxSettings, ServerKind
from orchestrator.sandbox.server.serve import running_sandbox
from tests.reliability.conftest import _key, _warm, rehearse
from tests.reliability.rehearsal import Rehearse

__all__ = ["_key", "_warm", "rehearse"]

pytestmark = pytest.mark.anyio

FREE: dict[str, Any] = {"prices": "free"}


async def test_ogx_refuses_more_than_its_places() -> None:
    settings = SandboxSettings.model_validate({"like": "ogx", "latency": {"queue": 600, "run": 600}})
    headers = {"authorization": "Bearer sk-1"}
    body = {"model": "gpt-5-mini", "input": "Hello.", "background": True}
    async with running_sandbox(settings) as url, httpx.AsyncClient(verify=False, headers=headers) as http:  # noqa: S501
        replies = [await http.post(f"{url}/responses", json=body) for _ in range(130)]
    assert [reply.status_code for reply in replies] == [200] * 110 + [400] * 20
    assert "queue is full" in replies[-1].json()["detail"]


async def test_llama_cpp_answers_in_the_create_and_keeps_nothing(rehearse: Rehearse) -> None:
    at = await rehearse(rows=12, sandbox={"like": "llama-cpp"}, config=FREE)
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.OK
    assert account.creates == 12
    async with at.orchestrator() as orchestrator:
        found = {each.name: each for each in await orchestrator.doctor()}
    assert all(each.ok for each in found.values())
    assert "ignored" in found["background"].detail
    assert "not kept" in found["polling"].detail
    assert "not counted" in found["tokens"].detail


async def test_llama_cpp_answers_by_the_end_of_a_stream(rehearse: Rehearse) -> None:
    at = await rehearse(rows=6, sandbox={"like": "llama-cpp"}, config=FREE, job={"stream": True})
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.OK
    assert account.creates == account.summary.attempts == 6
    assert all(row.output_text for row in account.results.values())


async def test_litellm_has_ids_of_its_own(rehearse: Rehearse) -> None:
    at = await rehearse(rows=6, sandbox={"like": "litellm"}, provider={"profile": "litellm"}, config=FREE)
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.OK
    assert all((row.response_id or "").startswith("litellm_poll_") for row in account.results.values())


async def test_a_wrong_key_at_litellm_halts(rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-bad-0123456789")
    at = await rehearse(rows=6, sandbox={"like": "litellm"}, provider={"profile": "litellm"}, config=FREE)
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "no_db_connection"
    async with at.orchestrator() as orchestrator:
        found = {each.name: each for each in await orchestrator.doctor()}
    assert "refuses the key" in found["provider"].detail
    assert "No connected db" in found["provider"].detail


def test_what_a_restart_of_ogx_interrupted_stands_still() -> None:
    ogx, usual = ImitatedServer(ServerKind.OGX, 100.0), ImitatedServer(None, 100.0)
    for created_at, ends_at, shown in ((90.0, 110.0, 90.0), (90.0, 95.0, 200.0), (150.0, 160.0, 200.0)):
        assert ogx.shown_at(200.0, created_at=created_at, ends_at=ends_at) == shown
        assert usual.shown_at(200.0, created_at=created_at, ends_at=ends_at) == 200.0
