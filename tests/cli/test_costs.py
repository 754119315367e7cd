"""``costs``: what was spent, by anything, what of it was for nothing, and what the provider says."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

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
