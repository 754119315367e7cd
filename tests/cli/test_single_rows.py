"""Single rows are cancelled and purged by their keys."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from .conftest import RUN, Ended, write_config

Cli: TypeAlias = Callable[..., Ended]
QUIET = (*RUN, "--progress", "none", "--limit", "4")
AT = ("--db", "runs.db", "--config", "config.yaml")


def test_rows_are_cancelled_whether_they_wait_or_are_open(folder: Path, cli: Cli) -> None:
    # The quota is used up at once, so all rows wait.
    write_config(folder, faults="insufficient_quota: 1")
    assert cli(*QUIET).code == 4
    ended = cli("cancel", "greet-1", *AT, "--key", "row-1", "--key", "row-2", "--json")
    assert json.loads(ended.out) == {"run": "greet-1", "rows": {"row-1": "cancelled", "row-2": "cancelled"}}
    unknown = cli("cancel", "greet-1", *AT, "--key", "row-3", "--key", "none")
    assert (unknown.code, "no row with the key 'none'" in unknown.err) == (2, True)
    write_config(folder)
    summary = json.loads(cli(*QUIET, "--json").out)["requests"]
    assert (summary["succeeded"], summary["cancelled"]) == (2, 2)
    assert cli("cancel", "greet-1", *AT, "--key", "row-0").out == "row-0: succeeded\n"


def test_rows_are_purged_one_by_one(folder: Path, cli: Cli) -> None:
    assert cli(*QUIET).code == 0
    ended = cli("purge", "greet-1", *AT, "--key", "row-1", "--key", "row-2", "--json")
    assert (ended.code, json.loads(ended.out)["deleted"]["responses"]) == (0, 2)
    again = cli("purge", "greet-1", *AT, "--key", "row-1", "--json")
    assert (again.code, json.loads(again.out)["deleted"]["responses"]) == (0, 0)
    rest = cli("purge", "greet-1", *AT, "--json")
    assert json.loads(rest.out)["deleted"]["responses"] == 2
    assert cli("purge", *AT, "--due", "--key", "row-1").code == 2
    assert cli("purge", "greet-1", *AT, "--key", "none").code == 2


def test_an_open_row_of_a_run_at_work_is_cancelled_at_the_provider(
    folder: Path, cli: Cli, command: list[str], environment: dict[str, str]
) -> None:
    write_config(folder, run_s="60")
    process = subprocess.Popen(
        [*command, *RUN, "--limit", "2", "--progress", "none"],
        cwd=folder,
        env={**environment, "ORCHESTRATOR_LOG": "debug"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    keys = ("--key", "row-0", "--key", "row-1")
    while "submitted" not in (ended := cli("cancel", "greet-1", *AT, *keys, "--json")).out:
        assert process.poll() is None, ended.err
        if '"cancelled"' in ended.out:
            break
    out, err = process.communicate()
    assert process.returncode == 3, err
    assert "2 cancelled" in out
