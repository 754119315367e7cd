"""Hard caps on spending: the most that a request can cost is reserved before it is sent, and settled after.

Several caps hold at once (this run, the day, the month). All amounts are picodollars. As long as no request costs
more than its reservation, no cap is ever exceeded, in whatever order requests end.

A part of the run's cap may be set apart for a stage: the other stages leave it what it has not used of that, so that
the last stage of a pipeline finds money in spite of all that come before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import Picodollars

__all__ = ["RUN", "WARN_AT", "Budget", "Cap", "Crossed", "SetApart"]

# The scope of the cap of one run.
RUN = "run"

# Percentages of a cap at which the user is warned once.
WARN_AT = (50, 80, 100)


@fast_dataclass
class Cap:
    """One limit: ``scope`` is its name (``run``, ``day``, ``month``).

    ``committed_pusd`` is what is used up already: everything charged in its period, and the upper bound of every
    response of unknown cost. Other runs also spend under a ``shared`` cap.
    """

    scope: str
    limit_pusd: Picodollars
    committed_pusd: Picodollars = 0
    shared: bool = False


@fast_dataclass(kw_only=False)
class SetApart:
    """The part of the run's cap for one stage, and what the stage has used already."""

    share_pusd: Picodollars
    used_pusd: Picodollars = 0


@fast_dataclass
class Crossed:
    """A percentage of a cap that is now committed; reported once."""

    scope: str
    percent: int
    committed_pusd: Picodollars
    limit_pusd: Picodollars


class Budget:
    """The ledger of one run against its caps; without caps everything fits.

    An amount is *reserved* while its request may be sent or open, and *committed* permanently once it is spent or may
    have been: a response that ended without usage may have been charged, and an amount released on a guess could be
    spent twice. Only a later poll that finds the cost (``found``) replaces its upper bound.
    """

    def __init__(self, caps: Iterable[Cap] = (), *, set_apart: Mapping[str, SetApart] | None = None) -> None:
        self._caps = tuple(caps)
        self._committed = {cap.scope: cap.committed_pusd for cap in self._caps}
        if len(self._committed) != len(self._caps):
            raise ValueError("each scope has one cap")
        self._reported = {cap.scope: self._percents(cap) for cap in self._caps}
        self._periods: dict[str, int] = {}
        self._reserved = 0
        self._elsewhere = 0
        self._others_active = False
        self._siblings = 0
        self._short_of: str | None = None
        self._shares = {stage: each.share_pusd for stage, each in (set_apart or {}).items()}
        # Committed and reserved, of the stages that have a share.
        self._used = {stage: each.used_pusd for stage, each in (set_apart or {}).items()}

    @property
    def is_capped(self) -> bool:
        """Whether there is any cap."""
        return bool(self._caps)

    @property
    def has_shares(self) -> bool:
        """Whether one stage may find money where another finds none."""
        return bool(self._shares)

    @property
    def reserved_pusd(self) -> Picodollars:
        """What is reserved for requests that have not ended."""
        return self._reserved

    @property
    def waits_for_others(self) -> bool:
        """Whether other active runs, or other processes of this one, may still release funds."""
        return self._siblings > 0 or (self._elsewhere > 0 and self._others_active)

    @property
    def short_of(self) -> str | None:
        """The scope of the cap into which an amount last did not fit."""
        return self._short_of

    @property
    def fullest(self) -> tuple[str, int] | None:
        """The cap with the largest committed share: its scope, and the percentage."""
        if not self._caps:
            return None
        shares = ((cap.scope, self._committed[cap.scope] * 100 // max(1, cap.limit_pusd)) for cap in self._caps)
        return max(shares, key=lambda share: share[1])

    def committed_pusd(self, scope: str) -> Picodollars:
        """Returns what is committed under a cap."""
        return self._committed[scope]

    def could_ever_fit(self, amount: Picodollars) -> bool:
        """Whether no cap is smaller than this amount."""
        return all(amount <= cap.limit_pusd for cap in self._caps)

    def reserve(self, amount: Picodollars, stage: str) -> bool:
        """Reserve an amount under every cap; returns False and reserves nothing if it does not fit."""
        claimed = self._reserved + amount
        for cap in self._caps:
            elsewhere = self._siblings + (self._elsewhere if cap.shared else 0)
            if self._shares and cap.scope == RUN:
                elsewhere += self._kept_for_others(stage)
            if self._committed[cap.scope] + elsewhere + claimed > cap.limit_pusd:
                self._short_of = cap.scope
                return False
        self.adopt(amount, stage)
        return True

    def adopt(self, amount: Picodollars, stage: str) -> None:
        """Take over the reservation of a request that an earlier process left open, even if it does not fit."""
        self._reserved += amount
        self._use(stage, amount)

    def release(self, reserved: Picodollars, stage: str) -> None:
        """Release a whole reservation: nothing was sent, or nothing was created."""
        if reserved > self._reserved:
            raise ValueError("more is released than is reserved")
        self._reserved -= reserved
        self._use(stage, -reserved)

    def settle(self, reserved: Picodollars, cost: Picodollars, stage: str) -> tuple[Crossed, ...]:
        """Replace a reservation by the known cost; returns the thresholds that it crosses."""
        self.release(reserved, stage)
        self._use(stage, cost)
        return self._commit(cost)

    def hold(self, reserved: Picodollars, upper_bound: Picodollars | None, stage: str) -> tuple[Crossed, ...]:
        """Commit the most that a request can have cost; without a bound, commit its whole reservation."""
        return self.settle(reserved, reserved if upper_bound is None else upper_bound, stage)

    def found(self, held: Picodollars, cost: Picodollars) -> tuple[Crossed, ...]:
        """Replace a held amount by the cost that was found later."""
        return self._commit(cost - held)

    def restate(self, scope: str, committed_pusd: Picodollars, *, period: int) -> tuple[Crossed, ...]:
        """Replace what is committed under a cap: a new day or month began, or other runs have spent.

        Each day or month has its own ``period`` number; thresholds are reported again in each. Reservations of this
        ledger are not included, and count under the new period too, because the provider may charge them on either
        side of midnight.
        """
        is_new = self._periods.setdefault(scope, period) != period
        self._committed[scope], self._periods[scope] = committed_pusd, period
        if is_new:
            self._reported.update({cap.scope: self._percents(cap) for cap in self._caps if cap.scope == scope})
        return self._crossed()

    def note_others(self, reserved: Picodollars, *, active: bool) -> None:
        """Record what other runs have reserved under the shared caps; only an active run releases funds."""
        self._elsewhere = reserved
        self._others_active = active

    def note_siblings(self, reserved_by_all: Picodollars) -> None:
        """Record what all processes that work on the run have reserved, this one included."""
        self._siblings = max(0, reserved_by_all - self._reserved)

    def _kept_for_others(self, stage: str) -> Picodollars:
        """What the other stages have not used of what is set apart for them."""
        return sum(max(0, share - self._used[each]) for each, share in self._shares.items() if each != stage)

    def _use(self, stage: str, amount: Picodollars) -> None:
        if stage in self._used:
            self._used[stage] += amount

    def _commit(self, amount: Picodollars) -> tuple[Crossed, ...]:
        for scope in self._committed:
            self._committed[scope] += amount
        return self._crossed()

    def _crossed(self) -> tuple[Crossed, ...]:
        crossed: list[Crossed] = []
        for cap in self._caps:
            fresh = self._percents(cap) - self._reported[cap.scope]
            self._reported[cap.scope] |= fresh
            crossed += (
                Crossed(
                    scope=cap.scope,
                    percent=percent,
                    committed_pusd=self._committed[cap.scope],
                    limit_pusd=cap.limit_pusd,
                )
                for percent in sorted(fresh)
            )
        return tuple(crossed)

    def _percents(self, cap: Cap) -> frozenset[int]:
        committed = self._committed[cap.scope]
        return frozenset(percent for percent in WARN_AT if committed * 100 >= percent * cap.limit_pusd)
