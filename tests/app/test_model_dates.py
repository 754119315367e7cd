"""A run at OpenAI with a model that is shut down soon begins with a warning."""

from __future__ import annotations

from datetime import date

import pytest

from orchestrator.app.model_dates import model_warnings
from orchestrator.config import Config
from orchestrator.job.spec import Job

TODAY = date(2026, 12, 1)


def a_job(model: str) -> Job:
    return Job.model_validate({"name": "a", "input": {"path": "a.csv"}, "request": {"model": model, "input": "hi"}})


def a_config(**provider: object) -> Config:
    return Config.model_validate({"provider": provider})


def test_the_model_of_the_job_is_warned_of() -> None:
    [warning] = model_warnings(a_job("gpt-5-mini"), a_config(), TODAY)
    assert "the model gpt-5-mini is shut down on 2026-12-11, in 10 days; gpt-6.1-terra" in warning
    assert model_warnings(a_job("gpt-6.1-terra"), a_config(), TODAY) == []


@pytest.mark.parametrize("provider", [{"base_url": "https://eu.example.org/v1"}, {"sandbox": {"seed": 1}}])
def test_another_provider_has_dates_of_its_own(provider: dict[str, object]) -> None:
    assert model_warnings(a_job("gpt-5-mini"), a_config(**provider), TODAY) == []


def test_a_model_that_each_row_names_is_unknown_before() -> None:
    assert model_warnings(a_job("{{ model }}"), a_config(), TODAY) == []
