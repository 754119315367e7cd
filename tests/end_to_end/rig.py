"""A whole installation in a folder: a job over real rows, a config, the command line, and the sandbox's ledger."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.warm import warm_python

_OURS = ("OPENAI_", "ORCHESTRATOR_", "PYTEST_", "COV_")
_ENDS = 600.0


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        loaded: dict[str, Any] = json.loads(self.out)
        return loaded


@dataclass
class Rig:
    """Everything that a user has on the disk; each test has its own."""

    folder: Path
    rows: int = 60
    job: dict[str, Any] = field(default_factory=dict)
    sandbox: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.write_rows({"id": f"row-{n}", "text": _speech(n)} for n in range(self.rows))
        request = {
            "model": "gpt-5-mini",
            "instructions": "You summarise speeches.",
            "input": "Summarise in two sentences:\n{{ text }}",
            "max_output_tokens": 400,
        }
        asked = {} if "stages" in self.job else {"request": request}
        self.write_job({"name": "speeches", "input": {"path": "rows.jsonl", "key": "id"}} | asked | self.job)
        sandbox = {"seed": 7, "latency": {"queue": 0.02, "run": {"from_s": 0.05, "to_s": 0.3}}} | self.sandbox
        limits = {"requests_per_minute": 60_000, "tokens_per_minute": 100_000_000, "polls_per_minute": 60_000}
        self.write_config({"provider": {"sandbox": sandbox}, "limits": limits} | self.config)

    # ── files ─────────────────────────────────────────────────────────────────────────────────────────────

    def write_rows(self, rows: Any) -> None:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (self.folder / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))

    def write_job(self, job: Mapping[str, Any]) -> None:
        self.job = dict(job)
        (self.folder / "job.yaml").write_text(json.dumps(job))  # YAML is a superset of JSON

    def write_config(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        (self.folder / "config.yaml").write_text(json.dumps(config))

    @property
    def database(self) -> Path:
        return self.folder / "runs.db"

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────

    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None, python: str | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command and leave it running; ``python`` replaces the interpreter that starts in no time."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return subprocess.Popen(
            [python or warm_python(), "-m", "orchestrator", *arguments],
            cwd=self.folder,
            env={**kept, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONWARNINGS": "error", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def call(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run a command to its end."""
        return self.end(self.start(*arguments, env=env))

    def end(self, process: subprocess.Popen[str], *, timeout_s: float = _ENDS) -> Ended:
        """Wait for a command that was started."""
        out, err = process.communicate(timeout=timeout_s)
        return Ended(process.returncode, out, err)

    def run_arguments(self, *more: str) -> list[str]:
        return ["run", "job.yaml", "--config", "config.yaml", "--db", "runs.db", "--run", "r", "--json", *more]

    def run(self, *more: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run the job, or resume it."""
        return self.call(*self.run_arguments(*more), env=env)

    def run_until(self, reached: Callable[[], bool], *, send: signal.Signals, more: tuple[str, ...] = ()) -> Ended:
        """Start the run, send it a signal as soon as something is true, and wait for its end."""
        process = self.start(*self.run_arguments(*more))
        ends_at = time.monotonic() + _ENDS
        while process.poll() is None and not reached():
            if time.monotonic() > ends_at:
                process.kill()
                raise AssertionError("the run never came to that point")
            time.sleep(0.02)
        if process.poll() is None:
            process.send_signal(send)
        return self.end(process)

    # ── what is true ──────────────────────────────────────────────────────────────────────────────────────

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database, as a user with the sqlite3 shell does; nothing if it does not exist yet."""
        if not self.database.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=5)) as connection:
            try:
                return connection.execute(sql).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def settled(self, states: str = "'succeeded'") -> int:
        """How many requests are in these states now."""
        found = self.query(f"SELECT count(*) FROM request WHERE state IN ({states})")  # noqa: S608
        return int(found[0][0]) if found else 0

    def ledger(self) -> dict[str, Any]:
        """What the sandbox counted over all its lives."""
        loaded: dict[str, Any] = self._ask_sandbox("/_ledger").json()
        return loaded

    def ledger_responses(self) -> list[dict[str, Any]]:
        """One record for each response that the sandbox created."""
        return [json.loads(line) for line in self._ask_sandbox("/_ledger/responses").text.splitlines()]

    def delete_responses(self, ids: Iterable[str]) -> None:
        """Have the sandbox lose responses, as if they had expired."""
        for response_id in ids:
            assert self._ask_sandbox(f"/v1/responses/{response_id}", method="DELETE").status_code == 200

    def _ask_sandbox(self, path: str, method: str = "GET") -> httpx.Response:
        state = self.folder / "runs.db.sandbox"
        process = self.start("sandbox", "--port", "0", "--state", str(state))
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "listening on " in line:
                    address = line.split("listening on ")[1].split("/v1")[0]
                    headers = {"Authorization": "Bearer sk-sandbox"}
                    return httpx.request(method, address + path, headers=headers, timeout=600)
            raise AssertionError("the sandbox did not start")
        finally:
            process.terminate()
            process.communicate()


def _speech(number: int) -> str:
    """A few sentences that differ from row to row."""
    topics = ["the harbour", "the railways", "our treaties", "the harvest", "public schools", "the navy"]
    sentences = (
        f"In year {1800 + number} the report on {topics[(number + turn) % len(topics)]} was read aloud in full."
        for turn in range(6)
    )
    return " ".join(sentences)
