"""The faults of batches: what a client must survive that has its requests answered in files."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from orchestrator.sandbox.faults.fault_plan import FaultPlan
from orchestrator.sandbox.sandbox_settings import Faults, SandboxSettings
from orchestrator.sandbox.storage.batch_files import ResultFile
from orchestrator.testing import FakeClock

from .test_batches import Client, begin, client, line, read, upload

__all__ = ["client"]


LINES = [line(str(n)) for n in range(20)]
ALL = {str(n) for n in range(20)}
STRUCK = {"0", "10"}


async def ended(client: Client, clock: FakeClock, fault: str, **settings: Any) -> tuple[Any, Any, Any]:
    """A batch of twenty lines that a fault strikes, and that has ended: the package, the caller, the batch."""
    package, caller = await client(faults={fault: 1}, **settings)
    # Batches have published prices from November 2026 on.
    clock.advance(1_794_000_000 - clock.now())
    batch = await begin(package, *LINES)
    clock.advance(40)
    return package, caller, await package.batches.retrieve(batch.id)


async def keys(package: Any, batch: Any) -> tuple[set[str], set[str]]:
    files = [batch.output_file_id, batch.error_file_id]
    read_ = [(await read(package, each)).keys() if each else set() for each in files]
    return set(read_[0]), set(read_[1])


@pytest.mark.anyio
async def test_a_batch_over_the_limit_fails_when_it_is_validated(client: Client, clock: FakeClock) -> None:
    _, caller, batch = await ended(client, clock, "batch_token_limit")
    assert (batch.status, batch.errors.data[0].code) == ("failed", "token_limit_exceeded")
    assert (await caller.ledger())["responses"] == {}


@pytest.mark.anyio
async def test_enqueued_tokens_are_limited_for_each_model(client: Client, clock: FakeClock) -> None:
    package, caller = await client(limits={"batch_enqueued_tokens": 300})
    first, second = await begin(package, line("a"), line("b")), await begin(package, *LINES)
    other = await begin(package, line("c", model="gpt-5-mini"), line("d", model="gpt-5-mini"))
    clock.advance(15)
    statuses = [(await package.batches.retrieve(each.id)).status for each in (first, second, other)]
    assert statuses == ["in_progress", "failed", "in_progress"]
    clock.advance(30)
    third = await begin(package, line("a"), line("b"), line("c"))
    clock.advance(15)
    assert (await package.batches.retrieve(third.id)).status == "in_progress", "the first one has ended"
    ledger = (await caller.ledger())["batches"]
    assert ledger["token_limited"] == 1
    assert 0 < ledger["most_enqueued_tokens"] <= 300


@pytest.mark.anyio
async def test_a_wrong_line_is_named_and_nothing_is_answered(client: Client, clock: FakeClock) -> None:
    _, caller, batch = await ended(client, clock, "batch_line_error")
    assert (batch.status, [each.line for each in batch.errors.data]) == ("failed", [11])
    assert (await caller.ledger())["responses"] == {}


@pytest.mark.anyio
async def test_an_expired_batch_delivers_and_charges_half(client: Client, clock: FakeClock) -> None:
    package, caller, batch = await ended(client, clock, "batch_expires")
    answers, errors = await keys(package, batch)
    assert (batch.status, len(answers), answers | errors) == ("expired", 10, ALL)
    ledger = await caller.ledger()
    assert ledger["responses"] == {"completed": 10, "cancelled": 10}
    assert ledger["cost_pusd"] == ledger["seen_by_client"]["cost_pusd"] > 0


@pytest.mark.anyio
async def test_a_batch_without_output_has_only_errors_and_no_charge(client: Client, clock: FakeClock) -> None:
    package, caller, batch = await ended(client, clock, "batch_no_output")
    assert (batch.status, batch.output_file_id) == ("completed", None)
    errors = await read(package, batch.error_file_id)
    assert {each["response"]["status_code"] for each in errors.values()} == {500}
    assert (await caller.ledger())["cost_pusd"] == 0


@pytest.mark.anyio
async def test_absent_files_can_have_empty_ids(client: Client, clock: FakeClock) -> None:
    package, _, batch = await ended(client, clock, "batch_empty_ids")
    assert (batch.status, batch.error_file_id) == ("completed", "")
    assert await keys(package, batch) == (ALL, set())


@pytest.mark.anyio
async def test_missing_lines_are_charged(client: Client, clock: FakeClock) -> None:
    package, caller, batch = await ended(client, clock, "batch_missing_lines")
    assert await keys(package, batch) == (ALL - STRUCK, set())
    ledger = await caller.ledger()
    assert ledger["responses"] == {"completed": 20}
    assert ledger["seen_by_client"]["responses"] == {"completed": 18}


@pytest.mark.anyio
async def test_late_lines_join_their_file(client: Client, clock: FakeClock) -> None:
    package, _ = await client(faults={"batch_late_lines": 1, "batch_late_s": 30})
    batch = await begin(package, *LINES)
    clock.advance(40)
    batch = await package.batches.retrieve(batch.id)
    assert await keys(package, batch) == (ALL - STRUCK, set())
    clock.advance(30)
    assert await keys(package, batch) == (ALL, set())


@pytest.mark.anyio
async def test_repeated_lines_are_in_both_files(client: Client, clock: FakeClock) -> None:
    package, caller, batch = await ended(client, clock, "batch_repeated_lines")
    text = (await package.files.content(batch.output_file_id)).text
    assert len(text.splitlines()) == 22
    assert await keys(package, batch) == (ALL, STRUCK)
    assert (await caller.ledger())["responses"] == {"completed": 20}


@pytest.mark.anyio
async def test_a_batch_that_never_ends_delivers_after_a_cancel(client: Client, clock: FakeClock) -> None:
    package, _, batch = await ended(client, clock, "batch_never_ends")
    clock.advance(100_000)
    assert (await package.batches.retrieve(batch.id)).status == "in_progress"
    await package.batches.cancel(batch.id)
    clock.advance(1)
    batch = await package.batches.retrieve(batch.id)
    assert (batch.status, await keys(package, batch)) == ("cancelled", (ALL, set()))


@pytest.mark.anyio
async def test_a_cancel_can_take_ten_minutes(client: Client, clock: FakeClock) -> None:
    package, _ = await client(faults={"batch_slow_cancel": 1})
    batch = await begin(package, *LINES)
    clock.advance(15)
    await package.batches.cancel(batch.id)
    clock.advance(599)
    assert (await package.batches.retrieve(batch.id)).status == "cancelling"
    clock.advance(1)
    assert (await package.batches.retrieve(batch.id)).status == "cancelled"


@pytest.mark.anyio
async def test_a_new_batch_can_be_listed_late(client: Client, clock: FakeClock) -> None:
    package, _ = await client(faults={"batch_listed_late": 1, "batch_late_s": 30})
    batch = await begin(package, *LINES)
    assert [each async for each in package.batches.list()] == []
    clock.advance(30)
    assert [each.id async for each in package.batches.list()] == [batch.id]


@pytest.mark.anyio
async def test_a_lost_reply_leaves_a_batch(client: Client) -> None:
    package, _ = await client(faults={"batch_reply_lost": 1})
    with pytest.raises(openai.InternalServerError):
        await begin(package, *LINES)
    assert len([each async for each in package.batches.list()]) == 1


@pytest.mark.anyio
async def test_an_upload_can_be_unknown_at_first(client: Client, clock: FakeClock) -> None:
    package, _ = await client(faults={"file_late": 1, "batch_late_s": 30})
    file_id = await upload(package, *LINES)
    wanted = {"input_file_id": file_id, "endpoint": "/v1/responses", "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError, match="Cannot find file"):
        await package.batches.create(**wanted)
    clock.advance(30)
    assert (await package.batches.create(**wanted)).status == "validating"


@pytest.mark.anyio
async def test_a_lost_reply_leaves_a_file(client: Client) -> None:
    package, _ = await client(faults={"file_reply_lost": 1})
    with pytest.raises(openai.InternalServerError):
        await upload(package, *LINES)
    assert len([each async for each in package.files.list()]) == 1


@pytest.mark.anyio
async def test_faults_of_batches_end_after_the_number_of_batches_given(client: Client, clock: FakeClock) -> None:
    package, _ = await client(faults={"batch_token_limit": 1, "calm_batches_after": 1})
    batches = [await begin(package, line("a")) for _ in range(2)]
    clock.advance(40)
    assert [(await package.batches.retrieve(each.id)).status for each in batches] == ["failed", "completed"]


@pytest.mark.anyio
async def test_lines_of_different_models_fail_the_batch(client: Client, clock: FakeClock) -> None:
    package, _ = await client()
    batch = await begin(package, line("a"), line("b", model="gpt-5-mini"))
    clock.advance(40)
    batch = await package.batches.retrieve(batch.id)
    assert (batch.status, batch.errors.data[0].param) == ("failed", "model")


def test_what_is_drawn_of_a_batch_depends_on_seed_and_ordinal_alone() -> None:
    def drawn(seed: int, **faults: Any) -> list[str | None]:
        plan = FaultPlan(SandboxSettings(seed=seed, faults=Faults(**faults)))
        return [plan.fault_of_batch(ordinal) for ordinal in range(1, 41)]

    first = drawn(1, batch_expires=0.25, batch_no_output=0.25)
    assert set(first) == {None, "batch_expires", "batch_no_output"}
    assert first == drawn(1, batch_expires=0.25, batch_no_output=0.25, server_error=0.9, file_late=1)
    assert first != drawn(2, batch_expires=0.25, batch_no_output=0.25)


def test_files_are_drawn_apart_from_batches() -> None:
    plan = FaultPlan(SandboxSettings(faults=Faults(file_late=1, calm_batches_after=2)))
    assert [plan.fault_of_file(ordinal) for ordinal in (1, 2, 3)] == ["file_late", "file_late", None]
    assert plan.fault_of_batch(1) is None


@pytest.mark.parametrize(
    ("fault", "first", "late"),
    [
        (None, [b"x"], []),
        ("batch_late_lines", [], [b"x"]),
        ("batch_missing_lines", [], []),
        ("batch_repeated_lines", [b"x", b"x"], []),
        ("batch_empty_ids", [b"x"], []),
    ],
)
def test_a_line_is_held_back_repeated_or_lost(fault: str | None, first: list[bytes], late: list[bytes]) -> None:
    file = ResultFile()
    file.add(b"x", fault)
    assert (file.first, file.late) == (first, late)
