"""``schedule``: the next nights, and configuration that the schedulers' own tools accept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import pytest
from ruamel.yaml import YAML

from .conftest import Ended

Cli: TypeAlias = Callable[..., Ended]
SCHEDULE = 'schedule: {at: "02:30", zone: Europe/Berlin, until: "06:30", late_after: "07:00"}\n'


@pytest.fixture(autouse=True)
def _scheduled(folder: Path) -> None:
    (folder / "job.yaml").write_text((folder / "job.yaml").read_text() + SCHEDULE)


def test_the_next_nights_are_shown_in_words_and_as_an_object(cli: Cli) -> None:
    shown = cli("schedule", "job.yaml")
    assert (shown.code, shown.out.count(" 02:30 CE")) == (0, 5)
    assert "nothing new is sent after 06:30" in shown.out
    slots = json.loads(cli("schedule", "job.yaml", "--json").out)["slots"]
    assert len(slots) == 5
    assert all(slot["at"] < slot["until"] < slot["late_after"] for slot in slots)
    assert sorted(slots, key=lambda slot: slot["date"]) == slots


@pytest.mark.parametrize("scheduler", ["cron", "systemd", "k8s", "airflow"])
def test_a_job_that_cannot_run_is_refused_before_it_is_installed(cli: Cli, folder: Path, scheduler: str) -> None:
    text = (folder / "job.yaml").read_text()
    (folder / "job.yaml").write_text(text + "retry: {attempts: none}\n")
    assert cli("schedule", "job.yaml", "--as", scheduler).code == 2
    (folder / "job.yaml").write_text(text.replace(SCHEDULE, ""))
    ended = cli("schedule", "job.yaml", "--as", scheduler)
    assert (ended.code, "the job has no schedule" in ended.err) == (2, True)


def test_a_job_without_a_schedule_is_left_out_of_several(cli: Cli, folder: Path) -> None:
    (folder / "plain.yaml").write_text((folder / "job.yaml").read_text().replace(SCHEDULE, ""))
    (folder / "other.yaml").write_text((folder / "plain.yaml").read_text())
    ended = cli("run", "--due", "plain.yaml", "other.yaml", "--config", "config.yaml")
    assert (ended.code, ended.err.count("has no schedule, so it is left out")) == (0, 2)
    assert cli("run", "--due", "plain.yaml", "--config", "config.yaml").code == 2


@pytest.mark.services
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="NO SYSTEMD: the units were not verified")
def test_systemd_accepts_the_units(folder: Path) -> None:
    # In a process of its own, which has the program beside its Python.
    command = [sys.executable, "-m", "orchestrator", "schedule", "job.yaml", "--as", "systemd"]
    printed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    service, timer = printed.split("# orchestrator-greet.timer\n")
    (folder / "orchestrator-job.service").write_text(service)
    (folder / "orchestrator-job.timer").write_text(timer)
    units = [str(folder / f"orchestrator-job.{kind}") for kind in ("service", "timer")]
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    subprocess.run(["systemd-analyze", "calendar", "*:0/15"], capture_output=True, check=True)


@pytest.mark.services
@pytest.mark.skipif(
    find_spec("kubernetes_validate") is None, reason="NO SCHEMA: pip install kubernetes-validate checks the manifest"
)
def test_kubernetes_accepts_the_manifest(cli: Cli) -> None:
    kubernetes_validate = import_module("kubernetes_validate")
    made = YAML(typ="safe").load(cli("schedule", "job.yaml", "--as", "k8s").out)
    kubernetes_validate.validate(made, "1.32", strict=True)
