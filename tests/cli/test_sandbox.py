"""``sandbox`` is a server of its own that other commands can be pointed at."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.request import urlopen

import pytest

from .conftest import ROWS, Ended

Cli: TypeAlias = Callable[..., Ended]


@pytest.fixture
def base_url(tmp_path: Path, command: list[str], environment: dict[str, str]) -> Iterator[str]:
    """The address of a sandbox that refuses one create in five."""
    process = subprocess.Popen(
        [*command, "sandbox", "--port", "0", "--state", "ledger.db", "--seed", "7", "--fault", "server_error=0.2"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    found = next(match for line in process.stderr if (match := re.search(r"listening on (\S+)", line)))
    yield found[1]
    process.terminate()
    process.communicate()
    assert process.returncode == 0


def test_a_run_can_be_pointed_at_it_and_its_ledger_read(folder: Path, cli: Cli, base_url: str) -> None:
    refused = cli("run", "job.yaml", env={"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "sk-bad-canary"})
    assert refused.code == 4
    assert "key" in refused.out
    assert "canary" not in refused.out + refused.err
    ended = cli("run", "job.yaml", "--json", env={"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "sk-any"})
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    with urlopen(base_url.removesuffix("/v1") + "/_ledger") as reply:  # noqa: S310 – on loopback
        ledger = json.load(reply)
    assert summary["run"] == "greet-1"
    assert (ledger["creates"]["accepted"], ledger["cost_usd"]) == (ROWS, summary["cost_usd"])
    assert ledger["creates"]["refused"]["total"] > 1, "the fault was played"


def test_an_address_that_others_can_reach_is_refused(cli: Cli) -> None:
    ended = cli("sandbox", "--host", "0.0.0.0")  # noqa: S104 – the one that is refused
    assert ended.code == 2
    assert "--allow-remote" in ended.err
