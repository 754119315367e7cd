"""The state table moves the requests: if one entry names another state, the verb test fails, and so does a run.

Each entry is changed in a copy of the package; the scenarios and the verb test that are played on it are unchanged.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.core.states import TRANSITIONS, Event, State

from .scenarios import SCENARIOS

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

_ROOT = Path(__file__).parents[2]
_PARTS = (
    "orchestrator",
    "tests/stores",
    "tests/states",
    "tests/conftest.py",
    "docs/concepts/states.md",
    "pyproject.toml",
)
_VERB_TEST = "tests/stores/test_verbs_follow_the_table.py"
# A run that has not ended by then does not end as it should.
_ENDS_S = 60.0


def copy_package(folder: Path) -> Path:
    """The package with what is needed to test it, byte code included: it is valid for files with the same times."""
    for part in _PARTS:
        source, target = _ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    return folder


def mutate(folder: Path, state: State, event: Event) -> State:
    """Let the entry name another state, in the source; returns that state."""
    target = TRANSITIONS[state, event]
    other = State.CANCELLED if target is State.FAILED else State.FAILED
    file = folder / "orchestrator/core/states.py"
    entry = f"(State.{state.name}, Event.{event.name}): State."
    changed, entries = re.subn(re.escape(entry) + target.name, entry + other.name, file.read_text(encoding="utf-8"))
    assert entries == 1
    file.write_text(changed, encoding="utf-8")
    return other


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the copy."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=inherited,
        capture_output=True,
        text=True,
        check=False,
        timeout=_ENDS_S,
    )


def play(folder: Path, scenario: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "tests.states.scenarios", scenario)


def ends_as_it_should(folder: Path, scenario: str) -> bool:
    try:
        return play(folder, scenario).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def verb_test(folder: Path) -> subprocess.CompletedProcess[str]:
    return python(folder, "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "sqlite", _VERB_TEST)


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[tuple[State, Event], list[str]]]:
    """The scenarios that use each entry; on an unchanged copy, where all of them and the verb test pass."""
    folder = copy_package(tmp_path_factory.mktemp("unchanged"))
    passed = verb_test(folder)
    assert passed.returncode == 0, passed.stdout
    users: dict[tuple[State, Event], list[str]] = {entry: [] for entry in TRANSITIONS}
    with ThreadPoolExecutor(2) as pool:
        for scenario, played in zip(SCENARIOS, pool.map(lambda each: play(folder, each), SCENARIOS), strict=True):
            assert played.returncode == 0, f"{scenario}: {played.stderr}"
            for line in played.stdout.splitlines():
                state, event = line.split()
                users[State(state), Event(event)].append(scenario)
    yield users
    shutil.rmtree(folder)


def test_the_scenarios_use_every_entry(users: Mapping[tuple[State, Event], list[str]]) -> None:
    assert [entry for entry, scenarios in users.items() if not scenarios] == []


@pytest.mark.parametrize(("state", "event"), [pytest.param(*entry, id="-".join(entry)) for entry in TRANSITIONS])
def test_a_changed_entry_fails_the_verb_test_and_a_run(
    users: Mapping[tuple[State, Event], list[str]], tmp_path: Path, state: State, event: Event
) -> None:
    folder = copy_package(tmp_path)
    mutate(folder, state, event)
    failed = verb_test(folder)
    assert failed.returncode == 1, failed.stdout
    # The scenario that uses the fewest entries is the one that is about this entry.
    scenario = min(users[state, event], key=lambda each: sum(each in others for others in users.values()))
    assert not ends_as_it_should(folder, scenario), f"{scenario} ended as if nothing had changed"
    shutil.rmtree(folder)
