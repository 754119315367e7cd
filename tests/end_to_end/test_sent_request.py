"""``show --json`` and ``--dry-run`` print what the provider receives, for each feature that shapes a request."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.types import Message, Receive, Scope, Send

from orchestrator.cli.app import invoke
from orchestrator.sandbox.sandbox_settings import SandboxSettings
from orchestrator.sandbox.server.asgi_app import create_app
from orchestrator.sandbox.server.socket_listener import SocketListener
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase
from tests.end_to_end.tooling import tool_job, write_handlers

LATENCY = {"queue": 0.0, "run": 0.01}
FORMAT = {
    "format": {
        "type": "json_schema",
        "name": "speech",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"topic": {"type": "string"}},
            "required": ["topic"],
            "additionalProperties": False,
        },
    }
}
MODEL = "from pydantic import BaseModel\n\n\nclass Speech(BaseModel):\n    topic: str\n"


@dataclass
class Provider:
    """A sandbox on a real socket that keeps the body of each create call as it was received."""

    base_url: str
    received: list[dict[str, Any]]


@asynccontextmanager
async def recording(**settings: Any) -> AsyncIterator[Provider]:
    """A sandbox that keeps what it receives."""
    received: list[dict[str, Any]] = []
    listener = SocketListener("127.0.0.1", 0)
    with SandboxDatabase() as state:
        wanted = SandboxSettings.model_validate({"latency": LATENCY, **settings})
        app = create_app(wanted, state, hang_up=listener.hang_up)

        async def recorder(scope: Scope, receive: Receive, send: Send) -> None:
            body = bytearray()

            async def listen() -> Message:
                message = await receive()
                body.extend(message.get("body", b""))
                whole = message["type"] == "http.request" and not message.get("more_body")
                if whole and (scope["method"], scope["path"]) == ("POST", "/v1/responses"):
                    received.append(json.loads(body))
                return message

            await app(scope, listen, send)

        await listener.open(recorder)
        yield Provider(listener.base_url, received)
        await listener.close()


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[dict[str, Provider]]:
    """A faultless provider, and one whose answers never have the shape that was asked for."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(recording()) as plain,
        portal.wrap_async_context_manager(recording(faults={"wrong_schema": 1.0})) as wrong,
    ):
        yield {"plain": plain, "wrong": wrong}


@dataclass
class Feature:
    """One way to shape a request; ``request`` and ``job`` are added to a plain job of one row."""

    request: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "a", "text": "The harbour was read aloud."}])
    # The row that is shown, and what the request of its latest attempt has in it.
    key: str = "a"
    has: dict[str, Any] = field(default_factory=dict)
    attempts: int = 1
    provider: str = "plain"
    # Whether the dry run can know the first request: not what only the provider can name.
    foreseen: bool = True
    code: int = 0


TALK = [{"id": f"t{n}", "talk": "x", "text": text} for n, text in enumerate(("Of what?", "And then?", "Why?"))]
CHAINED = {"chain": {"by": "talk"}}
BUDGET = {"budget": {"usd": 5}}
CAP = {"budget": {"cap_output_tokens": 900}}
NO_CAP = {"max_output_tokens": None}


def content(part: dict[str, str]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "input_text", "text": "What is it? {{ text }}"}, part]}]


FEATURES = {
    "plain input": Feature(has={"input": "Say: The harbour was read aloud.", "background": True, "store": True}),
    "instructions template": Feature({"instructions": "Speak {{ text | upper }}."}),
    "message list": Feature({"input": [{"role": "user", "content": "{{ text }}"}]}),
    "native value": Feature({"model": "gpt-4.1-nano", "temperature": "{{ 0.5 }}"}, has={"temperature": 0.5}),
    "cap_output_tokens": Feature(NO_CAP, BUDGET, CAP, has={"max_output_tokens": 900}),
    "cap_output_tokens under a shared budget": Feature(
        NO_CAP, config={"budget": {"cap_output_tokens": 900, "usd_per_day": 5}}, has={"max_output_tokens": 900}
    ),
    "cap_output_tokens without a budget": Feature(NO_CAP, config=CAP),
    "max_output_tokens": Feature({"max_output_tokens": 700}, BUDGET, CAP, has={"max_output_tokens": 700}),
    "raise_max_output_tokens_to": Feature(
        {"max_output_tokens": 16},
        {"on_incomplete": {"raise_max_output_tokens_to": 2000}},
        has={"max_output_tokens": 2000},
        attempts=2,
    ),
    "stream": Feature(job={"stream": True}, has={"stream": True}),
    "chain by previous_response": Feature(job=CHAINED, rows=TALK, key="t2"),
    "chain by conversation": Feature(
        job={"chain": {"by": "talk", "mode": "conversation"}}, rows=TALK, key="t2", foreseen=False
    ),
    "stateless chain": Feature(job={"chain": {"by": "talk", "mode": "stateless"}}, rows=TALK, key="t2"),
    "prompt_cache key": Feature({"instructions": "Be brief."}, {"prompt_cache": {}}),
    "prompt_cache warm": Feature(
        {"instructions": "Be brief."}, {"prompt_cache": {"key": False, "warm": True}}, rows=TALK[:2], key="t1"
    ),
    "data_url": Feature(
        {"input": content({"type": "input_image", "image_url": "{{ 'photo.png' | data_url }}"})},
    ),
    "upload": Feature(
        {"input": content({"type": "input_file", "file_id": "{{ 'report.pdf' | upload }}"})}, foreseen=False
    ),
    "output_model": Feature(job={"output_model": "shapes:Speech"}),
    "text format": Feature({"text": FORMAT}),
    "on_invalid repair": Feature({"text": FORMAT}, {"on_invalid": "repair"}, provider="wrong", attempts=2, code=3),
    "on_invalid retry": Feature(
        {"text": FORMAT}, {"on_invalid": "retry", "retry": {"attempts": 2}}, provider="wrong", attempts=2, code=3
    ),
    "function tools with handlers": Feature(job=tool_job(), attempts=2),
    "metadata": Feature({"metadata": {"team": "{{ text }}"}}),
    "service_tier": Feature({"service_tier": "flex"}),
    "completion window": Feature({"background_options": {"completion_window": "8h"}}),
    "store: true": Feature({"store": True}),
    "store: false": Feature(
        {"store": False}, config={"provider": {"store": "optional"}}, has={"store": False}, code=4
    ),
    "unknown field": Feature({"brand_new_option": {"depth": 3}}, has={"brand_new_option": {"depth": 3}}, code=4),
    "reasoning": Feature({"model": "gpt-5-mini", "reasoning": {"effort": "low"}}),
    "hosted tools": Feature({"tools": [{"type": "web_search"}]}),
    "safety_identifier": Feature({"safety_identifier": "user-{{ id }}", "truncation": "auto"}),
    "duplicates each": Feature(
        job={"duplicates": "each"}, rows=[{"id": key, "text": "The same."} for key in "ab"], key="b"
    ),
    "openai-batch": Feature(
        job={"request": {"max_output_tokens": 900}, "input": {"path": "rows.jsonl"}},
        rows=[
            {
                "custom_id": "a",
                "method": "POST",
                "url": "/v1/responses",
                "body": {"model": "gpt-5-mini", "input": "Of the harbour.", "max_output_tokens": 300},
            }
        ],
        has={"max_output_tokens": 900},
    ),
}


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, without any variable that the command line reads."""
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "ORCHESTRATOR_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KEY", "sk-test")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"\x89PNG" + bytes(range(64)))
    (tmp_path / "report.pdf").write_bytes(b"%PDF a report")
    (tmp_path / "shapes.py").write_text(MODEL)
    write_handlers(tmp_path)
    return tmp_path


def write(user: Path, feature: Feature, base_url: str) -> None:
    """The job, the config and the rows of a feature."""
    request = {"model": "gpt-5-nano", "input": "Say: {{ text }}", "max_output_tokens": 2000, **feature.request}
    request = {name: value for name, value in request.items() if value is not None}
    job = {"name": "one", "input": {"path": "rows.jsonl", "key": "id"}, "request": request, **feature.job}
    provider = {"base_url": base_url, "api_key_env": "KEY", **feature.config.get("provider", {})}
    (user / "job.yaml").write_text(json.dumps(job))
    (user / "config.yaml").write_text(json.dumps({**feature.config, "provider": provider}))
    (user / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in feature.rows))


@pytest.fixture
def cli(user: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs a command in the user's folder; returns the object that it prints."""

    def run(*arguments: str, code: int = 0) -> dict[str, Any]:
        ended, said = invoke([*arguments, "--db", "runs.db", "--json"]), capsys.readouterr()
        assert ended == code, said.err
        printed: dict[str, Any] = json.loads(said.out)
        return printed

    return run


RUN = ("run", "job.yaml", "--config", "config.yaml", "--run", "r", "--progress", "none")


@pytest.mark.parametrize("feature", FEATURES.values(), ids=FEATURES.keys())
def test_the_request_shown_is_the_request_received(
    user: Path, sandboxes: dict[str, Provider], cli: Callable[..., dict[str, Any]], feature: Feature
) -> None:
    provider = sandboxes[feature.provider]
    provider.received.clear()
    write(user, feature, provider.base_url)
    foreseen = cli("run", "job.yaml", "--config", "config.yaml", "--dry-run")["first_request"]
    cli(*RUN, code=feature.code)

    received = [body for body in provider.received if body["metadata"]["orchestrator_key"] == feature.key]
    history = cli("show", "r", feature.key)
    assert history["request"] == received[-1]
    assert feature.has.items() <= received[-1].items()
    if feature.code != 4:
        assert (len(received), len(history["attempts"])) == (feature.attempts, feature.attempts)
    if feature.foreseen:
        key = foreseen["metadata"]["orchestrator_key"]
        first = next(body for body in provider.received if body["metadata"]["orchestrator_key"] == key)
        assert without_run(foreseen) == without_run(first)


def test_of_a_row_that_waits_the_next_request_is_shown(
    user: Path, sandboxes: dict[str, Provider], cli: Callable[..., dict[str, Any]]
) -> None:
    provider = sandboxes["wrong"]
    write(user, Feature({"text": FORMAT, **NO_CAP}, BUDGET, CAP), provider.base_url)
    cli(*RUN, code=3)
    cli("retry", "r")
    shown = cli("show", "r", "a")["request"]
    assert (shown["metadata"]["orchestrator_attempt"], shown["max_output_tokens"]) == ("2", 900)
    provider.received.clear()
    cli(*RUN, code=3)
    assert provider.received == [shown]


def test_each_attempt_is_shown_with_the_cap_under_which_it_was_sent(
    user: Path, sandboxes: dict[str, Provider], cli: Callable[..., dict[str, Any]]
) -> None:
    provider = sandboxes["wrong"]
    for cap in (900, 800):
        config = {"budget": {"cap_output_tokens": cap}}
        write(user, Feature({"text": FORMAT, **NO_CAP}, BUDGET, config), provider.base_url)
        cli(*RUN, code=3)
        assert cli("show", "r", "a")["request"] == provider.received[-1]
        assert provider.received[-1]["max_output_tokens"] == cap
        cli("retry", "r")


def without_run(body: dict[str, Any]) -> dict[str, Any]:
    """A body without the run's own mark, which a dry run does not have."""
    return {**body, "metadata": {**body["metadata"], "orchestrator_run": ""}}
