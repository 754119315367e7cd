"""A working copy in which the documentation's code runs: the repository as a reader has it, only smaller and faster.

The speeches are the first two dozen. The sandbox answers in a fraction of a second, and plays no faults unless a page
asks for them, because each costs a wait. The provider behind ``OPENAI_BASE_URL`` is a sandbox, too.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from orchestrator import Config, Job, load_config, load_job
from orchestrator.job.documents.document import load_document
from orchestrator.policy.pricing.price_file import PriceFile
from tests.docs.snippets import Command, Snippet, commands_in
from tests.warm import warm_python

__all__ = ["KEY", "ROOT", "Workshop", "orchestrator_arguments"]

ROOT = Path(__file__).resolve().parents[2]

# What the pages write where a reader puts a key.
KEY = "sk-your-key"

_SPEECHES = 24
_QUICK = {"queue": 0.05, "run": {"median_s": 0.15, "sigma": 0.2}}
_OURS = ("OPENAI_", "ORCHESTRATOR_")
_MARK = "@@exit"

# What ends a command's own arguments.
_SHELL = re.compile(r"[|&;<]+|2?>>?")

_PYTHON = """\
import ast, asyncio, inspect, sys
code = compile(sys.stdin.read(), "snippet", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
outcome = eval(code, {"__name__": "__main__"})
if inspect.iscoroutine(outcome):
    asyncio.run(outcome)
"""


class Workshop:
    """One page's working copy; its blocks are run in their order, and each finds what those before it left."""

    def __init__(self, folder: Path, *, base_url: str) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        path = os.pathsep.join((str(folder / ".venv/bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
        self._environment = {**kept, "PATH": path, "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY}
        self._furnish()

    def use(self, snippet: Snippet) -> None:
        """Do with a block what a reader would do with it; fails where that does not work as the page says."""
        if snippet.file is not None:
            path = self.folder / snippet.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(snippet.text)
        match snippet.language:
            case "console":
                self._run_commands(commands_in(snippet), snippet.where)
            case "python":
                self._run_python(snippet)
            case "sql":
                with closing(sqlite3.connect(f"file:{self.folder}/orchestrator.db?mode=ro", uri=True)) as database:
                    for statement in snippet.text.rstrip().rstrip(";").split(";"):
                        assert database.execute(statement).fetchall(), f"{snippet.where} finds nothing"
            case "yaml":
                self._check_yaml(snippet)
            case _:
                assert snippet.file or snippet.language in ("json", "text"), f"{snippet.where}: what is this?"

    # ── preparing ─────────────────────────────────────────────────────────────────────────────────────────────

    def _furnish(self) -> None:
        for name in ("jobs", "configs"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("results"))
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder)
        speeches = self.folder / "jobs/data/state-of-the-union.jsonl.gz"
        with gzip.open(speeches) as lines:
            few = [next(lines) for _ in range(_SPEECHES)]
        with gzip.open(speeches, "wb") as out:
            out.writelines(few)
        yaml = YAML(typ="safe")
        config = self.folder / "configs/sandbox.yaml"
        settings = yaml.load(config.read_text())
        settings["provider"]["sandbox"] |= {"latency": _QUICK, "faults": {}}
        with config.open("w") as out:
            yaml.dump(settings, out)
        self._add_command("timeout", f'"{sys.executable}" "{ROOT}/tests/docs/kill_in_flight.py"')
        self._add_command("orchestrator", f'"{warm_python()}" -m orchestrator')
        # So that the targets of the Makefile find their environment ready.
        (self.folder / ".venv/.ready").touch()
        (self.folder / ".venv/bin/activate").write_text(f'PATH="{self.folder}/.venv/bin:$PATH"\n')

    def _add_command(self, name: str, words: str) -> None:
        path = self.folder / ".venv/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        path.chmod(0o755)

    # ── running ───────────────────────────────────────────────────────────────────────────────────────────────

    def _run_commands(self, commands: Sequence[Command], where: str) -> None:
        marker = f"code=$?; echo; echo {_MARK} $code; (exit $code)"
        script = "\n".join(f"{command.line}\n{marker}" for command in commands)
        printed = self._run(["bash", "-c", script], where)
        parts = re.split(rf"^{_MARK} (\d+)\n", printed, flags=re.MULTILINE)
        for number, command in enumerate(commands):
            output, code = parts[2 * number].splitlines(), int(parts[2 * number + 1])
            asked_for = number + 1 < len(commands) and commands[number + 1].line == "echo $?"
            assert code == 0 or asked_for, f"{where}: exit code {code} of: {command.line}\n" + "\n".join(output)
            _compare(command, output, where)

    def _run_python(self, snippet: Snippet) -> None:
        self._run([warm_python(), "-c", _PYTHON], snippet.where, stdin=snippet.text, succeeds=True)

    def _run(self, command: Sequence[str], where: str, *, stdin: str = "", succeeds: bool = False) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not succeeds, f"{where}:\n{done.stdout}"
        return done.stdout

    # ── files ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_yaml(self, snippet: Snippet) -> None:
        """A job, a config or a price file, whole or in part; a part of a job stands in for that of another one."""
        path = self.folder / (snippet.file or "snippet.yaml")
        path.write_text(snippet.text)
        fields = set(_loaded(path))
        if fields <= set(Job.model_fields):
            if snippet.file:
                load_job(path)
            else:
                Job.model_validate({**_loaded(self.folder / "jobs/summarise.yaml"), **_loaded(path)})
        elif fields <= set(Config.model_fields) and not isinstance(_loaded(path).get("prices"), list):
            load_config(path, environ={})
        else:
            load_document(path, PriceFile, kind="prices")


def _loaded(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text())
    return loaded


# ── comparing what a page shows with what came ────────────────────────────────────────────────────────────────


def _compare(command: Command, output: Sequence[str], where: str) -> None:
    """Each line that the page shows must come, in that order; figures may differ, and more may come between."""
    lines = iter(output)
    for shown in command.output:
        if shown.strip(" .…"):
            met = any(_alike(shown, line) for line in lines)
            assert met, f"{where}: {command.line}\n  does not print: {shown}\n  but:\n" + "\n".join(output)


def _alike(shown: str, line: str) -> bool:
    """Whether two lines say the same but for their figures.

    Of a line in several pieces, the first and one more are enough: a small run may not reach its rate limits.
    """
    first, *more = _pieces(shown)
    begins, *others = _pieces(line) or [""]
    shared = any(piece.startswith(other) for piece in more for other in others)
    return first == begins and (more == others or shared)


def _pieces(line: str) -> list[str]:
    plain = re.sub(r"\d[\d,.:]*", "0", re.sub(r"resp_[0-9a-f]+", "resp_0", line.strip()))
    return [piece for piece in re.split(r"\s{2,}| · ", plain) if piece]


def orchestrator_arguments(line: str) -> list[str] | None:
    """The arguments of a command line of ours, without what the shell does around it; None where it is another's."""
    words = shlex.split(line.replace("\\\n", " "), comments=True)
    while words and "=" in words[0]:  # variables set for this command only
        del words[0]
    if not words or words[0] != "orchestrator":
        return None
    ends = [position for position, word in enumerate(words) if _SHELL.fullmatch(word)]
    return words[1 : ends[0] if ends else None]
