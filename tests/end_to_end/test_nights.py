"""The same job night after night: each night asks what changed, and nothing is paid for twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from .rig import Ended, Rig

REQUEST = {
    "model": "gpt-5-mini",
    "instructions": "Be brief.",
    "input": "Sum up: {{ text }}",
    "max_output_tokens": 200,
}
FAST = {"latency": {"queue": 0, "run": 0.02}}


@pytest.fixture
def nightly(rig: Callable[..., Rig]) -> Callable[..., Rig]:
    """A folder with a job that has increments, and twenty rows."""

    def make(increments: dict[str, Any] | None = None, **settings: Any) -> Rig:
        job = {"request": REQUEST, "increments": increments or {}} | settings.pop("job", {})
        made = rig(job=job, sandbox=FAST | settings.pop("sandbox", {}), **settings)
        write(made, {str(n): f"Report {n} was read." for n in range(20)})
        return made

    return make


def write(at: Rig, texts: dict[str, str]) -> None:
    at.write_rows({"id": key, "text": text} for key, text in texts.items())


def write_request(at: Rig, **changes: Any) -> None:
    at.write_job({**at.job, "request": {**REQUEST, **changes}})


def night(at: Rig, *more: str) -> Ended:
    return at.call("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--json", *more)


def changes(ended: Ended) -> dict[str, int]:
    assert ended.code == 0, ended.err
    return {change: count for change, count in ended.summary["increment"].items() if count}


def dataset(at: Rig) -> dict[str, str]:
    exported = at.call("export", "--dataset", "speeches", "--db", "runs.db")
    assert exported.code == 0, exported.err
    return {line["key"]: line["output_text"] for line in map(json.loads, exported.out.splitlines())}


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────


def test_each_night_asks_what_is_new_or_changed(nightly: Callable[..., Rig]) -> None:
    at = nightly(job={"output": "all.jsonl"})
    assert changes(night(at)) == {"new": 20}
    second = night(at)
    assert changes(second) == {"unchanged": 20}
    assert second.summary["attempts"] == 0
    write(at, {str(n): f"Report {n} was read." if n != 3 else "Another text." for n in range(1, 22)})
    third = night(at)
    assert changes(third) == {"new": 2, "changed": 1, "unchanged": 18, "removed": 1}
    assert third.summary["requests"]["succeeded"] == third.summary["attempts"] == 3
    answers = dataset(at)
    assert sorted(map(int, answers)) == list(range(1, 22))
    written = [json.loads(line) for line in (at.folder / "all.jsonl").read_text().splitlines()]
    assert {line["key"]: line["output_text"] for line in written} == answers
    assert at.ledger()["creates"]["accepted"] == 23


def test_reordered_rows_other_columns_and_a_template_written_otherwise_ask_nothing(
    nightly: Callable[..., Rig],
) -> None:
    at = nightly()
    night(at)
    rows = [{"unused": n, "id": str(n), "text": f"Report {n} was read."} for n in reversed(range(20))]
    at.write_rows(rows)
    assert changes(night(at)) == {"unchanged": 20}
    write_request(at, input="Sum up: {# said plainly #}{{ text }}")
    assert changes(night(at)) == {"unchanged": 20}
    at.write_rows({"id": row["id"], "report": row["text"]} for row in rows)
    write_request(at, input="Sum up: {{ report }}")
    assert changes(night(at)) == {"unchanged": 20}
    assert at.ledger()["creates"]["accepted"] == 20


def test_a_row_that_fails_is_tried_again_until_it_is_given_up(nightly: Callable[..., Rig]) -> None:
    at = nightly(
        {"give_up_after": 2}, sandbox={"faults": {"failed_server_error": 1.0}}, job={"retry": {"attempts": 1}}
    )
    write(at, {"1": "One.", "2": "Two."})
    found = []
    for _ in range(4):
        ended = night(at)
        assert ended.code in (0, 3), ended.err
        found.append({change: count for change, count in ended.summary["increment"].items() if count})
    assert found == [{"new": 2}, {"failed_before": 2}, {"given_up": 2}, {"given_up": 2}]
    write(at, {"1": "One.", "2": "Another."})
    assert night(at).summary["increment"]["failed_before"] == 0


def test_old_answers_fall_due(nightly: Callable[..., Rig]) -> None:
    at = nightly({"ask_again_after": "1ms"})
    night(at)
    again = night(at)
    assert changes(again) == {"due_again": 20}
    assert again.summary["attempts"] == 20


def test_a_full_refresh_asks_every_row(nightly: Callable[..., Rig]) -> None:
    at = nightly()
    night(at)
    again = night(at, "--full-refresh")
    assert changes(again) == {"due_again": 20}
    assert again.summary["attempts"] == 20


# ── a request that changed ────────────────────────────────────────────────────────────────────────────────────


def test_a_changed_prompt_sends_nothing_until_the_user_decides(nightly: Callable[..., Rig]) -> None:
    at = nightly()
    night(at)
    write_request(at, instructions="Be very brief.")
    write(at, {str(n): f"Report {n} was read." for n in range(21)})
    refused = night(at)
    assert refused.code == 2
    assert "20 answered rows would be asked again, about $0.0" in refused.err
    assert "request.instructions:  - Be brief.   + Be very brief." in refused.err
    assert "--changed ask" in refused.err
    assert at.ledger()["creates"]["accepted"] == 20
    kept = night(at, "--changed", "keep")
    assert changes(kept) == {"new": 1, "request_changed": 20}
    assert kept.summary["attempts"] == 1
    # The decision lasts: the kept answers count as those of the new prompt.
    assert changes(night(at)) == {"unchanged": 21}
    write_request(at)
    # Back to the first prompt: the twenty are as they were; the newest was asked with the other one.
    assert night(at).code == 2
    back = night(at, "--changed", "ask")
    assert changes(back) == {"unchanged": 20, "request_changed": 1}


def test_asking_again_puts_changed_rows_first(nightly: Callable[..., Rig]) -> None:
    at = nightly()
    night(at)
    write_request(at, instructions="Be very brief.")
    texts = {str(n): f"Report {n} was read." for n in range(22)} | {"7": "Another text."}
    write(at, texts)
    asked = night(at, "--changed", "ask", "--run", "again")
    assert changes(asked) == {"changed": 1, "new": 2, "request_changed": 19}
    keys = [key for (key,) in at.query("SELECT key FROM request WHERE run_id = 2 ORDER BY id")]
    assert keys[:3] == ["7", "20", "21"]
    assert Counter(keys).most_common(1)[0][1] == 1
    # Put back, the answers of the first night are there.
    write_request(at)
    write(at, {str(n): f"Report {n} was read." for n in range(20)})
    back = night(at, "--changed", "ask")
    assert back.summary["attempts"] == 0
    assert back.summary["reused"] == 20


# ── rows that are gone ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("left", [0, 10])
def test_an_input_that_shrank_too_much_removes_and_sends_nothing(nightly: Callable[..., Rig], left: int) -> None:
    at = nightly()
    night(at)
    write(at, {**{str(n): f"Report {n} was read." for n in range(left)}, **({"new": "New."} if left else {})})
    halted = night(at)
    assert halted.code in (3, 4), halted.err
    assert "rows of the dataset are missing from the input" in halted.err + halted.out or left == 0
    assert len(dataset(at)) == 20
    assert at.ledger()["creates"]["accepted"] == 20
    allowed = night(at, "--set", "increments.removed_at_most=100%")
    assert allowed.code in (0, 3), allowed.err
    if left:
        assert len(dataset(at)) == left + 1


def test_an_input_that_cannot_be_read_removes_and_sends_nothing(nightly: Callable[..., Rig]) -> None:
    at = nightly()
    night(at)
    at.write_rows([{"id": "new", "text": "New."}, '{"id": "0", "te'])
    cut = night(at)
    assert cut.code == 2
    assert "rows.jsonl:2" in cut.err
    (at.folder / "rows.jsonl").unlink()
    missing = night(at)
    assert missing.code == 2
    assert "rows.jsonl" in missing.err
    assert sorted(dataset(at), key=int) == [str(n) for n in range(20)]
    assert at.query("SELECT count(*) FROM entry WHERE removed_at IS NOT NULL") == [(0,)]
    assert at.ledger()["creates"]["accepted"] == 20


def test_a_limit_and_bad_rows_remove_nothing(nightly: Callable[..., Rig]) -> None:
    at = nightly()
    night(at)
    assert changes(night(at, "--limit", "18")) == {"unchanged": 18}
    at.write_rows([*({"id": str(n), "text": f"Report {n} was read."} for n in range(18)), "not JSON"])
    at.write_job({**at.job, "input": {**at.job["input"], "on_bad_row": "skip"}})
    assert changes(night(at)) == {"unchanged": 18}
    assert len(dataset(at)) == 20


def test_a_row_that_comes_back_is_not_asked_again(nightly: Callable[..., Rig]) -> None:
    at = nightly()
    night(at)
    write(at, {str(n): f"Report {n} was read." for n in range(18)})
    assert changes(night(at)) == {"unchanged": 18, "removed": 2}
    assert len(dataset(at)) == 18
    write(at, {str(n): f"Report {n} was read." for n in range(20)})
    assert changes(night(at)) == {"unchanged": 20}
    assert len(dataset(at)) == 20


def test_a_key_that_comes_twice_is_refused_although_it_is_unchanged(nightly: Callable[..., Rig]) -> None:
    at = nightly()
    night(at)
    rows = [{"id": str(n % 20), "text": f"Report {n % 20} was read."} for n in range(21)]
    at.write_rows(rows)
    refused = night(at)
    assert refused.code == 2
    assert "the key '0' was used by an earlier row" in refused.err


# ── nights that end badly ─────────────────────────────────────────────────────────────────────────────────────


def test_the_next_night_takes_over_one_that_was_killed(nightly: Callable[..., Rig]) -> None:
    at = nightly(sandbox={"latency": {"queue": 0, "run": {"from_s": 0.05, "to_s": 2.5}}})
    killed = at.run_until(lambda: at.settled() >= 3, send=signal.SIGKILL)
    assert killed.code == -signal.SIGKILL
    write(at, {str(n): f"Report {n} was read." for n in range(1, 23)})
    second = night(at, "--run", "another")
    assert second.code == 0, second.err
    assert sorted(map(int, dataset(at))) == list(range(1, 23))
    assert at.query("SELECT name, state, reason FROM run ORDER BY id") == [
        ("r", "cancelled", "taken over by another"),
        ("another", "finished", None),
    ]
    in_doubt = at.query("SELECT count(*) FROM attempt WHERE possible_duplicate = 1")[0][0]
    assert at.ledger()["creates"]["accepted"] <= 23 + in_doubt


def test_a_night_of_the_same_name_and_another_input_gets_a_name_of_its_own(nightly: Callable[..., Rig]) -> None:
    at = nightly(sandbox={"latency": {"queue": 0, "run": 5}})
    at.run_until(lambda: at.settled("'submitted'") >= 1, send=signal.SIGKILL)
    at.write_config({**at.config, "provider": {"sandbox": {"seed": 7, **FAST}}})
    write(at, {str(n): f"Report {n} was read." for n in range(25)})
    ended = at.run()
    assert ended.code == 0, ended.err
    assert ended.summary["run"] == "r-2"
    assert len(dataset(at)) == 25


def test_a_second_process_on_one_dataset_is_refused_as_busy(nightly: Callable[..., Rig]) -> None:
    at = nightly(sandbox={"latency": {"queue": 0, "run": 1}})
    first = at.start("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--run", "one", "--json")
    while not at.query("SELECT 1 FROM attempt"):
        assert first.poll() is None
    second = night(at, "--run", "two")
    assert (second.code, "dataset 'speeches' is locked" in second.err) == (6, True)
    assert at.end(first).code == 0
    assert at.ledger()["creates"]["accepted"] == 20


@pytest.mark.parametrize("pairs", [3, pytest.param(100, marks=pytest.mark.long)])
def test_two_processes_started_at_once_send_no_request_twice(nightly: Callable[..., Rig], pairs: int) -> None:
    at = nightly()
    for turn in range(pairs):
        write(at, {str(n): f"Report {n} of {turn} was read." for n in range(3)})
        arguments = ("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--json", "--run")
        both: list[subprocess.Popen[str]] = [at.start(*arguments, f"{name}-{turn}") for name in ("a", "b")]
        ended = [at.end(process) for process in both]
        assert sorted(each.code for each in ended) in ([0, 0], [0, 6]), [each.err for each in ended]
    assert at.ledger()["creates"]["accepted"] == 3 * pairs


def test_increments_need_a_key_and_no_chain(nightly: Callable[..., Rig]) -> None:
    at = nightly()
    at.write_job({**at.job, "input": {"path": "rows.jsonl"}})
    refused = night(at)
    assert refused.code == 2
    assert "job.yaml: increments: needs input.key" in refused.err.replace(":1", "")
    at.write_job({**at.job, "input": {"path": "rows.jsonl", "key": "id"}, "chain": {"by": "id"}})
    assert "cannot be compared" in night(at).err


def test_the_options_of_a_night_are_for_jobs_with_increments(rig: Callable[..., Rig]) -> None:
    at = rig()
    refused = night(at, "--changed", "ask")
    assert refused.code == 2
    assert "increments" in refused.err


def test_a_dry_run_says_what_a_night_would_ask(nightly: Callable[..., Rig]) -> None:
    at = nightly()
    night(at)
    write(at, {str(n): f"Report {n} was read." for n in range(1, 22)})
    shown = night(at, "--dry-run").summary["increment"]
    assert {name: shown[name] for name in ("new", "unchanged", "removed", "asked")} == {
        "new": 2,
        "unchanged": 18 + 1,
        "removed": 1,
        "asked": 2,
    }
    assert Decimal(shown["about_usd"]) > 0
    text = at.call("run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--dry-run").out
    assert "speeches, compared with speeches-1" in text
    assert at.ledger()["creates"]["accepted"] == 20


# ── many nights ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("nights", [3, pytest.param(30, marks=pytest.mark.long)])
def test_random_nights_leave_what_a_run_from_the_beginning_would(
    nightly: Callable[..., Rig], tmp_path: Path, nights: int
) -> None:
    rng = random.Random(17)
    at = nightly(job={"increments": {"changed_request": "ask", "removed_at_most": "100%"}})
    texts = {str(n): f"Report {n} was read." for n in range(20)}
    prompts = ["Be brief.", "Be very brief."]
    asked: set[tuple[str, str]] = set()
    for number in range(nights):
        for _ in range(rng.randrange(6)):
            texts[str(rng.randrange(30))] = f"Report {rng.randrange(40)} was read."
        for key in rng.sample(sorted(texts), rng.randrange(3)):
            del texts[key]
        keys = sorted(texts, key=lambda _: rng.random())
        texts = {key: texts[key] for key in keys}
        prompt = rng.choice(prompts)
        write(at, texts)
        write_request(at, instructions=prompt)
        asked |= {(prompt, text) for text in texts.values()}
        if rng.random() < 0.4:
            process = at.start(*at.run_arguments()[:-3], "--json")
            while process.poll() is None and at.query("SELECT count(*) FROM attempt") == [(0,)]:
                pass
            process.send_signal(signal.SIGKILL)
            at.end(process)
        ended = night(at, "--run", f"night-{number}")
        assert ended.code == 0, ended.err
        answers = dataset(at)
        assert set(answers) == set(texts)
        by_text: dict[str, set[str]] = {}
        for key, answer in answers.items():
            by_text.setdefault(texts[key], set()).add(answer)
        assert all(len(found) == 1 for found in by_text.values())
    in_doubt = at.query("SELECT count(*) FROM attempt WHERE possible_duplicate = 1")[0][0]
    ledger = at.ledger()
    assert ledger["creates"]["accepted"] <= len(asked) + in_doubt
    cost = sum(row[0] for row in at.query("SELECT cost_pusd FROM run_total"))
    assert Decimal(ledger["cost_usd"]) == Decimal(cost) / 10**12 or in_doubt


# ── days ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_older_day_that_is_run_later_keeps_what_is_newer(nightly: Callable[..., Rig]) -> None:
    at = nightly(job={"input": {"path": "{{ run.date }}.jsonl", "key": "id"}, "output": "{{ run.date }}.out.jsonl"})

    def day(name: str, **texts: str) -> Ended:
        rows = [json.dumps({"id": key, "text": text}) for key, text in texts.items()]
        (at.folder / f"{name}.jsonl").write_text("\n".join(rows))
        return night(at, "--date", name)

    first = day("2026-11-29", a="Of the 29th.", b="Another.")
    assert (first.summary["run"], changes(first)) == ("speeches-2026-11-29", {"new": 2})
    assert changes(day("2026-11-28", a="Of the 28th.", c="Of the 28th.")) == {"new": 1, "superseded": 1}
    assert dataset(at) == {"a": "Sum up: Of the 29th.", "b": "Sum up: Another.", "c": "Sum up: Of the 28th."}
    again = night(at, "--date", "2026-11-28")
    assert (again.summary["run"], again.summary["attempts"]) == ("speeches-2026-11-28", 1)
    assert at.query("SELECT name, day FROM run ORDER BY id") == [
        ("speeches-2026-11-29", "2026-11-29"),
        ("speeches-2026-11-28", "2026-11-28"),
    ]
    assert len((at.folder / "2026-11-28.out.jsonl").read_text().splitlines()) == 3
    assert at.ledger()["creates"]["accepted"] == 3
