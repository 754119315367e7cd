"""The summary object is the contract; the closing table shows people the same."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from orchestrator.core.money import Bound
from orchestrator.core.states import RunState, State
from orchestrator.report.summary import closing_table, runs_table, summary_object
from orchestrator.stores.reads import Summary

CONTRACT = """
{"run":"nightly-1","job":"nightly","state":"finished","reason":null,
 "requests":{"total":1863,"pending":0,"blocked":0,"submitting":0,"submitted":0,"acting":0,"in_doubt":0,"succeeded":1860,"failed":3,
             "cancelled":0},
 "attempts":1870,"polls":4100,"rate_limited":12,"possible_duplicates":0,"reused":0,"skipped":0,
 "usage":{"input_tokens":1000,"cached_tokens":200,"cache_write_tokens":10,"output_tokens":50,"reasoning_tokens":20,
          "total_tokens":1050,"cache_write_12h_tokens":0},
 "cost_usd":"1.234567","cost_unknown":0,"cost_unknown_upper_bound_usd":"0","reserved_usd":"0","budget_usd":"5",
 "elapsed_s":41.235,"database":"orchestrator.db","cost_unbounded":0,"cost_estimated_usd":"0","date":null,"resume_at":null}
"""


def test_the_object_has_the_keys_of_the_contract_in_order(a_summary: Callable[..., Summary]) -> None:
    made = summary_object(a_summary(), "orchestrator.db")
    assert json.dumps(made) == json.dumps(json.loads(CONTRACT))


def test_no_budget_is_null(a_summary: Callable[..., Summary]) -> None:
    assert summary_object(a_summary(run={"budget_pusd": None}), "x.db")["budget_usd"] is None


def test_a_closing_table(a_summary: Callable[..., Summary]) -> None:
    places = {"results": "results/out.jsonl (1,863 rows)", "database": "orchestrator.db"}
    table = closing_table(a_summary(), places=places, failures={"content_filter": 2, "refusal": 1})
    assert table.plain == (
        "nightly-1  finished after 41 s\n"
        "\n"
        "  requests        1,863   1,860 succeeded · 3 failed\n"
        "  failures                content_filter 2 · refusal 1\n"
        "  attempts        1,870   4,100 polls · 12 rate-limited (429)\n"
        "  tokens in       1,000   200 cached\n"
        "  tokens out         50   20 reasoning\n"
        "  cost        $1.234567   budget $5.00\n"
        "\n"
        "  results     results/out.jsonl (1,863 rows)\n"
        "  database    orchestrator.db"
    )


def test_the_causes_of_doubt_are_named_and_the_rest_is_counted(a_summary: Callable[..., Summary]) -> None:
    causes = {"no answer within 1 s": 7, "x" * 40 + " y" * 60: 2, "HTTP 502": 1, "HTTP 504": 1, "HTTP 503": 1}
    [line] = [
        line
        for line in closing_table(a_summary(), places={}, failures={}, doubts=causes).plain.splitlines()
        if line.startswith("  in doubt")
    ]
    first, long, third, others = line.removeprefix("  in doubt").strip().split(" · ")
    assert (first, third, others) == ("no answer within 1 s 7", "HTTP 502 1", "otherwise 2")
    assert long.endswith(" [...] 2")
    assert len(long) <= 102


def test_unknown_and_reserved_amounts_are_shown_with_their_bounds(a_summary: Callable[..., Summary]) -> None:
    table = closing_table(
        a_summary(
            run={"state": RunState.HALTED, "reason": "held in doubt"},
            requests={
                State.SUCCEEDED: 5,
                State.IN_DOUBT: 2,
                State.SUBMITTING: 1,
                State.SUBMITTED: 1,
                State.AWAITING_TOOLS: 1,
                State.PENDING: 4,
                State.BLOCKED: 7,
            },
            skipped_rows=6,
            reused=3,
            possible_duplicates=1,
            possible_duplicates_bound=Bound(50_000_000_000),
            cost_unknown=2,
            cost_unknown_bound=Bound(10_000_000_000),
            reserved_pusd=20_000_000_000,
        ),
        places={},
        failures={},
    ).plain
    assert "halted after 41 s\nheld in doubt\n\n" in table
    assert "5 succeeded · 3 reused · 2 in doubt · 3 in flight · 4 waiting" in table
    assert "4 waiting · 7 blocked · 6 bad rows skipped" in table
    assert "1 possibly sent twice (at most $0.05)" in table
    assert "plus 2 of unknown cost (at most $0.01) · budget $5.00 · $0.02 reserved" in table

    assert "failures" not in table


@pytest.mark.parametrize(
    ("bound", "words", "usd"),
    [
        (Bound(0, 2), "plus 2 of unknown cost (no bound is known)", None),
        (
            Bound(10_000_000_000, 1),
            "plus 2 of unknown cost (at most $0.01 without 1 for which no bound is known)",
            None,
        ),
        (Bound(0, 0), "plus 2 of unknown cost (at most $0.00)", "0"),
    ],
)
def test_a_cost_without_a_bound_is_never_at_most_nothing(
    a_summary: Callable[..., Summary], bound: Bound, words: str, usd: str | None
) -> None:
    summary = a_summary(cost_unknown=2, cost_unknown_bound=bound)
    assert words in closing_table(summary, places={}, failures={}).plain
    made = summary_object(summary, "r.db")
    assert (made["cost_unknown_upper_bound_usd"], made["cost_unbounded"]) == (usd, bound.unbounded)


def test_possible_duplicates_without_a_bound_say_so(a_summary: Callable[..., Summary]) -> None:
    summary = a_summary(possible_duplicates=3, possible_duplicates_bound=Bound(0, 3))
    assert "3 possibly sent twice (no bound is known)" in closing_table(summary, places={}, failures={}).plain


def test_the_estimated_part_of_the_cost_is_named(a_summary: Callable[..., Summary]) -> None:
    summary = a_summary(cost_estimated_pusd=20_000_000_000)
    assert "$0.02 of it estimated" in closing_table(summary, places={}, failures={}).plain
    assert summary_object(summary, "r.db")["cost_estimated_usd"] == "0.02"


def test_the_columns_of_runs_are_aligned(a_summary: Callable[..., Summary]) -> None:
    rows = [a_summary(), a_summary(run={"name": "研究-1", "state": RunState.PAUSED}, cost_unknown=1)]
    assert runs_table(rows).plain.split("\n") == [
        "RUN        JOB      STATE     SETTLED     OF  FAILED        COST  STARTED (UTC)",
        "nightly-1  nightly  finished    1,863  1,863       3   $1.234567  2026-11-21 20:00:00",
        "研究-1     nightly  paused      1,863  1,863       3  $1.234567+  2026-11-21 20:00:00",
    ]
