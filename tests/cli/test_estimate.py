"""``estimate``: tokens, cost and time of a job before anything is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.policy.pricing import tokens

from .conftest import ROWS, Ended

ESTIMATE = ("estimate", "job.yaml", "--config", "config.yaml")
Cli = Callable[..., Ended]


def asked(cli: Cli, *more: str) -> dict[str, Any]:
    ended = cli(*ESTIMATE, "--json", "--progress", "none", *more)
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def usd(value: Any) -> Decimal:
    return Decimal(value)


def test_it_prints_tokens_cost_and_time_and_sends_nothing(folder: Path, cli: Cli) -> None:
    found = asked(cli)
    assert (found["rows"], found["rows_counted"], found["models"]) == (ROWS, True, ["gpt-5-mini"])
    assert (found["counted_by"], found["output_by"]) == ("o200k", "max_output_tokens")
    tokens_in = found["input_tokens"]
    assert tokens_in["low"] < tokens_in["likely"] < tokens_in["high"]
    assert found["output_tokens"] == {"low": 0, "likely": None, "high": ROWS * 200}
    cost = found["cost_usd"]
    assert cost["likely"] is None
    assert usd(cost["high"]) - usd(cost["low"]) >= ROWS * 200 * Decimal("0.000002")
    assert not (folder / "runs.db").exists()


def test_a_cap_of_the_config_bounds_the_estimate_as_it_bounds_the_run(folder: Path, cli: Cli) -> None:
    job, config = folder / "job.yaml", folder / "config.yaml"
    job.write_text(job.read_text().replace("  max_output_tokens: 200\n", ""))
    assert asked(cli)["cost_usd"]["high"] is None
    config.write_text(config.read_text() + "budget: {cap_output_tokens: 300}\n")
    assert asked(cli)["output_tokens"]["high"] is None, "the cap applies only under a budget"
    job.write_text(job.read_text() + "budget: {usd: 5}\n")
    capped = asked(cli)
    assert capped["output_by"] == "max_output_tokens"
    assert capped["output_tokens"]["high"] == ROWS * 300
    assert capped["cost_usd"]["high"] is not None


def test_people_read_it_in_a_few_lines(folder: Path, cli: Cli) -> None:
    lines = cli(*ESTIMATE).out.splitlines()
    assert lines[0] == f"greet  {ROWS} requests to gpt-5-mini"
    assert [line.split("  ")[1] for line in lines if line.startswith("  ") and line[2] != " "] == [
        "tokens in",
        "tokens out",
        "cost",
        "time",
    ]
    assert "  time        not known: give the limits of your account in the config" in lines


def test_without_the_vocabulary_it_says_that_it_guesses(
    folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = asked(cli)["input_tokens"]["likely"]
    monkeypatch.setattr(
        "orchestrator.app.forecast.forecaster.token_counter", lambda: tokens.TokenCounter(exact=False)
    )
    found = asked(cli)
    assert found["counted_by"] == "heuristic"
    assert found["input_tokens"]["low"] <= exact <= found["input_tokens"]["high"]
    assert "estimated from the characters" in cli(*ESTIMATE).out


@pytest.mark.parametrize(("rows", "by"), [("all", "provider"), ("5", "provider-sample")])
def test_the_provider_counts_where_it_is_asked_to(folder: Path, cli: Cli, rows: str, by: str) -> None:
    found = asked(cli, "--exact", rows)
    assert found["counted_by"] == by
    assert found["input_tokens"]["likely"] == asked(cli)["input_tokens"]["likely"], "the same vocabulary"


def test_a_provider_that_cannot_count_is_reported(folder: Path, cli: Cli) -> None:
    # A model that the provider does not have.
    ended = cli(*ESTIMATE, "--exact", "all", "--set", "request.model=gpt-none")
    assert ended.code == 2
    assert "the provider does not count the tokens: it answers with HTTP 404" in ended.err
    assert "leave --exact out" in ended.err


@pytest.mark.parametrize("value", ["0", "-1", "some"])
def test_exact_is_a_number_or_all(folder: Path, cli: Cli, value: str) -> None:
    ended = cli(*ESTIMATE, f"--exact={value}")
    assert (ended.code, "must be a number of rows, or all" in ended.err) == (2, True)


def test_models_are_compared_at_each_tier(folder: Path, cli: Cli) -> None:
    found = asked(cli, "--compare", "gpt-5-mini, gpt-5-nano")["compared"]
    tiers = [("default", None), ("flex", None), ("batch", None), ("default", "2h"), ("default", "8h")]
    assert [(each["model"], each["service_tier"], each["completion_window"]) for each in found] == [
        (model, *tier) for model in ("gpt-5-mini", "gpt-5-nano") for tier in tiers
    ]
    highs = [usd(each["cost_usd"]["high"]) for each in found]
    assert highs[1] == pytest.approx(highs[0] / 2)
    assert highs[3:5] == [pytest.approx(highs[0] * 7 / 10), pytest.approx(highs[0] * 6 / 10)]
    assert [each["price_estimated"] for each in found[:5]] == [False, False, False, True, True]
    assert highs[5] == pytest.approx(highs[0] / 5)
    text = cli(*ESTIMATE, "--compare", "gpt-5-mini,gpt-none").out
    assert re.search(r"gpt-none +default +no known price", text)
    assert "~ the price is inferred, not published for exactly this" in text


def test_windows_are_compared_where_the_user_gives_their_factor(folder: Path, cli: Cli) -> None:
    (folder / "prices.yaml").write_text("windows: {8h: 0.5}\n")
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "prices: prices.yaml\n")
    found = asked(cli, "--compare", "gpt-5-mini")["compared"]
    assert [(each["completion_window"], each["price_estimated"]) for each in found][-1] == ("8h", True)


def test_earlier_runs_give_the_length_of_answers(folder: Path, cli: Cli) -> None:
    ran = json.loads(cli("run", *ESTIMATE[1:], "--json", "--progress", "none").out)
    found = asked(cli)
    assert (found["output_by"], found["learnt_from"], found["learnt_model"]) == ("earlier-runs", ["greet-1"], None)
    assert found["output_tokens"]["likely"] == ran["usage"]["output_tokens"]
    assert usd(found["cost_usd"]["likely"]) == pytest.approx(usd(ran["cost_usd"]), rel=Decimal("0.01"))
    assert usd(found["cost_usd"]["low"]) <= usd(ran["cost_usd"]) <= usd(found["cost_usd"]["high"])


def test_answers_of_another_model_are_named_as_such(folder: Path, cli: Cli) -> None:
    cli("run", *ESTIMATE[1:], "--progress", "none")
    found = asked(cli, "--set", "request.model=gpt-5-nano")
    assert (found["learnt_from"], found["learnt_model"]) == (["greet-1"], "gpt-5-mini")


def test_a_changed_prompt_learns_nothing_from_before(folder: Path, cli: Cli) -> None:
    cli("run", *ESTIMATE[1:], "--progress", "none")
    assert asked(cli, "--set", "request.instructions=Be brief.")["learnt_from"] == []


def test_a_pilot_is_paid_for_and_predicts_the_rest(folder: Path, cli: Cli) -> None:
    ended = cli(*ESTIMATE, "--pilot", "10", "--json", "--progress", "none")
    found = json.loads(ended.out)
    assert (found["rows"], found["learnt_from"], found["output_by"]) == (ROWS, ["greet-1"], "earlier-runs")
    assert "pilot greet-1: 10 answers for $0.00" in ended.err
    # The whole job then costs what was foretold.
    ran = json.loads(cli("run", *ESTIMATE[1:], "--json", "--progress", "none").out)
    assert usd(found["cost_usd"]["low"]) <= usd(ran["cost_usd"]) <= usd(found["cost_usd"]["high"])


def test_a_pilot_without_answers_is_no_estimate(folder: Path, cli: Cli) -> None:
    ended = cli(*ESTIMATE, "--pilot", "3", "--progress", "none", "--set", "request.model=sandbox-refusal")
    assert ended.code == 3
    assert ended.out == ""
    assert "no estimate without answers" in ended.err


def test_duplicates_are_sent_once_and_counted_once(folder: Path, cli: Cli) -> None:
    once = asked(cli, "--set", "request.input=The same for all.")
    assert (once["rows"], once["requests"]) == (ROWS, 1)
    each = asked(cli, "--set", "request.input=The same for all.", "--set", "duplicates=each")
    assert (each["requests"], each["input_tokens"]["likely"]) == (ROWS, ROWS * once["input_tokens"]["likely"])
    text = cli(*ESTIMATE, "--set", "request.input=The same for all.").out
    assert f"1 request to gpt-5-mini, for {ROWS} rows: duplicates are sent once" in text


def test_what_earlier_runs_have_costs_nothing(folder: Path, cli: Cli) -> None:
    reuse = ("--set", "reuse=same-request")
    before = asked(cli, *reuse)
    assert (before["requests"], before["reused"]) == (ROWS, 0)
    assert cli("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--limit", "5").code == 0
    after = asked(cli, *reuse)
    assert (after["rows"], after["requests"], after["reused"]) == (ROWS, ROWS - 5, 5)
    dry = json.loads(cli("run", "job.yaml", "--config", "config.yaml", *reuse, "--dry-run", "--json").out)
    assert (dry["rows"], dry["reused"]) == (ROWS, 5)
    run = ("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", *reuse)
    assert f"{ROWS - 5} requests to gpt-5-mini, 5 more reused" in cli(*run, "--run", "rest").err
    night = cli(*run, "--run", "night")
    assert f"0 requests to gpt-5-mini, {ROWS} more reused from earlier runs: $0" in night.err
    done = asked(cli, *reuse)
    assert (done["requests"], done["reused"], done["cost_usd"]["high"]) == (0, ROWS, "0")
    assert f"0 requests to gpt-5-mini, {ROWS} more are reused from earlier runs" in cli(*ESTIMATE, *reuse).out


def test_what_may_take_further_turns_has_no_end(folder: Path, cli: Cli) -> None:
    found = asked(cli, "--set", "on_invalid=retry", "--set", "request.text.format.type=json_object")
    assert found["cost_usd"]["high"] is None


def test_standard_input_cannot_be_counted_twice(folder: Path, cli: Cli) -> None:
    ended = cli(*ESTIMATE, "--set", "input.path=-", "--exact", "all")
    assert ended.code == 2
    assert "cannot be read twice" in ended.err
