"""From nothing to a first run: ``init``, ``run --sandbox``, ``help``, ``completion``."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

import orchestrator
from orchestrator.app.project import template
from orchestrator.cli.app import invoke
from orchestrator.config import Config, load_config, sandbox_config

from .conftest import Ended

Cli: TypeAlias = Callable[..., Ended]
FILES = {"job.yaml", "rows.csv", "sandbox.yaml", ".gitignore"}
SCHEMAS = {".orchestrator/job.schema.json", ".orchestrator/config.schema.json"}


def test_a_first_project_runs_without_a_key(cli: Cli, tmp_path: Path) -> None:
    made = cli("init", "mine")
    assert (made.code, made.err) == (0, "")
    assert "cd mine && orchestrator run job.yaml --sandbox" in made.out
    folder = tmp_path / "mine"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == FILES | SCHEMAS
    ran = cli("run", "job.yaml", "--sandbox", "--json", "--progress", "none", within=folder)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["requests"]["succeeded"] == 10
    with (folder / "results.csv").open(encoding="utf-8-sig") as results:
        assert [row["key"] for row in csv.DictReader(results)] == [f"M{n:03}" for n in range(1, 11)]


def test_nothing_is_overwritten(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    (tmp_path / "rows.csv").symlink_to("nowhere")
    made = cli("init")
    assert made.code == 0
    assert (tmp_path / "job.yaml").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert re.findall(r"kept +(\S+)", made.out) == ["job.yaml", "rows.csv"]
    assert "  orchestrator run job.yaml --sandbox" in made.out
    assert set(re.findall(r"kept +(\S+)", cli("init", ".").out)) == FILES | SCHEMAS


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_an_error(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    made = cli("init", name)
    assert made.code == 2
    assert made.err.startswith("error: file")


@pytest.mark.parametrize("name", ["job.yaml", "sandbox.yaml"])
def test_an_editor_finds_the_schema_of_a_new_file(cli: Cli, tmp_path: Path, name: str) -> None:
    assert cli("init").code == 0
    first = (tmp_path / name).read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert json.loads((tmp_path / first.partition("=")[2]).read_text())["$schema"]


def test_the_sandbox_of_the_package_is_that_of_the_repository() -> None:
    shipped = Path(orchestrator.__file__).parents[1] / "configs/sandbox.yaml"
    assert load_config(shipped).model_dump() == sandbox_config().model_dump()
    assert b"configs/" not in template("sandbox.yaml")


def test_sandbox_replaces_only_the_provider(cli: Cli, folder: Path) -> None:
    (folder / "own.yaml").write_text("provider: {base_url: 'http://127.0.0.1:9/v1'}\ndatabase: own.db\n")
    assert cli("run", "job.yaml", "--sandbox", "--config", "own.yaml", "--progress", "none").code == 0
    assert (folder / "own.db").exists()


@pytest.mark.parametrize("arguments", [("doctor", "--sandbox"), ("doctor", "--config", "sandbox")])
def test_other_commands_know_the_sandbox_too(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert "FAIL" not in cli(*arguments).out


def test_a_file_called_sandbox_is_a_file(cli: Cli, folder: Path) -> None:
    (folder / "sandbox").write_text("limits: {max_in_flight: none}\n")
    assert "max_in_flight" in cli("doctor", "--config", "sandbox").err


def test_help_of_a_command_is_its_page(cli: Cli) -> None:
    assert cli("help", "run").out == cli("run", "--help").out
    assert cli("help").out == cli("--help").out
    wrong = cli("help", "rum")
    assert (wrong.code, "did you mean run?" in wrong.err) == (2, True)


def test_list_is_runs(cli: Cli, folder: Path) -> None:
    assert cli("run", "job.yaml", "--sandbox", "--limit", "1", "--progress", "none").code == 0
    assert cli("list").out == cli("runs").out


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_is_that_of_the_package(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([flag]) == 0
    assert capsys.readouterr().out.strip() == orchestrator.__version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(cli: Cli, shell: str) -> None:
    script = cli("completion", shell)
    assert script.code == 0
    assert all(word in script.out for word in ("export", "sandbox"))


def test_bash_takes_the_completion(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "complete").write_text(cli("completion", "bash").out)
    assert subprocess.run(["bash", "-n", tmp_path / "complete"], check=False).returncode == 0


class TestPlaces:
    """Option, variable, file in this folder or above, default."""

    @pytest.fixture(autouse=True)
    def _config_above(self, folder: Path) -> None:
        (folder / "orchestrator.yaml").write_text("provider: {sandbox: {}}\ndatabase: found.db\n")
        (folder / "sub/below").mkdir(parents=True)

    def test_a_config_above_is_found_with_its_database(self, cli: Cli, folder: Path) -> None:
        within = folder / "sub/below"
        ran = cli("run", "../../job.yaml", "--limit", "2", "--progress", "none", within=within)
        assert ran.code == 0, ran.err
        assert [path.name for path in folder.glob("*.db")] == ["found.db"]
        assert "greet-1" in cli("runs", within=within).out
        assert "greet-1" in cli("runs", within=folder).out

    def test_a_variable_takes_precedence_over_a_file(self, cli: Cli, folder: Path) -> None:
        (folder / "other.yaml").write_text("limits: {max_in_flight: none}\n")
        assert "other.yaml" in cli("doctor", env={"ORCHESTRATOR_CONFIG": "other.yaml"}).err
        assert "no such database" in cli("runs", env={"ORCHESTRATOR_DB": "variable.db"}).err

    def test_an_option_takes_precedence_over_a_variable(self, cli: Cli) -> None:
        variables = {"ORCHESTRATOR_CONFIG": "none.yaml", "ORCHESTRATOR_DB": "variable.db"}
        said = cli("runs", "--db", "option.db", "--config", "orchestrator.yaml", env=variables).err
        assert "option.db: there is no such database" in said

    def test_an_empty_variable_is_none(self, cli: Cli) -> None:
        said = cli("runs", env={"ORCHESTRATOR_CONFIG": "", "ORCHESTRATOR_DB": ""}).err
        assert "found.db: there is no such database" in said

    def test_the_config_of_another_user_is_passed_over(
        self, cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owner = (folder / "orchestrator.yaml").stat().st_uid
        monkeypatch.setattr("orchestrator.cli.session._trusted_owners", lambda: {owner + 1})
        assert "orchestrator.db: there is no such database" in cli("runs").err


def test_a_config_of_the_package_is_valid() -> None:
    assert isinstance(sandbox_config(), Config)
