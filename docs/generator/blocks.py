"""The generated parts of the documentation by name, each made from the code that it describes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

from docs.generator.fields import field_table
from docs.generator.markdown import code, plain, table
from orchestrator.cli.reference import reference
from orchestrator.config import config_schema
from orchestrator.core.errors import CODES, ExitCode
from orchestrator.core.states import SETTLED, TRANSITIONS, Event, State
from orchestrator.job.requests.parameters import PARAMETERS, WRONG_PARAMETERS
from orchestrator.job.schema import job_schema
from orchestrator.policy.errors.judgement import judgement_table
from orchestrator.policy.errors.profiles import PROFILES
from orchestrator.policy.pricing.price_file import PriceFile
from orchestrator.sandbox.sandbox_settings import Latency, SandboxSettings, fault_table
from orchestrator.sandbox.server.asgi_app import call_table
from orchestrator.sandbox.simulation.models import RESERVED
from orchestrator.stores.sqlite.database import migrate
from orchestrator.stores.sqlite.migrations import migrations

__all__ = ["BLOCKS"]

_STATES: Mapping[State, str] = {
    State.PENDING: "waits to be sent, for the first time or again; it may have a time before which it is not due",
    State.BLOCKED: "waits for a duplicate that is in progress, or for the previous turn of its chain",
    State.SUBMITTING: "the intent to send it is on disk; the POST may be on the wire",
    State.SUBMITTED: "the response's id is on disk; it is polled until it has ended",
    State.AWAITING_TOOLS: "its response stopped for function tools of yours, and they are running",
    State.IN_DOUBT: "it may have been sent, and its reply was lost; held until you decide",
    State.SUCCEEDED: "the answer is on disk, with its cost",
    State.FAILED: "it has no answer; its code says why",
    State.CANCELLED: "it was cancelled, by you or at the provider",
}
_EVENTS: Mapping[Event, str] = {
    Event.JOIN: "an earlier row asks the same, or it is a turn of a chain",
    Event.UNBLOCK: "it is the first turn of its chain, or the previous turn has its answer",
    Event.CLAIM: "free places, rate limits and budget admit it",
    Event.ACCEPT: "the provider's reply with a response id arrived",
    Event.RELEASE: "nothing was created, through no fault of the request: no attempt is spent",
    Event.LOSE: "the reply was lost, and sending again could be expensive",
    Event.RETRY: "it is sent again: after a failure that may pass, or because a lost reply is cheap to repeat",
    Event.CALL: "the response ended with calls of function tools that have handlers",
    Event.CONTINUE: "all tools have answered, or the model is asked to repair its answer: the next turn",
    Event.SUCCEED: "the response holds an answer, or a duplicate has one",
    Event.FAIL: "another attempt would fail too, or no attempt is left",
    Event.CANCEL: "you or the provider cancelled it",
    Event.REQUEUE: "you asked for it with `orchestrator retry`",
    Event.BLOCK: "the previous turn of its chain is sent again",
}
_EXITS: Mapping[ExitCode, tuple[str, str]] = {
    ExitCode.OK: ("every request succeeded", "nothing"),
    ExitCode.BUG: ("a bug in orchestrator; what is stored is safe", "report it; rerun the same command"),
    ExitCode.USAGE: ("wrong usage, job, config or input", "read the message"),
    ExitCode.SOME_FAILED: (
        "finished, but some requests failed, or there was none to send",
        "`export --state failed`, then `retry`",
    ),
    ExitCode.HALTED: (
        "halted by key, quota, budget, deadline, requests in doubt or an unreachable provider, or cancelled",
        "fix the cause; rerun the same command",
    ),
    ExitCode.STORE: ("the database cannot be used", "free space or fix the path; rerun the same command"),
    ExitCode.BUSY: ("busy: another process works on the run", "wait for it, or watch it with `orchestrator status`"),
    ExitCode.INTERRUPTED: ("interrupted by Ctrl-C", "rerun the same command"),
    ExitCode.TERMINATED: ("ended by SIGTERM or a closed terminal", "rerun the same command"),
}


def _states() -> str:
    rows = ((code(state), "yes" if state in SETTLED else "", _STATES[state]) for state in State)
    return table(("State", "Settled", "Meaning"), rows)


def _transitions() -> str:
    rows = ((code(before), code(event), code(after)) for (before, event), after in TRANSITIONS.items())
    return table(("From", "What happens", "To"), rows)


def _events() -> str:
    return table(("What happens", "When"), ((code(event), _EVENTS[event]) for event in Event))


def _diagram() -> str:
    arrows = [f"  {before} --> {after}: {event}" for (before, event), after in TRANSITIONS.items()]
    ends = [f"  {state} --> [*]" for state in State if state in SETTLED]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"  [*] --> {State.PENDING}", *arrows, *ends, "```"])


def _exit_codes() -> str:
    return table(
        ("Code", "What happened", "What to do"), ((code(str(int(e))), *words) for e, words in _EXITS.items())
    )


def _error_codes() -> str:
    return table(("Code", "Meaning"), ((code(name), meaning) for name, meaning in sorted(CODES.items())))


def _judged_on(met: str) -> str:
    """The rows of the judgement table for one place, in the order in which they are tried."""
    rows = [row for row in judgement_table() if met in row.phase.split(", ")]
    if any(row.reach for row in rows):
        header = ("Row", "When", "Then", "Who else", "Why")
        return table(header, ((code(row.name), row.when, row.then, row.reach, row.why) for row in rows))
    return table(("Row", "When", "Then", "Why"), ((code(row.name), row.when, row.then, row.why) for row in rows))


def _profiles() -> str:
    return table(("Profile", "For"), ((code(name), profile.about) for name, profile in PROFILES.items()))


def _faults() -> str:
    parts = []
    for group, faults in groupby(fault_table(), key=lambda fault: fault[0]):
        rows = ((code(name), plain(meaning)) for _, name, meaning in faults)
        parts.append(f"### {group.capitalize()}\n\n" + table(("Fault", "What it does"), rows))
    return "\n\n".join(parts)


def _sandbox_fields() -> str:
    durations = {f"latency.{phase}" for phase in Latency.model_fields}
    return field_table(SandboxSettings.model_json_schema(), without={"faults"}, whole=durations)


def _sandbox_calls() -> str:
    return table(
        ("Call", "What it does"), ((code(call), plain(about[0].upper() + about[1:])) for call, about in call_table())
    )


def _reserved_models() -> str:
    return table(("Model", "What it does"), ((code(name), plain(about)) for name, about in RESERVED.items()))


def _parameters() -> str:
    return table(("Field", "What it is"), ((code(f"request.{name}"), about) for name, about in PARAMETERS.items()))


def _wrong_parameters() -> str:
    return table(("Refused", "Instead"), ((code(f"request.{name}"), hint) for name, hint in WRONG_PARAMETERS.items()))


def _commands() -> str:
    # Its title is the page's own.
    return reference().partition("\n\n")[2].strip()


def _views() -> str:
    with closing(_empty_database()) as database:
        parts = []
        for name, sql in _definitions(database, "view"):
            columns = (column[1] for column in database.execute(f"PRAGMA table_info({name})"))
            parts.append(f"### {name}\n\n{_first_comment(sql)}\n\nColumns: {', '.join(map(code, columns))}.")
    return "\n\n".join(parts)


def _tables() -> str:
    with closing(_empty_database()) as database:
        return "\n\n".join(f"### {name}\n\n```sql\n{sql}\n```" for name, sql in _definitions(database, "table"))


def _empty_database() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None)
    migrate(database, migrations(), path=Path(":memory:"))
    return database


def _definitions(database: sqlite3.Connection, kind: str) -> Iterator[tuple[str, str]]:
    yield from database.execute("SELECT name, sql FROM sqlite_master WHERE type = ? ORDER BY rowid", (kind,))


def _first_comment(sql: str) -> str:
    """The comment that a definition begins with."""
    lines: list[str] = []
    for line in sql.splitlines()[1:]:
        if not line.strip().startswith("--"):
            break
        lines.append(line.strip().removeprefix("--").strip())
    return " ".join(lines)


BLOCKS: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "commands": _commands,
        "config-fields": lambda: field_table(config_schema(), without={"provider.sandbox"}),
        "diagram": _diagram,
        "error-codes": _error_codes,
        "events": _events,
        "exit-codes": _exit_codes,
        "faults": _faults,
        "job-fields": lambda: field_table(job_schema(), without={"request"}),
        "judgement-create": lambda: _judged_on("create"),
        "judgement-failed": lambda: _judged_on("failed"),
        "judgement-poll": lambda: _judged_on("poll"),
        "judgement-response": lambda: _judged_on("response"),
        "parameters": _parameters,
        "price-fields": lambda: field_table(PriceFile.model_json_schema()),
        "profiles": _profiles,
        "sandbox-calls": _sandbox_calls,
        "sandbox-fields": _sandbox_fields,
        "sandbox-models": _reserved_models,
        "states": _states,
        "tables": _tables,
        "transitions": _transitions,
        "views": _views,
        "wrong-parameters": _wrong_parameters,
    }
)
