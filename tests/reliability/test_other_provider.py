"""A provider that does not know what the run left open there, or that keeps nothing, is not paid twice."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest
from starlette.responses import JSONResponse, Response

from orchestrator.core.errors import ExitCode
from orchestrator.core.events import Warned
from orchestrator.core.states import State

from .gateway import Call, error
from .rehearsal import RUN, Account, Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

ROWS = 12
KEY_B = "sk-another-0123456789"
SLOW = {"queue": 30, "run": 60}


class Projects:
    """Shows a response only to the key and project that created it; until ``ends``, none has ended."""

    def __init__(self, open_at_once: int = ROWS) -> None:
        self.owners: dict[str, tuple[str, str]] = {}
        self.ends = False
        self.lost: set[str] = set()
        self.all_open = anyio.Event()
        self._open_at_once = open_at_once

    def __call__(self, call: Call) -> Response | None:
        owner = (call.headers["authorization"], call.headers.get("openai-project", ""))
        if call.kind == "create":
            response_id = f"resp_{len(self.owners)}"
            self.owners[response_id] = owner
            if len(self.owners) == self._open_at_once:
                self.all_open.set()
            return JSONResponse({"id": response_id, "object": "response", "status": "queued"})
        if self.owners.get(call.response_id) != owner or call.response_id in self.lost:
            return error(404, None, f"Response with id '{call.response_id}' not found.")
        return JSONResponse(shown(call.response_id, ended=self.ends))


def shown(response_id: str, *, ended: bool) -> dict[str, Any]:
    body = {"id": response_id, "object": "response", "status": "completed" if ended else "in_progress"}
    message = {"type": "message", "content": [{"type": "output_text", "text": "Well."}]}
    usage = {"input_tokens": 10, "output_tokens": 10, "total_tokens": 20}
    return {**body, "model": "gpt-5-mini", "output": [message] if ended else [], "usage": usage if ended else None}


async def left_open(at: Rehearsal, projects: Projects) -> None:
    """Run the job until all rows are open, and stop it."""
    async with at.orchestrator() as orchestrator, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(orchestrator.run, at.job, name=RUN))
        await projects.all_open.wait()
        orchestrator.stop()
    projects.ends = True


def warnings(at: Rehearsal) -> set[str]:
    return {event.code for event in at.events if isinstance(event, Warned)}


def halted(account: Account, projects: Projects, creates: int) -> None:
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "responses_unknown"
    assert account.summary.requests[State.SUBMITTED] == creates == len(projects.owners)


async def test_a_resumed_run_with_another_key_halts_and_continues_with_the_first(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects = Projects()
    at = await rehearse(rows=ROWS, script=projects)
    await left_open(at, projects)
    with monkeypatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY_B)
        halted(await at.run(same_bill=False), projects, ROWS)
    assert warnings(at) == {"provider_changed"}
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.OK
    assert len(projects.owners) == ROWS


async def test_nothing_new_is_sent_with_another_key(rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch) -> None:
    projects = Projects(4)
    at = await rehearse(rows=ROWS, script=projects, limits={"max_in_flight": 4})
    await left_open(at, projects)
    monkeypatch.setenv("OPENAI_API_KEY", KEY_B)
    halted(await at.run(same_bill=False), projects, 4)


async def test_a_resumed_run_with_another_project_halts(rehearse: Rehearse) -> None:
    projects = Projects()
    at = await rehearse(rows=ROWS, script=projects)
    await left_open(at, projects)
    provider = at.config.provider.model_copy(update={"headers": {"OpenAI-Project": "proj_b"}})
    at.config = at.config.model_copy(update={"provider": provider})
    halted(await at.run(same_bill=False), projects, ROWS)


async def test_a_key_of_the_same_project_only_warns(rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch) -> None:
    projects = Projects(4)
    at = await rehearse(rows=ROWS, script=projects, limits={"max_in_flight": 4})
    await left_open(at, projects)
    monkeypatch.setenv("OPENAI_API_KEY", KEY_B)
    projects.owners = dict.fromkeys(projects.owners, (f"Bearer {KEY_B}", ""))
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.OK
    assert warnings(at) == {"provider_changed"}
    assert len(projects.owners) == ROWS


async def test_a_server_that_lost_everything_halts_until_that_is_accepted(rehearse: Rehearse) -> None:
    projects = Projects()
    at = await rehearse(rows=ROWS, script=projects)
    await left_open(at, projects)
    projects.lost = set(projects.owners)
    halted(await at.run(same_bill=False), projects, ROWS)
    async with at.orchestrator() as orchestrator:
        await orchestrator.run(at.job, name=RUN, accept_expired=True)
    account = await at.account(same_bill=False)
    assert account.exit is ExitCode.OK
    assert len(projects.owners) == 2 * ROWS


async def test_a_few_that_are_lost_are_requested_again(rehearse: Rehearse) -> None:
    projects = Projects()
    at = await rehearse(rows=ROWS, script=projects)
    await left_open(at, projects)
    projects.lost = {"resp_1", "resp_5"}
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.OK
    assert len(projects.owners) == ROWS + 2


async def test_the_key_is_not_in_the_database(rehearse: Rehearse) -> None:
    projects = Projects()
    at = await rehearse(rows=ROWS, script=projects)
    await left_open(at, projects)
    for file in at.folder.iterdir():
        assert b"sk-rehearsal" not in file.read_bytes()


async def test_a_server_that_keeps_nothing_is_sent_only_a_few(rehearse: Rehearse) -> None:
    at = await rehearse(rows=300, faults={"never_kept": 1}, sandbox={"latency": SLOW})
    account = await at.run()
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "response_expired"
    assert account.creates <= 70


async def test_a_resumed_run_at_a_server_that_keeps_nothing_sends_no_more(rehearse: Rehearse) -> None:
    at = await rehearse(rows=300, faults={"never_kept": 1}, sandbox={"latency": SLOW})
    await at.run()
    account = await at.run()
    assert account.exit is ExitCode.HALTED
    assert account.creates <= 70


async def test_a_server_that_shows_responses_late_is_used_in_full(rehearse: Rehearse) -> None:
    at = await rehearse(rows=150, faults={"young_404": 1, "young_404_s": 5})
    account = await at.run()
    assert account.exit is ExitCode.OK
    assert account.creates == 150


@pytest.mark.parametrize("body", [(418, "teapot", "I am one."), (400, None, "Malformed.")])
async def test_polls_that_are_all_refused_alike_halt(rehearse: Rehearse, body: tuple[int, str | None, str]) -> None:
    at = await rehearse(rows=ROWS, script=lambda call: error(*body) if call.kind == "poll" else None)
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == (body[1] or "invalid_request_error")
    assert account.states["submitted"] >= ROWS - account.states.get("succeeded", 0)
    assert account.creates == ROWS


def no_database(call: Call) -> Response | None:
    """LiteLLM without a database, called with a wrong key."""
    wrong = {"message": "Authentication Error, No connected db.", "type": "no_db_connection", "code": "400"}
    return JSONResponse({"error": {**wrong, "param": None}}, 400) if call.kind == "poll" else None


@pytest.mark.parametrize("profile", ["litellm", "openai"])
async def test_a_wrong_key_at_litellm_expires_nothing(rehearse: Rehearse, profile: str) -> None:
    at = await rehearse(rows=ROWS, script=no_database, provider={"profile": profile})
    account = await at.run(same_bill=False)
    assert account.exit is ExitCode.HALTED
    assert account.summary.run.reason == "no_db_connection"
    assert not {"failed", "cancelled", "succeeded"} & account.states.keys()
    assert account.creates <= ROWS
