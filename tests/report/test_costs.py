"""Cost tables add up exactly in every format."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from orchestrator.core.model import Usage
from orchestrator.core.money import Bound
from orchestrator.report.costs import costs_csv, costs_object, costs_table
from orchestrator.stores.reads import CostRow, Wasted

BY = ("model", "tier")
ROWS = [
    CostRow(
        group=("gpt-5-mini", "default"),
        responses=1200,
        usage=Usage(input_tokens=1_000_000, cached_tokens=5, output_tokens=7, total_tokens=1_000_007),
        cost_pusd=100_000_000_001,
        cost_unknown=0,
        unknown_bound=Bound(0),
        cache_saved_pusd=7_000_000_000,
    ),
    CostRow(
        group=("gpt-x", "flex"),
        responses=2,
        usage=Usage(input_tokens=3, output_tokens=4, total_tokens=7),
        cost_pusd=200_000_000_002,
        cost_unknown=1,
        unknown_bound=Bound(30_000_000_000),
        wasted=Wasted(failed=50_000_000_000, incomplete=10_000_000_000),
        possible_duplicates=1,
        possible_duplicates_bound=Bound(30_000_000_000),
    ),
]


def test_the_object_has_each_group_and_an_exact_total() -> None:
    made = costs_object(ROWS, BY)
    assert made["by"] == ["model", "tier"]
    assert made["rows"][1] == {
        "model": "gpt-x",
        "tier": "flex",
        "responses": 2,
        "usage": {
            "input_tokens": 3,
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "output_tokens": 4,
            "reasoning_tokens": 0,
            "total_tokens": 7,
            "cache_write_12h_tokens": 0,
        },
        "cost_usd": "0.200000000002",
        "cost_unknown": 1,
        "cost_unknown_upper_bound_usd": "0.03",
        "wasted_failed_usd": "0.05",
        "wasted_incomplete_usd": "0.01",
        "wasted_empty_usd": "0",
        "wasted_duplicate_usd": "0",
        "possible_duplicates": 1,
        "possible_duplicates_upper_bound_usd": "0.03",
        "cache_saved_usd": "0",
        "cost_unbounded": 0,
        "cost_estimated_usd": "0",
    }
    assert (made["total"]["responses"], made["total"]["cost_usd"]) == (1202, "0.300000000003")


def test_a_sum_with_a_cost_without_a_bound_has_none() -> None:
    rows = [
        ROWS[1],
        replace(ROWS[1], cost_unknown=3, unknown_bound=Bound(1, 2), possible_duplicates_bound=Bound(0, 1)),
    ]
    total = costs_object(rows, BY)["total"]
    assert (total["cost_unknown"], total["cost_unbounded"], total["cost_unknown_upper_bound_usd"]) == (4, 2, None)
    assert total["possible_duplicates_upper_bound_usd"] is None
    table = costs_table(rows, BY).plain
    assert "NO BOUND" in table
    assert "no bound: the price of the model or of a tool is not known" in table


def test_the_estimated_part_has_a_column() -> None:
    rows = [ROWS[0], replace(ROWS[1], estimated_pusd=20_000_000_000)]
    table = costs_table(rows, BY).plain
    assert "ESTIMATED" in table
    assert "$0.02" in table
    assert "ESTIMATED" not in costs_table(ROWS, BY).plain


def test_csv_has_a_line_per_group() -> None:
    lines = list(csv.DictReader(io.StringIO(costs_csv(ROWS, BY))))
    assert [(line["model"], line["tier"], line["cost_usd"], line["input_tokens"]) for line in lines] == [
        ("gpt-5-mini", "default", "0.100000000001", "1000000"),
        ("gpt-x", "flex", "0.200000000002", "3"),
    ]


def test_the_table_ends_with_the_total_and_what_was_wasted() -> None:
    assert costs_table(ROWS, BY).plain.split("\n") == [
        "MODEL       TIER     RESPONSES      INPUT  CACHED  OUTPUT   COST  WASTED  UNKNOWN  AT MOST",
        "gpt-5-mini  default      1,200  1,000,000       5       7  $0.10",
        "gpt-x       flex             2          3       0       4  $0.20   $0.06        1    $0.03",
        "total                    1,202  1,000,003       5      11  $0.30   $0.06        1    $0.03",
        "wasted, and part of the cost: failed $0.05 · incomplete $0.01",
        "possibly sent twice, and part of the unknown cost: 1 (at most $0.03)",
        "the cache saved $0.007",
    ]


def test_the_table_leaves_out_empty_columns() -> None:
    assert costs_table(ROWS[:1], BY).plain.split("\n")[0] == (
        "MODEL       TIER     RESPONSES      INPUT  CACHED  OUTPUT   COST"
    )


def test_a_cache_that_cost_more_than_it_saved_is_shown_as_a_cost() -> None:
    row = replace(ROWS[0], cache_saved_pusd=-2_000_000_000)
    assert costs_table([row], BY).plain.endswith("\nthe cache cost $0.002")


def test_without_costs_the_total_is_zero() -> None:
    assert costs_object([], BY)["total"]["cost_usd"] == "0"
    assert costs_csv([], BY).startswith("model,tier,responses,input_tokens")
