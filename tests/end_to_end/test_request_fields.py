"""What a job may say of how a request is carried out, from the command line to the provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.rig import Rig

REQUEST = {"model": "gpt-5-mini", "input": "Hello {{ id }}", "max_output_tokens": 100, "store": False}


def test_store_false_is_sent_only_where_the_config_allows_it(rig: Callable[..., Rig]) -> None:
    at = rig(rows=2, job={"request": REQUEST})
    refused = at.run()
    assert refused.code == 2
    assert "request.store: must be true" in refused.err
    assert "provider.store: optional" in refused.err
    assert at.run("--dry-run").code == 2
    assert not at.query("SELECT 1 FROM attempt")

    provider: dict[str, Any] = at.config["provider"]
    at.write_config({**at.config, "provider": {**provider, "store": "optional"}})
    assert at.run("--dry-run").code == 0
    # The sandbox, as most servers do, refuses it in its own words: so it was sent as it stands.
    sent = at.run()
    assert sent.code == 4
    assert "Background mode requires" in sent.err
    shown = at.call("show", "r", "row-0", "--db", "runs.db", "--json")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["request"]["store"] is False
    assert at.call("estimate", "job.yaml", "--config", "config.yaml").code == 0


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"stream": True}, "request.stream: cannot be used in a background run"),
        ({"background": False}, "request.background: must be true"),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "cannot be used together with conversation"),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "the Responses API has no such parameter"),
    ],
)
def test_what_cannot_work_in_the_background_is_refused_with_its_line(
    rig: Callable[..., Rig], fields: dict[str, Any], says: str
) -> None:
    at = rig(rows=1, job={"request": {"model": "gpt-5-mini", "input": "Hello", **fields}})
    ended = at.run()
    assert ended.code == 2
    assert "job.yaml:1" in ended.err
    assert says in " ".join(ended.err.split())
    assert not at.database.exists()
