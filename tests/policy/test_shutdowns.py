"""A model that is about to be shut down is named, with its day and what takes its place."""

from __future__ import annotations

from datetime import date

import pytest

from orchestrator.policy.shutdowns import shutdown_warning

TODAY = date(2026, 12, 1)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("gpt-5-mini", "is shut down on 2026-12-11, in 10 days; gpt-6.1-terra is named to take its place"),
        ("gpt-5-mini-2025-08-07", "the model gpt-5-mini-2025-08-07 is shut down on 2026-12-11"),
        ("gpt-4.1-nano", "was shut down on 2026-10-23"),
        ("gpt-4o", "is shut down on 2027-01-14, in 44 days; gpt-6-luna"),
        ("gpt-5.4-nano", None),  # in four months
        ("gpt-6-luna", None),
        ("my-deployment", None),
    ],
)
def test_announced_dates(model: str, words: str | None) -> None:
    warning = shutdown_warning(model, TODAY)
    assert (warning is None) if words is None else (warning is not None and words in warning)


def test_the_date_of_the_providers_list_takes_precedence() -> None:
    assert shutdown_warning("gpt-5-mini", TODAY, offered_until=date(2028, 1, 1)) is None
    warning = shutdown_warning("gpt-9", TODAY, offered_until=date(2026, 12, 2))
    assert warning == "the model gpt-9 is shut down on 2026-12-02, in 1 day"


def test_the_day_of_the_shutdown_is_too_late() -> None:
    assert "was shut down" in str(shutdown_warning("gpt-5", date(2026, 12, 11)))
