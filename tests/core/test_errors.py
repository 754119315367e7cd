"""The message of each error for users, and its exit code for scripts."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import (
    CODES,
    BadRow,
    ConfigError,
    ExitCode,
    IllegalTransition,
    OrchestratorError,
    ProviderUnreachable,
    RunBusy,
    RunChanged,
    RunNotFound,
    SpecError,
    StoreError,
    UsageError,
)


def test_a_message_has_place_cause_and_hint() -> None:
    error = SpecError("no such column: text", where="jobs/a.yaml:14", hint="the columns are: id, body")
    assert str(error) == "jobs/a.yaml:14: no such column: text\n  hint: the columns are: id, body"
    assert (error.message, error.where, error.hint) == (
        "no such column: text",
        "jobs/a.yaml:14",
        "the columns are: id, body",
    )


def test_place_and_hint_are_optional() -> None:
    assert str(ConfigError("no key")) == "no key"
    assert str(ConfigError("no key", where="c.yaml")) == "c.yaml: no key"
    assert str(ConfigError("no key", hint="set it")) == "no key\n  hint: set it"


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (UsageError, 2),
        (RunNotFound, 2),
        (RunBusy, 6),
        (RunChanged, 2),
        (SpecError, 2),
        (BadRow, 2),
        (ConfigError, 2),
        (ProviderUnreachable, 4),
        (StoreError, 5),
    ],
)
def test_each_error_has_its_exit_code(kind: type[OrchestratorError], exit_code: int) -> None:
    assert kind("x").exit_code == exit_code
    assert isinstance(kind("x"), OrchestratorError)


def test_the_exit_codes_that_scripts_rely_on() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "BUG": 1,
        "USAGE": 2,
        "SOME_FAILED": 3,
        "HALTED": 4,
        "STORE": 5,
        "BUSY": 6,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


def test_a_bad_row_is_a_spec_error() -> None:
    assert issubclass(BadRow, SpecError)


def test_a_bug_is_no_user_error() -> None:
    assert not issubclass(IllegalTransition, OrchestratorError)


def test_each_code_has_a_sentence_for_people() -> None:
    assert list(CODES) == sorted(CODES)
    for code, meaning in CODES.items():
        assert code.isidentifier()
        assert code == code.lower()
        assert len(meaning.split()) > 4
        assert not meaning.endswith(".")
