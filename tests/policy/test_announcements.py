from __future__ import annotations

import random

import pytest

from orchestrator.policy.polling.announcements import Announced, Announcements


def after(*ends: bool) -> Announced:
    announcements = Announcements()
    for announced in ends:
        announcements.ended(announced=announced)
    return announcements.announced


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        ([], Announced.PERHAPS),
        ([True] * 24, Announced.PERHAPS),
        ([True] * 25, Announced.RELIABLY),
        ([False], Announced.NOT),
        ([False] + [True] * 23, Announced.NOT),
        ([False] + [True] * 24, Announced.RELIABLY),
        ([False] * 2 + [True] * 23, Announced.NOT),
        ([True] * 100 + [False], Announced.NOT),
        # What was shown before the one that was not announced counts no more.
        ([True] * 100 + [False] + [True] * 23, Announced.NOT),
        ([True] * 100 + [False] + [True] * 24, Announced.RELIABLY),
    ],
)
def test_what_the_latest_ends_show(ends: list[bool], shown: Announced) -> None:
    assert after(*ends) is shown


def test_events_of_which_three_in_ten_are_lost_are_hardly_ever_relied_on() -> None:
    rng, announcements = random.Random(1), Announcements()
    reliable = 0
    for _ in range(10_000):
        announcements.ended(announced=rng.random() > 0.3)
        reliable += announcements.announced is Announced.RELIABLY
    assert reliable < 100
