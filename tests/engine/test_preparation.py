"""What a pending row becomes before it is sent: its body, and the most that it can cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.core.lanes import Lane
from orchestrator.engine.items import Prepared
from orchestrator.engine.preparation import Destinations, Preparation, Unsendable
from orchestrator.engine.stages import Stage
from orchestrator.executors.background import create_body
from orchestrator.job.chains import Chain
from orchestrator.job.requests.compose import RequestRules
from orchestrator.job.requests.renderer import Renderer
from orchestrator.job.spec import Job
from orchestrator.policy.pricing.budget import Budget, Cap
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.policy.rate_limits.limits import Pools
from orchestrator.stores.reads import Continuation, PendingRequest

from .builders import a_request, a_stage

NOW = 1_790_000_000.0
REQUEST = {"model": "gpt-5-mini", "input": "{{ text }}", "max_output_tokens": 100}
ROW = PendingRequest(
    id=1, key="a", stage="main", where="rows.jsonl:1", attempts=0, number=0, epoch=0, not_before=0.0,
    max_output_tokens=None, row=b'{"text": "How are you?"}',
)  # fmt: skip
NEXT = Continuation(fields=b'{"previous_response_id": "resp_1", "input": []}', context_tokens=5_000)


def chained(mode: str | None, history_tokens: int = 100_000) -> dict[str, Any]:
    """The settings of a job whose rows are the turns of a chain; those of any other job for None."""
    if mode is None:
        return {}
    chain = Chain.model_validate({"by": "talk", "mode": mode, "history_tokens": history_tokens})
    return {"chain_mode": mode, "rules": RequestRules(chain=chain)}


def preparation(folder: Path, stage: Stage | None = None, **settings: Any) -> Preparation:
    (folder / "rows.jsonl").write_text("")
    job = Job.model_validate({"name": "a", "input": {"path": str(folder / "rows.jsonl")}, "request": REQUEST})
    return Preparation(
        provider="sandbox",
        renderer=Renderer(job),
        encode=lambda _, fields, **marks: create_body(fields, run_uid="uid", **marks),
        prices=[PriceBook()],
        destinations=Destinations([Pools(requests_per_minute=None, tokens_per_minute=None, now=NOW)]),
        budget=Budget([Cap(scope="run", limit_pusd=10**13, committed_pusd=0)]),
        stage=stage or a_stage(**settings),
    )


def prepared(folder: Path, request: PendingRequest, **settings: Any) -> Prepared:
    made = preparation(folder, **settings).prepare(request, NOW)
    assert isinstance(made, Prepared), made
    return made


def worst_case(made: Prepared) -> int:
    assert made.worst_case_pusd is not None
    return made.worst_case_pusd


@pytest.mark.parametrize(
    ("mode", "turn"),
    [
        (None, replace(ROW, turn=1, continuation=NEXT)),
        ("previous_response", replace(ROW, chain="c", follows=7, earlier_response_id="resp_0", earlier_tokens=5_000)),
        (
            "conversation",
            replace(
                ROW, chain="c", follows=7, earlier_response_id="r", earlier_tokens=5_000, conversation_id="conv_1"
            ),
        ),
    ],
    ids=["turn", "previous_response", "conversation"],
)
def test_what_the_model_reads_again_is_part_of_the_worst_case(
    tmp_path: Path, mode: str | None, turn: PendingRequest
) -> None:
    first = prepared(tmp_path, ROW)
    again = prepared(tmp_path, turn, **chained(mode))
    # 5,000 tokens more, each for a quarter of a micro-dollar.
    assert worst_case(again) - worst_case(first) >= 0.9 * 5_000 * 250_000
    assert again.tokens >= 5_000


def test_a_history_that_is_carried_along_is_counted_once(tmp_path: Path) -> None:
    turn = replace(ROW, chain="c", follows=7, earlier_response_id="resp_0", earlier_tokens=5_000)
    made = prepared(tmp_path, turn, **chained("stateless", 100))
    assert made.tokens < 1_000


@pytest.mark.parametrize("mode", ["previous_response", "conversation"])
def test_a_turn_after_one_of_unknown_usage_has_no_bound(tmp_path: Path, mode: str) -> None:
    unknown = replace(ROW, chain="c", follows=7, earlier_response_id="resp_0", conversation_id="conv_1")
    refused = preparation(tmp_path, **chained(mode)).prepare(unknown, NOW)
    assert isinstance(refused, Unsendable)
    assert refused.code == "cost_unbounded"
    further = replace(ROW, turn=1, continuation=replace(NEXT, context_tokens=0))
    assert isinstance(preparation(tmp_path).prepare(further, NOW), Unsendable)


def test_a_first_turn_that_is_tried_again_in_its_conversation_has_a_bound(tmp_path: Path) -> None:
    head = replace(ROW, chain="c", conversation_id="conv_1")
    made = prepared(tmp_path, head, **chained("conversation"))
    assert orjson.loads(made.body)["conversation"] == "conv_1"
    assert made.new_conversation is None


def test_only_rows_without_chain_or_turn_have_a_fingerprint(tmp_path: Path) -> None:
    assert prepared(tmp_path, ROW).fingerprint is not None
    assert prepared(tmp_path, ROW, ask_once=False).fingerprint is None
    assert prepared(tmp_path, ROW, ask_once=False, reuse_max_age_s=60.0).fingerprint is not None
    assert prepared(tmp_path, replace(ROW, chain="c"), **chained("stateless")).fingerprint is None
    raised = prepared(tmp_path, replace(ROW, max_output_tokens=900))
    assert raised.fingerprint == prepared(tmp_path, ROW).fingerprint
    assert orjson.loads(raised.body)["max_output_tokens"] == 900


def test_the_cache_key_is_set_where_it_is_asked_for(tmp_path: Path) -> None:
    assert "prompt_cache_key" not in orjson.loads(prepared(tmp_path, ROW).body)
    assert orjson.loads(prepared(tmp_path, ROW, rules=RequestRules(cache_key=True)).body)[
        "prompt_cache_key"
    ].startswith("prefix-")


@pytest.mark.parametrize("lane", [Lane.BACKGROUND, Lane.SYNC, Lane.FLEX, Lane.WINDOW_2H, Lane.WINDOW_8H])
def test_a_request_is_made_for_the_lane_that_its_stage_takes(tmp_path: Path, lane: Lane) -> None:
    stage = a_stage()
    stage.lane = lane
    plain, made = (
        preparation(tmp_path, each).prepare(a_request(1, row=b'{"text": "x"}'), NOW) for each in (a_stage(), stage)
    )
    assert isinstance(plain, Prepared)
    assert isinstance(made, Prepared)
    assert (made.lane, made.window) == (lane, {Lane.WINDOW_2H: "2h", Lane.WINDOW_8H: "8h"}.get(lane))
    assert made.service_tier == ("flex" if lane is Lane.FLEX else None)
    # What is asked is the same, so answers are shared; and a lane that is missed may cost the price of the default.
    assert made.fingerprint == plain.fingerprint
    assert worst_case(made) >= worst_case(plain) > 0 or lane is Lane.FLEX
