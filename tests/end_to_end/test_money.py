"""Money over whole runs: estimated before, capped during the run, and exact to the digit after."""

from __future__ import annotations

import json
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.app.forecast.request_size import Ruler
from orchestrator.app.forecast.sample import requests_of
from orchestrator.job.requests.compose import RequestRules
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.spec import load_job
from tests.warm import warm_python

from .rig import Rig

MakeRig = Callable[..., Rig]
REPOSITORY = Path(__file__).parent.parent.parent
SPEECHES = REPOSITORY / "jobs" / "summarise.yaml"
KEY = {"OPENAI_API_KEY": "sk-test"}


def usd(value: Any) -> Decimal:
    return Decimal(value)


@pytest.fixture
def fast(server: Callable[..., str], tmp_path: Path) -> str:
    """The address of a sandbox of its own that answers at once."""
    settings = {"provider": {"sandbox": {"latency": {"queue": 0, "run": {"from_s": 0.02, "to_s": 0.1}}}}}
    (tmp_path / "sandbox.yaml").write_text(json.dumps(settings))
    return server("--config", str(tmp_path / "sandbox.yaml"))


def at_server(address: str, **budget: Any) -> dict[str, Any]:
    """A config for a provider that is not the embedded sandbox, so that its money counts as real."""
    limits = {"requests_per_minute": 60_000, "tokens_per_minute": 100_000_000, "polls_per_minute": 60_000}
    return {"provider": {"base_url": address}, "limits": limits, "budget": budget}


# ── before ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
def test_an_estimate_of_the_main_job_takes_seconds(rig: MakeRig) -> None:
    here = rig()
    began = _cpu_of_children()
    ended = here.end(here.start("estimate", str(SPEECHES), "--config", "config.yaml", python=sys.executable))
    assert ended.code == 0, ended.err
    assert _cpu_of_children() - began < 5.0


@pytest.mark.parametrize("rows", [300, pytest.param(1863, marks=pytest.mark.long)])
def test_the_estimate_of_the_main_job_holds(rig: MakeRig, rows: int) -> None:
    """The speeches: tokens as the provider counts them, and a range that holds what the run then costs."""
    here = rig()
    common = ("--config", "config.yaml", "--db", "runs.db", "--json", "--limit", str(rows))
    before = here.call("estimate", str(SPEECHES), *common).summary
    pilot = here.call("estimate", str(SPEECHES), *common, "--pilot", "40", "--progress", "none").summary
    ran = here.call("run", str(SPEECHES), *common, "--run", "all", "--output", "out.jsonl").summary
    assert ran["requests"]["succeeded"] == rows
    # Some answers are cut off and asked for again: those inputs were paid for twice.
    [(counted_once,)] = here.query(
        "SELECT sum(input_tokens) FROM charge JOIN attempt ON attempt.id = charge.attempt_id"
        " JOIN request ON request.id = attempt.request_id JOIN run ON run.id = request.run_id"
        " WHERE run.name = 'all' AND attempt.number = 1"
    )
    # The vocabulary of the newest models is not published; the sandbox counts with the same one.
    assert before["counted_by"] == "o200k-for-another-model"
    assert before["input_tokens"]["likely"] == pytest.approx(counted_once, rel=0.01)
    job = load_job(SPEECHES, limit=rows)
    ruler = Ruler()
    all_requests = requests_of(job, Renderer(job), RequestRules())
    by_heuristic = sum(ruler.measure(render()).input_tokens for render in all_requests)
    assert by_heuristic == pytest.approx(counted_once, rel=0.10)
    cost = usd(ran["cost_usd"])
    for estimate in (before, pilot):
        assert usd(estimate["cost_usd"]["low"]) <= cost <= usd(estimate["cost_usd"]["high"])
    assert usd(pilot["cost_usd"]["high"]) - usd(pilot["cost_usd"]["low"]) < cost / 2


def _cpu_of_children() -> float:
    """Seconds of CPU that ended commands took: their time on the clock depends on what else this machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.long
def test_a_run_says_first_what_it_will_cost_and_a_resumed_one_does_not(rig: MakeRig) -> None:
    here = rig(rows=10)
    first = here.run()
    assert first.code == 0
    assert "estimate: 10 requests to gpt-5-mini: $0.00" in first.err
    assert first.err.index("estimate: ") < first.err.index("r: 10 of 10 settled")
    assert "estimate: " not in here.run().err


@pytest.mark.long
def test_a_script_is_never_asked(rig: MakeRig, fast: str) -> None:
    here = rig(rows=3, config=at_server(fast, confirm_above_usd=0))
    ended = here.run(env=KEY)
    assert ended.code == 0
    assert "it may cost more than $0.00, only a budget stops it (no terminal to ask)" in ended.err
    assert "only a budget" not in here.run("--new", "--run", "other", "--yes", env=KEY).err


@pytest.mark.parametrize(("answer", "code"), [("n", 2), ("y", 0)])
def test_on_a_terminal_the_user_is_asked_above_the_limit(rig: MakeRig, fast: str, answer: str, code: int) -> None:
    here = rig(rows=3, config=at_server(fast, confirm_above_usd=0))
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ORCHESTRATOR_"))}
    process = subprocess.Popen(
        [warm_python(), "-m", "orchestrator", *here.run_arguments()],
        cwd=here.folder,
        env={**kept, **KEY},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    said = _all_of(ours)
    out, _ = process.communicate()
    assert "It may cost more than $0.00" in said
    assert process.returncode == code
    if answer == "y":
        assert json.loads(out)["requests"]["succeeded"] == 3
    else:
        assert "nothing was started" in said
        assert not here.database.exists()


def _all_of(terminal: int) -> str:
    chunks = []
    try:
        while chunk := os.read(terminal, 4096):
            chunks.append(chunk)
    except OSError:  # the other side was closed
        pass
    os.close(terminal)
    return b"".join(chunks).decode()


# ── during the run ────────────────────────────────────────────────────────────────────────────────────────────


def test_runs_at_the_same_time_share_the_budget_of_the_day(rig: MakeRig, fast: str) -> None:
    """Two processes on one database: together they use the day's money nearly whole, and never more."""
    here = rig(rows=400, config=at_server(fast, usd_per_day=0.1))
    processes = [
        here.start("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--run", name, "--json", env=KEY)
        for name in ("one", "other")
    ]
    ended = [here.end(process) for process in processes]
    assert [each.code for each in ended] == [4, 4], [each.err[-500:] for each in ended]
    spent = sum(usd(each.summary["cost_usd"]) for each in ended)
    assert 0.97 * 0.1 <= float(spent) <= 0.1
    assert {each.summary["reason"] for each in ended} == {"budget"}
    assert all("of the day's budget" in each.err for each in ended)
    assert "80 % of the day's budget is used" in "".join(each.err for each in ended)
    ledger = httpx.get(fast.removesuffix("/v1") + "/_ledger", timeout=600).json()
    assert usd(ledger["cost_usd"]) == spent


@pytest.mark.long
def test_what_a_rehearsal_costs_is_not_taken_from_the_day(rig: MakeRig, fast: str) -> None:
    here = rig(rows=20, config=at_server(fast, usd_per_day=0.05))
    real = here.config
    here.write_config({"provider": {"sandbox": {"latency": {"queue": 0, "run": 0.05}}}, "budget": {"usd_per_day": 1}})
    assert here.call("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--run", "play").code == 0
    here.write_config(real)
    again = here.call("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--run", "play", env=KEY)
    assert again.code == 2
    assert "was made at the sandbox" in again.err
    assert here.run(env=KEY).code == 0
    assert here.query("SELECT run.simulated, count(*) FROM spending JOIN run ON run.id = run_id GROUP BY 1") == [
        (0, 1),
        (1, 1),
    ]


@pytest.mark.long
def test_thresholds_of_a_budget_are_reported(rig: MakeRig) -> None:
    here = rig(rows=60)
    cost = usd(here.run().summary["cost_usd"])
    ended = here.call(
        "run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--run", "again",
        "--set", f"budget.usd={cost * 5 / 4}", "--json", "--progress", "plain",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "50 % of the run's budget is used" in ended.err
    assert "100 % of the run's budget" not in ended.err


# ── requests that nothing bounds ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
def test_a_request_without_a_cap_is_refused_under_a_budget_or_capped_by_the_config(rig: MakeRig, fast: str) -> None:
    here = rig(rows=3, config=at_server(fast, usd_per_day=5))
    del here.job["request"]["max_output_tokens"]
    here.write_job(here.job)
    refused = here.run(env=KEY)
    assert refused.code == 2
    assert "the config has a budget, but the requests have no max_output_tokens" in refused.err
    assert "budget.cap_output_tokens" in refused.err
    here.write_config(at_server(fast, usd_per_day=5, cap_output_tokens=77))
    ended = here.run(env=KEY)
    assert ended.code in (0, 3)
    bodies = [json.loads(here.call("show", "r", f"row-{n}", "--raw", "--db", "runs.db").out) for n in range(3)]
    assert [body["max_output_tokens"] for body in bodies] == [77, 77, 77]


@pytest.mark.long
def test_what_nothing_bounds_is_sent_where_the_job_says_what_it_costs_at_most(rig: MakeRig) -> None:
    here = rig(rows=3)
    here.write_job(here.job | {"budget": {"usd": 1}})
    here.job["request"]["tools"] = [{"type": "web_search"}]
    here.write_job(here.job)
    refused = here.run()
    assert refused.code == 3
    assert here.query("SELECT DISTINCT code FROM request") == [("cost_unbounded",)]
    assert "budget.usd_per_request" in here.query("SELECT message FROM request")[0][0]
    here.write_job(here.job | {"budget": {"usd": 1, "usd_per_request": "0.2"}})
    ended = here.call("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--run", "bounded", "--json")
    assert ended.code == 0, ended.err
    worst_cases = here.query(
        "SELECT DISTINCT worst_case_pusd FROM attempt JOIN request ON request.id = request_id"
        " WHERE state = 'succeeded'"
    )
    assert worst_cases == [(200_000_000_000,)]
