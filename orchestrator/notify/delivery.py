"""Delivers one notice to one receiver; what goes wrong is a value, because a notice never changes how a run ends.

httpx is imported by the first delivery: most runs notify no one, and start sooner without it.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
import orjson

from orchestrator.core.errors import OrchestratorError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.printable import printable
from orchestrator.notify.settings import Channel, NotifyRule, secret_of
from orchestrator.notify.signature import signed_headers

__all__ = ["Notice", "deliver", "ping_start"]


@fast_dataclass
class Notice:
    """What a receiver gets of one event. ``message_id`` is the same at each try, so that a receiver can drop
    repetitions; ``body`` is JSON without prompts, answers or keys of rows.
    """

    message_id: str
    event: str
    run: str
    run_uid: str
    database: str
    exit_code: int
    subject: str
    body: bytes


async def deliver(
    rule: NotifyRule, notice: Notice, *, now: float, environ: Mapping[str, str] = os.environ
) -> str | None:
    """Try once to deliver a notice; returns what went wrong, without any secret, or None."""
    import httpx

    try:
        with anyio.fail_after(rule.timeout):
            match rule.channel:
                case Channel.COMMAND:
                    return await _run_command(rule, notice)
                case Channel.WEBHOOK:
                    return await _post(rule, notice, environ, now)
                case Channel.PING:
                    return await _ping(rule, f"/{notice.exit_code}", notice.run_uid, notice.body, environ)
                case Channel.APPRISE:
                    return await anyio.to_thread.run_sync(_apprise, rule, notice, environ, abandon_on_cancel=True)
    except TimeoutError:
        return f"no end within {rule.timeout:g} s"
    except httpx.HTTPError as error:
        # Its text may hold the URL, and the URL a secret.
        return type(error).__name__
    except OrchestratorError as error:
        return error.message
    except OSError as error:
        return error.strerror or type(error).__name__


async def ping_start(rule: NotifyRule, run_uid: str, *, environ: Mapping[str, str] = os.environ) -> None:
    """Call a check's ``/start`` once; if that fails, the check notices it by itself."""
    import httpx

    try:
        with anyio.move_on_after(min(rule.timeout, 5.0)):
            await _ping(rule, "/start", run_uid, b"", environ)
    except (httpx.HTTPError, OrchestratorError, OSError):
        return


async def _run_command(rule: NotifyRule, notice: Notice) -> str | None:
    filled = {"run": notice.run, "event": notice.event, "database": notice.database}
    arguments = [_filled(part, filled) for part in rule.command or ()]
    async with await anyio.open_process(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        if process.stdin is not None:
            # A command need not read what it is given: its exit code says whether it did its work.
            with suppress(anyio.BrokenResourceError, ConnectionError):
                await process.stdin.send(notice.body)
                await process.stdin.aclose()
        code = await process.wait()
    return f"exit code {code}" if code else None


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


async def _post(rule: NotifyRule, notice: Notice, environ: Mapping[str, str], now: float) -> str | None:
    headers = {"content-type": "application/json", "webhook-id": notice.message_id}
    if rule.secret_env is not None:
        secret = secret_of(rule.secret_env, environ)
        headers |= signed_headers(notice.body, message_id=notice.message_id, at=int(now), secret=secret)
    return await _send(rule, "POST", rule.webhook or "", notice.body, headers)


async def _ping(rule: NotifyRule, path: str, run_uid: str, body: bytes, environ: Mapping[str, str]) -> str | None:
    import httpx

    url = httpx.URL(secret_of(rule.ping_env or "", environ).rstrip("/") + path)
    return await _send(rule, "POST", str(url.copy_set_param("rid", _as_uuid(run_uid))), body, {})


def _as_uuid(run_uid: str) -> str:
    """The run's id in the form that checks ask of a ``rid``; equal for the start and the end of a run."""
    digits = run_uid.ljust(32, "0")[:32]
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


async def _send(rule: NotifyRule, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> str | None:
    import httpx

    # Only the status is read: a receiver that sends without end must not fill the memory.
    async with (
        httpx.AsyncClient(timeout=rule.timeout, follow_redirects=False) as client,
        client.stream(method, url, content=body, headers=dict(headers)) as reply,
    ):
        return None if reply.is_success else f"HTTP {reply.status_code}"


def _apprise(rule: NotifyRule, notice: Notice, environ: Mapping[str, str]) -> str | None:
    try:
        import apprise
    except ImportError:
        return "apprise is not installed: pip install 'responses-orchestrator[notify]'"
    # At lower levels it logs whole URLs, and with them their secrets.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    receiver: Any = apprise.Apprise()
    if not receiver.add(secret_of(rule.apprise_env or "", environ)):
        return "apprise does not know this kind of URL"
    fields: dict[str, Any] = orjson.loads(notice.body)
    text = printable(str(fields.get("next") or notice.subject))
    return None if receiver.notify(title=notice.subject, body=text) else "apprise could not deliver it"
