"""``costs``: what was spent, by anything, what of it was for nothing, and what the provider says."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.warm import warm_python

from .conftest import ROWS, RUN, Ended, write_config

Cli = Callable[..., Ended]
AT = ("--db", "runs.db")


def costs(cli: Cli, *more: str) -> dict[str, Any]:
    ended = cli("costs", *AT, "--json", *more)
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def test_costs_by_the_users_own_metadata(folder: Path, cli: Cli) -> None:
    cli(*RUN, "--progress", "none", "--set", "request.metadata.team=red", "--run", "one")
    cli(*RUN, "--progress", "none", "--run", "other")
    by_team = costs(cli, "--by", "metadata.team,run")["rows"]
    assert [(row["metadata.team"], row["run"], row["responses"]) for row in by_team] == [
        ("(none)", "other", ROWS),
        ("red", "one", ROWS),
    ]
    table = cli("costs", "one", *AT, "--by", "metadata.team").out.splitlines()
    assert table[0].startswith("METADATA.TEAM  RESPONSES")
    assert table[1].startswith("red")


def test_what_was_wasted_is_part_of_the_cost_and_shown_apart(folder: Path, cli: Cli) -> None:
    write_config(folder, faults="incomplete: 0.3, refusal: 0.2")
    cli(*RUN, "--progress", "none")
    total = costs(cli, "greet-1")["total"]
    wasted = Decimal(total["wasted_incomplete_usd"]) + Decimal(total["wasted_failed_usd"])
    assert 0 < wasted < Decimal(total["cost_usd"])
    lines = list(csv.DictReader(io.StringIO(cli("costs", "greet-1", *AT, "--by", "state", "--csv").out)))
    by_state = {line["state"]: line for line in lines}
    assert Decimal(by_state["succeeded"]["wasted_failed_usd"]) == 0
    assert by_state["failed"]["cost_usd"] != "0"
    assert "wasted, and part of the cost: failed $" in cli("costs", "greet-1", *AT).out


# ── the provider's own account ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def provider(folder: Path, process_group: list[subprocess.Popen[str]]) -> str:
    """The address of a sandbox that outlives a run, in the config in place of the embedded one."""
    settings = {"provider": {"sandbox": {"latency": {"queue": 0, "run": 0.02}}}}
    (folder / "sandbox.yaml").write_text(json.dumps(settings))
    started = subprocess.Popen(
        [warm_python(), "-m", "orchestrator", "sandbox", "--port", "0", "--config", str(folder / "sandbox.yaml")],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    process_group.append(started)
    assert started.stderr is not None
    address = next(line.split("listening on ")[1].split()[0] for line in started.stderr if "listening on " in line)
    (folder / "config.yaml").write_text(json.dumps({"provider": {"base_url": address}, "database": "runs.db"}))
    return address


@pytest.fixture
def process_group() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.terminate()
        process.communicate()


KEYS = {"OPENAI_API_KEY": "sk-test", "OPENAI_ADMIN_KEY": "sk-admin-test"}
RECONCILE = ("costs", *AT, "--config", "config.yaml", "--reconcile")


def test_the_account_of_a_provider_that_counts_as_we_do_agrees(folder: Path, cli: Cli, provider: str) -> None:
    assert cli(*RUN, "--progress", "none", env=KEYS).code == 0
    found = json.loads(cli(*RECONCILE, "fetch", "--json", env=KEYS).out)
    assert found["agrees"], found
    [line] = found["costs"]
    assert (line["cost_usd"], line["reason"]) == (costs(cli)["total"]["cost_usd"], "agrees")
    assert [(each["model"], each["here"]["requests"]) for each in found["usage"]] == [("gpt-5-mini-2025-08-07", ROWS)]
    text = cli(*RECONCILE, "fetch", env=KEYS).out
    assert text.splitlines()[0].split() == ["DAY", "(UTC)", "HERE", "UNKNOWN", "PROVIDER", "DIFFERENCE", "REASON"]
    assert "the same, but for the rounding of the provider's account" in text

    # The same account as a file, and one in which somebody else spent two dollars.
    day = int(time.time() // 86_400) * 86_400
    body = httpx.get(f"{provider}/organization/costs?start_time={day}", headers={"Authorization": "Bearer x"}).json()
    (folder / "account.json").write_text(json.dumps(body))
    assert json.loads(cli(*RECONCILE, "account.json", "--json").out)["agrees"]
    body["data"][0]["results"].append(
        {"object": "organization.costs.result", "amount": {"value": 2, "currency": "usd"}}
    )
    (folder / "account.json").write_text(json.dumps(body))
    [line] = json.loads(cli(*RECONCILE, "account.json", "--json").out)["costs"]
    assert line["reason"] == "elsewhere"
    assert abs(Decimal(line["difference_usd"]) - 2) < Decimal("0.000001")


def test_what_cannot_be_compared_is_reported_with_the_next_step(folder: Path, cli: Cli) -> None:
    cli(*RUN, "--progress", "none")
    (folder / "account.json").write_text('{"object": "list", "data": 1}')
    for source, said in (
        ("nowhere.json", "the file cannot be read"),
        ("account.json", "this is no account of the provider's: data is not as in a page"),
        ("fetch", "nothing was charged yet"),
    ):
        ended = cli(*RECONCILE, source)
        assert (ended.code, said in ended.err) == (2, True), ended.err
