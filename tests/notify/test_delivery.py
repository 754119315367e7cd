"""One delivery by each channel, and all the ways in which a receiver fails."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from orchestrator.notify.delivery import Notice, deliver, ping_start
from orchestrator.notify.settings import NotifyRule
from orchestrator.testing import FakeClock

from .receiver import receiving

pytestmark = pytest.mark.anyio

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOTICE = Notice(
    message_id="msg_1",
    event="halted",
    run="nightly",
    run_uid="0123456789abcdef",
    database="runs.db",
    exit_code=4,
    subject="nightly halted: budget",
    body=b'{"event":"halted","run":"nightly"}',
)


async def tried(environ: dict[str, str] | None = None, now: float | None = None, **rule: Any) -> str | None:
    at = FakeClock().now() if now is None else now
    return await deliver(NotifyRule(**rule), NOTICE, now=at, environ=environ or {})


async def test_a_webhook_verifies_with_the_standard_library() -> None:
    with receiving() as receiver:
        assert await tried({"HOOK": SECRET}, now=time.time(), webhook=f"{receiver.url}/in", secret_env="HOOK") is None
        [delivery] = receiver.deliveries
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    assert headers["webhook-id"] == "msg_1"
    assert Webhook(SECRET).verify(delivery.body, headers) == json.loads(NOTICE.body)


async def test_a_webhook_without_a_secret_has_an_id_and_no_signature() -> None:
    with receiving() as receiver:
        assert await tried(webhook=receiver.url) is None
        assert "webhook-signature" not in {name.lower() for name in receiver.deliveries[0].headers}


@pytest.mark.parametrize("status", [301, 404, 500])
async def test_any_status_but_success_is_a_failure(status: int) -> None:
    with receiving(status) as receiver:
        assert await tried(webhook=receiver.url) == f"HTTP {status}"


async def test_a_receiver_that_hangs_or_is_gone_costs_its_timeout_at_most() -> None:
    with receiving(0) as receiver:
        assert await tried(webhook=receiver.url, timeout=0.2) == "no end within 0.2 s"
        gone = receiver.url
    assert await tried(webhook=f"{gone}/a-secret-path") == "ConnectError"


async def test_a_ping_calls_start_and_the_exit_code_of_one_run() -> None:
    with receiving() as receiver:
        rule = NotifyRule(ping_env="CHECK")
        await ping_start(rule, NOTICE.run_uid, environ={"CHECK": f"{receiver.url}/uuid"})
        assert await deliver(rule, NOTICE, now=0.0, environ={"CHECK": f"{receiver.url}/uuid/"}) is None
        start, end = receiver.deliveries
    assert [each.path.partition("?")[0] for each in (start, end)] == ["/uuid/start", "/uuid/4"]
    assert start.path.partition("rid=")[2] == end.path.partition("rid=")[2] != ""


async def test_a_ping_that_fails_at_the_start_stops_nothing() -> None:
    await ping_start(NotifyRule(ping_env="CHECK"), "1", environ={"CHECK": "http://127.0.0.1:1/x"})
    await ping_start(NotifyRule(ping_env="CHECK"), "1", environ={})


async def test_a_command_gets_its_arguments_and_the_notice(tmp_path: Path) -> None:
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]) + sys.stdin.read())"
    out = tmp_path / "out"
    command = [sys.executable, "-c", script, str(out), "{run}", "{event}", "{database}"]
    assert await tried(command=command) is None
    assert out.read_text() == "nightly halted runs.db" + NOTICE.body.decode()


@pytest.mark.parametrize(
    ("script", "error"),
    [("import sys; sys.exit(3)", "exit code 3"), ("import time; time.sleep(60)", "no end within 0.5 s")],
)
async def test_a_command_that_fails_or_hangs(script: str, error: str) -> None:
    assert await tried(command=[sys.executable, "-c", script], timeout=0.5) == error


async def test_a_command_need_not_read_the_notice() -> None:
    # More than a pipe holds, so that the end of the command is certainly met while it is written.
    long = replace(NOTICE, body=b"x" * 1_000_000)
    assert await deliver(NotifyRule(command=["true"]), long, now=0.0, environ={}) is None


async def test_a_command_that_is_not_there() -> None:
    assert await tried(command=["/no/such/program"]) == "No such file or directory"


@pytest.mark.parametrize("secret", ["", "not base64!"])
async def test_a_wrong_secret_is_said_without_it(secret: str) -> None:
    with receiving() as receiver:
        error = await tried({"HOOK": secret}, webhook=receiver.url, secret_env="HOOK")
        assert receiver.deliveries == []
    assert error
    assert "not base64!" not in error


async def test_without_apprise_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    error = await tried({"OPS": "json://127.0.0.1:1"}, apprise_env="OPS")
    assert error == "apprise is not installed: pip install 'responses-orchestrator[notify]'"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"webhook": "http://a.example", "command": ["a"]},
        {"webhook": "ftp://a.example"},
        {"webhook": "https://user:secret@a.example"},
        {"ping_env": "A", "secret_env": "B"},
        {"command": [], "on": ["failed"]},
        {"webhook": "http://a.example", "on": ["lunch"]},
    ],
)
def test_a_rule_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|Input|at least|should|is for a webhook"):
        NotifyRule(**wrong)


def test_the_title_and_the_id_of_a_receiver_hold_no_secret() -> None:
    rule = NotifyRule(webhook="https://hooks.example/services/T0K3N?key=S3CR3T")
    assert rule.title == "webhook at hooks.example"
    assert rule.receiver == NotifyRule(webhook=rule.webhook, timeout=5, on=["finished"]).receiver
    assert rule.receiver != NotifyRule(webhook="https://hooks.example/other").receiver
