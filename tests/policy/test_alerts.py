"""Each alert is noticed once, and a run stands still only by the measure of its own answers."""

from __future__ import annotations

from orchestrator.policy.alerts import Alerts


def test_each_threshold_of_a_budget_is_noticed_once_for_each_cap() -> None:
    alerts = Alerts(unknown_s=100)
    steps = [("run", 79), ("run", 80), ("run", 99), ("day", 85), ("run", 100), ("run", 120)]
    noticed = [(each.event, each.cause) for step in steps for each in alerts.budget(*step)]
    assert noticed == [("budget_80", "run"), ("budget_80", "day"), ("budget_100", "run")]


def test_a_cap_that_is_passed_at_once_is_both() -> None:
    assert [each.event for each in Alerts(unknown_s=1).budget("run", 100)] == ["budget_80", "budget_100"]


def noticed(alerts: Alerts, *steps: tuple[float, int], is_working: bool = True) -> list[float]:
    """At which times the run was found to stand still."""
    return [now for now, settled in steps if alerts.progress(now, settled=settled, is_working=is_working)]


def test_before_any_answer_a_run_may_take_its_longest_timeout() -> None:
    assert noticed(Alerts(unknown_s=3600), (0, 0), (3599, 0), (3600, 0), (9000, 0)) == [3600]


def test_short_answers_make_no_alert_within_a_quarter_of_an_hour() -> None:
    alerts = Alerts(unknown_s=3600)
    alerts.ended(2.0)
    assert noticed(alerts, (0, 5), (899, 5), (900, 5)) == [900]


def test_long_answers_are_waited_for_in_proportion() -> None:
    alerts = Alerts(unknown_s=3600)
    for took_s in (*[60.0] * 98, 1000.0, 1000.0):
        alerts.ended(took_s)
    assert alerts.stalls_after_s == 4000


def test_a_run_that_moves_again_and_stands_still_again_is_noticed_again() -> None:
    alerts = Alerts(unknown_s=10)
    assert noticed(alerts, (0, 1), (10, 1), (20, 1), (21, 2), (30, 2), (31, 2)) == [10, 31]


def test_a_run_with_nothing_to_do_does_not_stand_still() -> None:
    assert noticed(Alerts(unknown_s=10), (0, 1), (10, 1), (100, 1), is_working=False) == []
