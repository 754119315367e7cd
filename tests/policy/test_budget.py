"""A hard budget holds whatever happens, and is used nearly whole."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from orchestrator.policy.pricing.budget import Budget, Cap, Crossed

RUN_100 = Cap(scope="run", limit_pusd=100)


def test_without_caps_everything_fits() -> None:
    budget = Budget()
    assert not budget.is_capped
    assert budget.could_ever_fit(10**30)
    assert budget.reserve(10**30)
    assert budget.settle(10**30, 5) == ()


def test_an_amount_is_set_aside_then_settled() -> None:
    budget = Budget([RUN_100])
    assert budget.is_capped
    assert budget.reserve(60)
    assert not budget.reserve(60)
    assert budget.reserved_pusd == 60
    budget.settle(60, 10)
    assert (budget.reserved_pusd, budget.committed_pusd("run")) == (0, 10)
    assert budget.reserve(90)
    assert not budget.reserve(1)


def test_all_caps_take_an_amount_or_none_does() -> None:
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=1_000, committed_pusd=950)])
    assert not budget.reserve(60), "the day has only 50 left"
    assert budget.reserved_pusd == 0
    assert budget.reserve(50)
    budget.settle(50, 40)
    assert (budget.committed_pusd("run"), budget.committed_pusd("day")) == (40, 990)


def test_a_request_that_was_never_sent_gives_everything_back() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(100)
    budget.release(100)
    assert budget.reserve(100)


def test_an_unknown_cost_is_held_at_its_bound_for_good() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(40)
    assert budget.reserve(40)
    budget.hold(40, 30)
    budget.hold(40, None)
    assert budget.committed_pusd("run") == 70, "without a bound all that was set aside is held"
    assert budget.reserved_pusd == 0
    assert not budget.reserve(31)


def test_a_late_look_that_finds_the_cost_takes_the_bound_back() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(100)
    budget.hold(100, None)
    budget.found(100, 7)
    assert budget.committed_pusd("run") == 7
    assert budget.reserve(93)


def test_an_amount_above_a_whole_cap_can_never_fit() -> None:
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=50, committed_pusd=50)])
    assert budget.could_ever_fit(50), "not today, but another day"
    assert not budget.could_ever_fit(51)


def test_thresholds_are_told_once() -> None:
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=1_000, committed_pusd=600)])

    def spend(amount: int) -> list[tuple[str, int]]:
        assert budget.reserve(amount)
        return [(each.scope, each.percent) for each in budget.settle(amount, amount)]

    assert spend(49) == []
    assert spend(1) == [("run", 50)]
    assert spend(10) == []
    assert spend(40) == [("run", 80), ("run", 100)]
    assert budget.found(100, 0) == ()
    assert spend(60) == [], "told before"


def test_a_threshold_says_how_much_of_what() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(60)
    assert budget.hold(60, None) == (Crossed(scope="run", percent=50, committed_pusd=60, limit_pusd=100),)


def test_a_resumed_run_is_not_told_again() -> None:
    budget = Budget([Cap(scope="run", limit_pusd=100, committed_pusd=85)])
    assert budget.reserve(10)
    assert budget.settle(10, 10) == ()


def test_what_earlier_processes_left_open_counts_even_where_it_does_not_fit() -> None:
    budget = Budget([Cap(scope="run", limit_pusd=100, committed_pusd=70)])
    budget.adopt(50)
    assert budget.reserved_pusd == 50
    assert not budget.reserve(1)
    budget.settle(50, 5)
    assert budget.reserve(25)


def test_a_new_day_begins_anew_except_for_what_is_in_flight() -> None:
    budget = Budget([Cap(scope="day", limit_pusd=100, committed_pusd=90)])
    assert budget.reserve(10)
    assert budget.restate("day", 90, period=1) == ()
    assert budget.restate("day", 0, period=2) == ()
    assert not budget.reserve(91)
    assert budget.reserve(80)
    assert [each.percent for each in budget.settle(80, 80)] == [50, 80]


def test_what_other_runs_spend_counts_too() -> None:
    budget = Budget([RUN_100, Cap(scope="month", limit_pusd=1_000)])
    told = [(each.scope, each.percent) for each in budget.restate("month", 950, period=9)]
    assert told == [("month", 50), ("month", 80)]
    assert budget.restate("month", 790, period=9) == (), "seen a moment earlier, by another connection"
    assert budget.restate("month", 950, period=9) == (), "and told before"
    assert not budget.reserve(60)
    assert budget.committed_pusd("run") == 0


def test_what_other_runs_have_set_aside_counts_under_shared_caps_only() -> None:
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=150, committed_pusd=40, shared=True)])
    budget.note_others(80, at_work=True)
    assert budget.reserve(30)
    assert not budget.reserve(1)
    seen = [(budget.short_of, budget.waits_for_others)]
    budget.note_others(0, at_work=False)
    assert budget.reserve(70)
    assert not budget.reserve(1)
    seen.append((budget.short_of, budget.waits_for_others))
    assert seen == [("day", True), ("run", False)]


def test_runs_that_nobody_works_on_free_nothing() -> None:
    budget = Budget([Cap(scope="day", limit_pusd=100, shared=True)])
    budget.note_others(90, at_work=False)
    assert not budget.reserve(20)
    assert not budget.waits_for_others


def test_the_fullest_cap_is_shown() -> None:
    assert Budget().fullest is None
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=1_000, committed_pusd=600)])
    assert budget.fullest == ("day", 60)
    assert budget.reserve(70)
    budget.settle(70, 70)
    assert budget.fullest == ("run", 70)


def test_more_cannot_be_given_back_than_was_reserved() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(10)
    with pytest.raises(ValueError, match="more is given back"):
        budget.release(11)


def test_each_scope_has_one_cap() -> None:
    with pytest.raises(ValueError, match="each scope has one cap"):
        Budget([RUN_100, RUN_100])


# ── Whole runs ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class World:
    """A provider that charges, and a disk that survives the process; ``day`` and ``run`` are the caps."""

    rng: random.Random
    run_limit: int
    day_limit: int
    # What the provider really took, in all and today; what the disk knows: settled or held, and open (worst case and
    # true cost of each).
    taken: int = 0
    taken_today: int = 0
    committed: int = 0
    committed_today: int = 0
    open: list[tuple[int, int]] = field(default_factory=list)

    def start(self) -> Budget:
        """The ledger as a process that starts, or starts again, reads it from the disk."""
        budget = Budget(
            [
                Cap(scope="run", limit_pusd=self.run_limit, committed_pusd=self.committed),
                Cap(scope="day", limit_pusd=self.day_limit, committed_pusd=self.committed_today),
            ]
        )
        for worst_case, _ in self.open:
            budget.adopt(worst_case)
        return budget

    def end_one(self, budget: Budget) -> None:
        """One open request ends in a random way."""
        worst_case, cost = self.open.pop(self.rng.randrange(len(self.open)))
        fate = self.rng.random()
        if fate < 0.1:  # it was never created
            budget.release(worst_case)
            return
        self.taken += cost
        self.taken_today += cost
        if fate < 0.3:  # lost or cancelled: charged, but nobody says how much
            bound = self.rng.choice([None, self.rng.randint(cost, worst_case)])
            budget.hold(worst_case, bound)
            known = worst_case if bound is None else bound
            if self.rng.random() < 0.3:  # a late look finds it after all
                budget.found(known, cost)
                known = cost
        else:
            budget.settle(worst_case, cost)
            known = cost
        self.committed += known
        self.committed_today += known

    def check(self, budget: Budget) -> None:
        in_flight = sum(cost for _, cost in self.open)
        assert self.taken + in_flight <= self.run_limit
        assert self.taken_today + in_flight <= self.day_limit
        assert budget.reserved_pusd == sum(worst_case for worst_case, _ in self.open)
        assert (budget.committed_pusd("run"), budget.committed_pusd("day")) == (self.committed, self.committed_today)


@pytest.mark.parametrize("seed", range(20))
def test_spend_never_passes_a_cap_over_thousands_of_random_runs(seed: int) -> None:
    """Random costs, endings, crashes, resumes and midnights: 200 runs for each seed."""
    for number in range(200):
        rng = random.Random(seed * 1_000 + number)
        world = World(rng, run_limit=rng.randint(1, 2_000), day_limit=rng.randint(1, 2_000))
        budget, midnights = world.start(), 0
        for _ in range(rng.randint(1, 60)):
            step = rng.random()
            if step < 0.5:
                worst_case = rng.randint(0, 300)
                if budget.reserve(worst_case):
                    world.open.append((worst_case, rng.choice([worst_case, rng.randint(0, worst_case)])))
            elif step < 0.9:
                if world.open:
                    world.end_one(budget)
            elif step < 0.95:
                budget = world.start()  # killed, and resumed from what is on disk
            else:
                world.committed_today = world.taken_today = 0
                midnights += 1
                budget.restate("day", 0, period=midnights)
            world.check(budget)
        while world.open:
            world.end_one(budget)
            world.check(budget)


@pytest.mark.parametrize("in_flight", [1, 7, 200])
@pytest.mark.parametrize("ratio", [1, 2, 5])
def test_equal_rows_use_the_budget_nearly_whole(in_flight: int, ratio: int) -> None:
    """Each row costs 100 and may cost ``ratio`` times that; the cap is far more than one row."""
    rng = random.Random(in_flight * 10 + ratio)
    limit, cost, worst_case = 100_000, 100, 100 * ratio
    budget = Budget([Cap(scope="run", limit_pusd=limit)])
    told: list[int] = []
    flying = 0
    while True:
        while flying < in_flight and budget.reserve(worst_case):
            flying += 1
        if not budget.reserved_pusd:
            break
        for _ in range(rng.randint(1, flying)):
            told += (each.percent for each in budget.settle(worst_case, cost))
            flying -= 1
    spent = budget.committed_pusd("run")
    assert 0.97 * limit <= spent <= limit
    assert told[:2] == [50, 80]
    assert all(before < after for before, after in pairwise(told))
