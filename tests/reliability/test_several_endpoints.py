"""Several endpoints in one run: shares, limits, endpoints that refuse or are gone, and who has which response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from starlette.responses import Response

from orchestrator import Config
from orchestrator.core.errors import ConfigError, ExitCode, SpecError
from orchestrator.core.events import Warned
from orchestrator.core.states import RunState, State
from orchestrator.report.exit_code import exit_code
from orchestrator.stores.reads import Summary

from .gateway import Call, error
from .rehearsal import AMPLE, RUN, Rehearsal, Rehearse

pytestmark = pytest.mark.anyio

REFUSALS: dict[str, Callable[[], Response]] = {
    "insufficient_quota": partial(error, 429, "insufficient_quota", "no credit"),
    "invalid_api_key": partial(error, 401, "invalid_api_key", "wrong key"),
    "model_not_found": partial(error, 404, "model_not_found", "no such model"),
    "wrong_address": partial(error, 404, None, "not found"),
}


class Several:
    """One job at several sandboxes."""

    def __init__(self, *at: Rehearsal) -> None:
        self.servers = dict(zip("abc", at, strict=False))
        self.first = at[0]
        self.names(**{name: {} for name in self.servers})

    def names(self, **endpoints: dict[str, Any]) -> None:
        """Give each endpoint its settings beside its address."""
        listed = [
            {"name": name, "base_url": self.servers[name[0]].base_url, **given} for name, given in endpoints.items()
        ]
        self.first.config = Config.model_validate({"providers": listed, "limits": AMPLE})

    async def run(self) -> Summary:
        async with self.first.orchestrator() as orchestrator:
            return await orchestrator.run(self.first.job, name=RUN)

    async def left_open(self, rows: int) -> None:
        """Run the job until so many responses are open, and stop it."""
        async with self.first.orchestrator() as orchestrator, anyio.create_task_group() as tasks:
            tasks.start_soon(partial(orchestrator.run, self.first.job, name=RUN))
            while orchestrator.progress.requests.get(State.SUBMITTED, 0) < rows:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            orchestrator.stop()

    async def costs(self) -> dict[str, tuple[int, int]]:
        """The responses and the cost of each endpoint."""
        async with self.first.orchestrator() as orchestrator:
            rows = await orchestrator.costs(RUN, by=["endpoint"])
        return {row.group[0]: (row.responses, row.cost_pusd) for row in rows}

    async def check_ledgers(self) -> None:
        """Each endpoint has the bill that the run says it has."""
        costs = await self.costs()
        for name, at in self.servers.items():
            ledger = await at.ask("/_ledger")
            assert costs.get(name, (0, 0))[1] == ledger["seen_by_client"]["cost_pusd"]

    @property
    def warned(self) -> Counter[str]:
        return Counter(event.code for event in self.first.events if isinstance(event, Warned))


def finished(summary: Summary, rows: int) -> None:
    assert (exit_code(summary, None), summary.requests.succeeded) == (ExitCode.OK, rows)


class Refusing:
    """Refuses creates in one way, from a number on and for a time, until it is repaired; polls are answered."""

    def __init__(self, reply: Callable[[], Response], *, after: int = 0, for_s: float = 1e9) -> None:
        self._reply = reply
        self._after = after
        self._for_s = for_s
        self.repaired = False

    def __call__(self, call: Call) -> Response | None:
        repaired = self.repaired or call.since_first_s > self._for_s
        struck = call.kind == "create" and call.ordinal > self._after and not repaired
        return self._reply() if struck else None


async def test_three_endpoints_answer_one_run_and_each_cost_has_its_endpoint(rehearse: Rehearse) -> None:
    at = Several(*[await rehearse(rows=120) for _ in range(3)])
    at.names(a={"weight": 3}, b={"weight": 2}, c={"weight": 1})
    finished(await at.run(), 120)
    assert sum(responses for responses, _ in (await at.costs()).values()) == 120
    assert len(await at.costs()) == 3
    await at.check_ledgers()


async def test_an_endpoint_without_weight_gets_nothing_new(rehearse: Rehearse) -> None:
    at = Several(await rehearse(rows=40), await rehearse())
    at.names(a={"weight": 0}, b={})
    finished(await at.run(), 40)
    assert (await at.costs()).keys() == {"b"}


@pytest.mark.parametrize("name", REFUSALS)
async def test_an_endpoint_that_refuses_everything_leaves_the_rows_to_the_others(
    rehearse: Rehearse, name: str
) -> None:
    at = Several(await rehearse(rows=60, script=Refusing(REFUSALS[name])), await rehearse())
    finished(await at.run(), 60)
    assert (await at.costs()).keys() == {"b"}
    assert at.warned["endpoint_closed"] == 1
    await at.check_ledgers()


async def test_an_endpoint_that_is_not_there_leaves_the_rows_to_the_others(rehearse: Rehearse) -> None:
    at = Several(await rehearse(rows=60), await rehearse())
    at.names(a={}, b={"base_url": "http://127.0.0.1:9/v1"})
    finished(await at.run(), 60)
    assert (await at.costs()).keys() == {"a"}


async def test_an_endpoint_is_tried_again_after_a_while(rehearse: Rehearse) -> None:
    refusing = Refusing(REFUSALS["insufficient_quota"], after=10, for_s=25)
    slow = {"latency": {"queue": 60, "run": 120}}
    at = Several(await rehearse(rows=200, script=refusing), await rehearse(sandbox=slow))
    at.first.config = Config.model_validate(
        {
            "providers": [
                {"name": "a", "base_url": at.servers["a"].base_url},
                {"name": "b", "base_url": at.servers["b"].base_url, "limits": {"max_in_flight": 5}},
            ],
            "limits": AMPLE,
        }
    )
    finished(await at.run(), 200)
    assert at.warned["endpoint_opened"] == 1
    assert (await at.costs())["a"][0] > 100
    await at.check_ledgers()


async def test_the_run_halts_when_no_endpoint_is_left_and_says_why(rehearse: Rehearse) -> None:
    refusing = [Refusing(REFUSALS[name], after=5) for name in ("insufficient_quota", "invalid_api_key")]
    at = Several(*[await rehearse(rows=60, script=script) for script in refusing])
    summary = await at.run()
    assert (summary.run.state, summary.run.reason) == (RunState.HALTED, "no_endpoint")
    for script in refusing:
        script.repaired = True
    finished(await at.run(), 60)
    await at.check_ledgers()


async def test_what_is_open_is_followed_where_it_is(rehearse: Rehearse) -> None:
    slow = {"latency": {"queue": 30, "run": 60}}
    at = Several(await rehearse(rows=40, sandbox=slow), await rehearse(sandbox=slow))
    await at.left_open(40)
    listed = at.first.config.providers
    at.first.config = at.first.config.model_copy(update={"providers": listed[:1]})
    with pytest.raises(ConfigError, match="endpoint of a response that is at endpoint 'b'; it has: a"):
        await at.run()
    # Renamed, too.
    at.names(a={}, bee={})
    with pytest.raises(ConfigError, match="it has: a, bee"):
        await at.run()
    # Nothing new goes to an endpoint that is on its way out, and its responses are collected.
    at.names(a={}, b={"weight": 0})
    finished(await at.run(), 40)
    creates = [await server.ask("/_ledger") for server in at.servers.values()]
    assert sum(each["creates"]["calls"] for each in creates) == 40
    await at.check_ledgers()


async def test_a_run_that_began_with_one_provider_continues_with_several(rehearse: Rehearse) -> None:
    slow = {"latency": {"queue": 30, "run": 60}}
    at = Several(await rehearse(rows=20, sandbox=slow), await rehearse())
    several = at.first.config
    at.first.config = Config.model_validate({"provider": {"base_url": at.first.base_url}, "limits": AMPLE})
    await at.left_open(20)
    at.first.config = several
    finished(await at.run(), 20)
    assert await at.costs() == {"(one)": (20, (await at.run()).cost_pusd)}


@pytest.mark.parametrize("job", [{"lane": "batch"}, {"lane": "auto", "deadline": "2h"}, {"stream": True}])
async def test_what_works_at_one_endpoint_alone_is_refused(rehearse: Rehearse, job: dict[str, Any]) -> None:
    at = Several(await rehearse(rows=2, job=job), await rehearse())
    with pytest.raises(SpecError, match="works with one endpoint"):
        await at.run()


@pytest.mark.parametrize("field", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}])
async def test_a_row_that_names_an_object_of_one_endpoint_fails_alone(
    rehearse: Rehearse, field: dict[str, str]
) -> None:
    at = Several(await rehearse(rows=2), await rehearse())
    at.first.ask_for(**field)
    summary = await at.run()
    assert summary.requests.failed == 2
    assert not (await at.servers["a"].ask("/_ledger"))["creates"]["calls"]


@pytest.mark.parametrize("mode", ["previous_response", "conversation"])
async def test_the_turns_of_a_chain_stay_where_the_chain_began(rehearse: Rehearse, mode: str) -> None:
    at = Several(await rehearse(rows=12, job={"chain": {"by": "chain", "mode": mode}}), await rehearse())
    rows = [f'{{"id": "{n}", "text": "Hello.", "chain": "{n % 4}"}}' for n in range(12)]
    (at.first.folder / "rows.jsonl").write_text("\n".join(rows))
    finished(await at.run(), 12)
    assert sum(responses for responses, _ in (await at.costs()).values()) == 12
    assert len(await at.costs()) == 2
    await at.check_ledgers()


async def test_copies_are_deleted_where_they_are(rehearse: Rehearse) -> None:
    at = Several(await rehearse(rows=30), await rehearse())
    finished(await at.run(), 30)
    shares = {name: responses for name, (responses, _) in (await at.costs()).items()}
    async with at.first.orchestrator() as orchestrator:
        purged = await orchestrator.purge(RUN)
        history = await orchestrator.show(RUN, "row-1")
    assert sum(purged.deleted.values()) == 30
    assert (purged.unknown, purged.left) == (0, 0)
    assert len(shares) == 2
    assert history.responses[-1].endpoint in shares
