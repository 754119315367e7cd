"""What is printed for a scheduler calls just what it says, whatever is in the paths."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

from orchestrator.core.errors import UsageError
from orchestrator.report.schedulers import DueCall, Scheduler, configuration

ODD = "a 'b' \"c\" 100% $HOME {{ x }} ü"


@pytest.fixture
def call(tmp_path: Path) -> DueCall:
    """A call of a program that prints its folder and its arguments, with odd signs in each path."""
    folder = tmp_path / ODD
    folder.mkdir()
    program = folder / "program"
    program.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([os.getcwd(), *sys.argv[1:]]))\n")
    program.chmod(0o700)
    return DueCall(
        name="notes",
        program=str(program),
        folder=folder,
        job=f"{ODD}.yaml",
        options=["--config", f"{ODD}.yml"],
        key="OPENAI_API_KEY",
    )


def said_by(command: str, folder: Path) -> Any:
    return json.loads(subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, check=True).stdout)


def test_a_line_of_cron(call: DueCall, tmp_path: Path) -> None:
    *comments, line = configuration(call, "cron").splitlines()
    assert "OPENAI_API_KEY" in comments[1]
    when, command = line.split("  ", 1)
    assert when == "*/15 * * * *"
    # As cron reads it: an unescaped percent sign ends the command.
    assert "%" not in command.replace(r"\%", "")
    assert said_by(command.replace(r"\%", "%"), tmp_path) == [str(call.folder), *call.arguments]


@pytest.mark.parametrize("key", ["OPENAI_API_KEY", None])
def test_units_of_systemd(call: DueCall, key: str | None) -> None:
    service, timer = configuration(_with(call, key=key), "systemd").split("# orchestrator-notes.timer\n")
    settings = dict(line.split("=", 1) for line in service.splitlines() if "=" in line and line[0] != "#")
    assert settings["WorkingDirectory"] == str(call.folder).replace("%", "%%")
    words = shlex.split(settings["ExecStart"])
    assert [word.replace("%%", "%").replace("$$", "$") for word in words] == [call.program, *call.arguments]
    assert (settings["SuccessExitStatus"], settings["TimeoutStartSec"]) == ("3", "infinity")
    assert ("EnvironmentFile" in settings) == (key is not None)
    assert "OnCalendar=*:0/15\n" in timer
    assert "Persistent=true\n" in timer


def test_a_job_of_kubernetes(call: DueCall) -> None:
    made = YAML(typ="safe").load(configuration(_with(call, name="n" * 100), "k8s"))
    assert len(made["metadata"]["name"]) <= 52
    assert made["spec"]["concurrencyPolicy"] == "Forbid"
    [container] = made["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["orchestrator", *call.arguments]
    assert container["env"][0]["valueFrom"]["secretKeyRef"]["key"] == "OPENAI_API_KEY"


def test_a_path_outside_of_the_volume_is_refused(call: DueCall) -> None:
    with pytest.raises(UsageError, match="outside of this folder"):
        configuration(_with(call, job="/elsewhere/job.yaml"), "k8s")


def test_a_graph_of_airflow(call: DueCall, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    for name in ("pendulum", "airflow", "airflow.sdk", "airflow.providers.standard.operators.bash"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name in ("airflow.providers", "airflow.providers.standard", "airflow.providers.standard.operators"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["pendulum"].datetime = lambda *_, **__: None  # type: ignore[attr-defined]
    sys.modules["airflow.sdk"].DAG = _Graph  # type: ignore[attr-defined]
    operators = sys.modules["airflow.providers.standard.operators.bash"]
    operators.BashOperator = lambda **given: asked.update(given)  # type: ignore[attr-defined]
    exec(compile(configuration(call, "airflow"), "dag.py", "exec"), {})  # noqa: S102
    begin, end = "{% raw %}", "{% endraw %} "
    assert asked["bash_command"].startswith(begin)
    assert asked["bash_command"].endswith(end)
    command = asked["bash_command"].removeprefix(begin).removesuffix(end)
    assert said_by(command, asked["cwd"]) == [str(call.folder), *call.arguments]


@pytest.mark.parametrize("scheduler", ["cron", "systemd", "k8s", "airflow"])
def test_a_line_break_is_refused(call: DueCall, scheduler: Scheduler) -> None:
    with pytest.raises(UsageError, match="control character"):
        configuration(_with(call, job="a\nb.yaml"), scheduler)


class _Graph:
    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _with(call: DueCall, **changes: Any) -> DueCall:
    fields = {name: getattr(call, name) for name in ("name", "program", "folder", "job", "options", "key")}
    return DueCall(**{**fields, **changes})
