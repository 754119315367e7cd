"""A hard budget is never exceeded, and is used almost completely."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from orchestrator.policy.pricing.budget import RUN, Budget, Cap, Crossed, SetApart

STAGE = "main"
RUN_100 = Cap(scope="run", limit_pusd=100)


def test_without_caps_everything_fits() -> None:
    budget = Budget()
    assert not budget.is_capped
    assert budget.could_ever_fit(10**30)
    assert budget.reserve(10**30, STAGE)
    assert budget.settle(10**30, 5, STAGE) == ()


def test_an_amount_is_reserved_then_settled() -> None:
    budget = Budget([RUN_100])
    assert budget.is_capped
    assert budget.reserve(60, STAGE)
    assert not budget.reserve(60, STAGE)
    assert budget.reserved_pusd == 60
    budget.settle(60, 10, STAGE)
    assert (budget.reserved_pusd, budget.committed_pusd("run")) == (0, 10)
    assert budget.reserve(90, STAGE)
    assert not budget.reserve(1, STAGE)


def test_an_amount_is_reserved_under_all_caps_or_none() -> None:
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=1_000, committed_pusd=950)])
    assert not budget.reserve(60, STAGE), "the day has only 50 left"
    assert budget.reserved_pusd == 0
    assert budget.reserve(50, STAGE)
    budget.settle(50, 40, STAGE)
    assert (budget.committed_pusd("run"), budget.committed_pusd("day")) == (40, 990)


def test_a_request_that_was_never_sent_releases_its_reservation() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(100, STAGE)
    budget.release(100, STAGE)
    assert budget.reserve(100, STAGE)


def test_an_unknown_cost_is_committed_at_its_bound() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(40, STAGE)
    assert budget.reserve(40, STAGE)
    budget.hold(40, 30, STAGE)
    budget.hold(40, None, STAGE)
    assert budget.committed_pusd("run") == 70, "without a bound the whole reservation is held"
    assert budget.reserved_pusd == 0
    assert not budget.reserve(31, STAGE)


def test_a_cost_found_later_replaces_the_bound() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(100, STAGE)
    budget.hold(100, None, STAGE)
    budget.found(100, 7)
    assert budget.committed_pusd("run") == 7
    assert budget.reserve(93, STAGE)


def test_an_amount_above_a_whole_cap_can_never_fit() -> None:
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=50, committed_pusd=50)])
    assert budget.could_ever_fit(50), "not today, but another day"
    assert not budget.could_ever_fit(51)


def test_thresholds_are_reported_once() -> None:
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=1_000, committed_pusd=600)])

    def spend(amount: int) -> list[tuple[str, int]]:
        assert budget.reserve(amount, STAGE)
        return [(each.scope, each.percent) for each in budget.settle(amount, amount, STAGE)]

    assert spend(49) == []
    assert spend(1) == [("run", 50)]
    assert spend(10) == []
    assert spend(40) == [("run", 80), ("run", 100)]
    assert budget.found(100, 0) == ()
    assert spend(60) == [], "reported before"


def test_a_threshold_names_its_cap_and_amounts() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(60, STAGE)
    assert budget.hold(60, None, STAGE) == (Crossed(scope="run", percent=50, committed_pusd=60, limit_pusd=100),)


def test_a_resumed_run_reports_no_threshold_again() -> None:
    budget = Budget([Cap(scope="run", limit_pusd=100, committed_pusd=85)])
    assert budget.reserve(10, STAGE)
    assert budget.settle(10, 10, STAGE) == ()


def test_open_requests_of_earlier_processes_count_even_if_they_do_not_fit() -> None:
    budget = Budget([Cap(scope="run", limit_pusd=100, committed_pusd=70)])
    budget.adopt(50, STAGE)
    assert budget.reserved_pusd == 50
    assert not budget.reserve(1, STAGE)
    budget.settle(50, 5, STAGE)
    assert budget.reserve(25, STAGE)


def test_a_new_day_starts_at_zero_except_for_reservations() -> None:
    budget = Budget([Cap(scope="day", limit_pusd=100, committed_pusd=90)])
    assert budget.reserve(10, STAGE)
    assert budget.restate("day", 90, period=1) == ()
    assert budget.restate("day", 0, period=2) == ()
    assert not budget.reserve(91, STAGE)
    assert budget.reserve(80, STAGE)
    assert [each.percent for each in budget.settle(80, 80, STAGE)] == [50, 80]


def test_spending_of_other_runs_counts() -> None:
    budget = Budget([RUN_100, Cap(scope="month", limit_pusd=1_000)])
    crossed = [(each.scope, each.percent) for each in budget.restate("month", 950, period=9)]
    assert crossed == [("month", 50), ("month", 80)]
    assert budget.restate("month", 790, period=9) == (), "an older value, read by another connection"
    assert budget.restate("month", 950, period=9) == (), "and reported before"
    assert not budget.reserve(60, STAGE)
    assert budget.committed_pusd("run") == 0


def test_reservations_of_other_runs_count_under_shared_caps_only() -> None:
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=150, committed_pusd=40, shared=True)])
    budget.note_others(80, active=True)
    assert budget.reserve(30, STAGE)
    assert not budget.reserve(1, STAGE)
    seen = [(budget.short_of, budget.waits_for_others)]
    budget.note_others(0, active=False)
    assert budget.reserve(70, STAGE)
    assert not budget.reserve(1, STAGE)
    seen.append((budget.short_of, budget.waits_for_others))
    assert seen == [("day", True), ("run", False)]


def test_inactive_runs_release_nothing() -> None:
    budget = Budget([Cap(scope="day", limit_pusd=100, shared=True)])
    budget.note_others(90, active=False)
    assert not budget.reserve(20, STAGE)
    assert not budget.waits_for_others


def test_the_fullest_cap_is_shown() -> None:
    assert Budget().fullest is None
    budget = Budget([RUN_100, Cap(scope="day", limit_pusd=1_000, committed_pusd=600)])
    assert budget.fullest == ("day", 60)
    assert budget.reserve(70, STAGE)
    budget.settle(70, 70, STAGE)
    assert budget.fullest == ("run", 70)


def test_no_more_than_was_reserved_can_be_released() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(10, STAGE)
    with pytest.raises(ValueError, match="more is released"):
        budget.release(11, STAGE)


def test_each_scope_has_one_cap() -> None:
    with pytest.raises(ValueError, match="each scope has one cap"):
        Budget([RUN_100, RUN_100])


# ── Whole runs ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class World:
    """A provider that charges, and a disk that survives crashes; ``day`` and ``run`` are the caps."""

    rng: random.Random
    run_limit: int
    day_limit: int
    # What the provider really charged, in total and today; then what is on disk: settled or held amounts, and open
    # requests (worst case and true cost of each).
    charged: int = 0
    charged_today: int = 0
    committed: int = 0
    committed_today: int = 0
    open: list[tuple[int, int]] = field(default_factory=list)

    def start(self) -> Budget:
        """Returns the ledger as a starting process reads it from the disk."""
        budget = Budget(
            [
                Cap(scope="run", limit_pusd=self.run_limit, committed_pusd=self.committed),
                Cap(scope="day", limit_pusd=self.day_limit, committed_pusd=self.committed_today),
            ]
        )
        for worst_case, _ in self.open:
            budget.adopt(worst_case, STAGE)
        return budget

    def end_one(self, budget: Budget) -> None:
        """End one open request in a random way."""
        worst_case, cost = self.open.pop(self.rng.randrange(len(self.open)))
        outcome = self.rng.random()
        if outcome < 0.1:  # never created
            budget.release(worst_case, STAGE)
            return
        self.charged += cost
        self.charged_today += cost
        if outcome < 0.3:  # lost or cancelled: charged an unknown amount
            bound = self.rng.choice([None, self.rng.randint(cost, worst_case)])
            budget.hold(worst_case, bound, STAGE)
            known = worst_case if bound is None else bound
            if self.rng.random() < 0.3:  # a later poll finds it
                budget.found(known, cost)
                known = cost
        else:
            budget.settle(worst_case, cost, STAGE)
            known = cost
        self.committed += known
        self.committed_today += known

    def check(self, budget: Budget) -> None:
        in_flight = sum(cost for _, cost in self.open)
        assert self.charged + in_flight <= self.run_limit
        assert self.charged_today + in_flight <= self.day_limit
        assert budget.reserved_pusd == sum(worst_case for worst_case, _ in self.open)
        assert (budget.committed_pusd("run"), budget.committed_pusd("day")) == (self.committed, self.committed_today)


@pytest.mark.parametrize("seed", range(20))
def test_spending_never_exceeds_a_cap_in_thousands_of_random_runs(seed: int) -> None:
    """Random costs, endings, crashes, resumes and midnights: 200 runs for each seed."""
    for number in range(200):
        rng = random.Random(seed * 1_000 + number)
        world = World(rng, run_limit=rng.randint(1, 2_000), day_limit=rng.randint(1, 2_000))
        budget, midnights = world.start(), 0
        for _ in range(rng.randint(1, 60)):
            step = rng.random()
            if step < 0.5:
                worst_case = rng.randint(0, 300)
                if budget.reserve(worst_case, STAGE):
                    world.open.append((worst_case, rng.choice([worst_case, rng.randint(0, worst_case)])))
            elif step < 0.9:
                if world.open:
                    world.end_one(budget)
            elif step < 0.95:
                budget = world.start()  # killed, and resumed from what is on disk
            else:
                world.committed_today = world.charged_today = 0
                midnights += 1
                budget.restate("day", 0, period=midnights)
            world.check(budget)
        while world.open:
            world.end_one(budget)
            world.check(budget)


@pytest.mark.parametrize("in_flight", [1, 7, 200])
@pytest.mark.parametrize("ratio", [1, 2, 5])
def test_rows_of_one_price_use_the_budget_almost_completely(in_flight: int, ratio: int) -> None:
    """Each row costs 100 and may cost ``ratio`` times that; the cap is far more than one row."""
    rng = random.Random(in_flight * 10 + ratio)
    limit, cost, worst_case = 100_000, 100, 100 * ratio
    budget = Budget([Cap(scope="run", limit_pusd=limit)])
    reported: list[int] = []
    open_requests = 0
    while True:
        while open_requests < in_flight and budget.reserve(worst_case, STAGE):
            open_requests += 1
        if not budget.reserved_pusd:
            break
        for _ in range(rng.randint(1, open_requests)):
            reported += (each.percent for each in budget.settle(worst_case, cost, STAGE))
            open_requests -= 1
    spent = budget.committed_pusd("run")
    assert 0.97 * limit <= spent <= limit
    assert reported[:2] == [50, 80]
    assert all(before < after for before, after in pairwise(reported))


# ── Shares of stages ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stage_leaves_the_others_what_is_set_apart_for_them() -> None:
    budget = Budget([RUN_100], set_apart={"last": SetApart(40)})
    assert budget.has_shares
    assert budget.reserve(60, "first")
    assert not budget.reserve(1, "first")
    assert budget.short_of == RUN
    assert budget.reserve(40, "last")
    budget.settle(40, 10, "last")
    assert not budget.reserve(1, "first"), "what it did not need is set apart still"
    budget.settle(60, 30, "first")
    assert budget.reserve(30, "first")
    assert budget.reserve(30, "last")
    assert not budget.reserve(1, "last")


def test_a_stage_may_use_more_than_its_share() -> None:
    budget = Budget([RUN_100], set_apart={"last": SetApart(40, used_pusd=25)})
    assert budget.reserve(100, "last")
    budget.release(100, "last")
    assert budget.reserve(85, "first")


@pytest.mark.parametrize("seed", range(20))
def test_each_stage_always_finds_its_share_whatever_the_others_do(seed: int) -> None:
    """Random amounts, endings and restarts of three stages, two of them with shares."""
    rng = random.Random(seed)
    shares = {"b": 150, "c": 200}
    for _ in range(100):
        committed = dict.fromkeys("abc", 0)
        open_: list[tuple[str, int]] = []
        for step in range(40):
            if not step % 13:  # killed, and resumed from what is on disk
                apart = {stage: SetApart(share, committed[stage]) for stage, share in shares.items()}
                whole = Cap(scope=RUN, limit_pusd=500, committed_pusd=sum(committed.values()))
                budget = Budget([whole], set_apart=apart)
                for stage, amount in open_:
                    budget.adopt(amount, stage)
            if rng.random() < 0.6:
                stage, amount = rng.choice("abc"), rng.randint(1, 120)
                if budget.reserve(amount, stage):
                    open_.append((stage, amount))
            elif open_:
                stage, amount = open_.pop(rng.randrange(len(open_)))
                cost = rng.randint(0, amount)
                budget.settle(amount, cost, stage)
                committed[stage] += cost
            used = {each: committed[each] + sum(amount for of, amount in open_ if of == each) for each in "abc"}
            assert sum(used.values()) <= 500
            for stage, share in shares.items():
                left = max(0, share - used[stage])
                assert budget.reserve(left, stage)
                budget.release(left, stage)


def test_what_other_processes_of_the_run_hold_counts_under_its_own_cap() -> None:
    budget = Budget([RUN_100])
    assert budget.reserve(30, STAGE)
    budget.note_siblings(90)
    assert not budget.reserve(11, STAGE)
    assert budget.waits_for_others, "they may release it"
    assert budget.reserve(10, STAGE)
    budget.release(10, STAGE)
    budget.note_siblings(30)
    assert budget.reserve(70, STAGE)
    assert not budget.waits_for_others
