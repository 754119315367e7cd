"""Hard caps on spending: what a request can cost at most is set aside before it is sent, and settled after.

Several caps hold at once (this run, the day, the month). All amounts are picodollars. As long as nothing costs more
than was set aside for it, no cap is ever passed, whatever order things end in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.core.money import Picodollars

__all__ = ["WARN_AT", "Budget", "Cap", "Crossed"]

# Per cent of a cap at which a user is told once.
WARN_AT = (50, 80, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """One limit: ``scope`` is its name (``run``, ``day``, ``month``).

    ``committed_pusd`` is what it has lost already: everything charged in its period, and the upper bound of every
    response whose cost is not known. Under a ``shared`` cap other runs spend, too.
    """

    scope: str
    limit_pusd: Picodollars
    committed_pusd: Picodollars = 0
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossed:
    """So many per cent of a cap are committed; said once."""

    scope: str
    percent: int
    committed_pusd: Picodollars
    limit_pusd: Picodollars


class Budget:
    """The ledger of one run against its caps; without caps everything fits.

    An amount is *reserved* while its request may be sent or open, and *committed* for good once it is spent, or may
    have been: a response that ended without usage was perhaps charged, and an amount given free on a guess could be
    spent a second time. Only a later look that finds the cost (``found``) takes its upper bound back.
    """

    def __init__(self, caps: Iterable[Cap] = ()) -> None:
        self._caps = tuple(caps)
        self._committed = {cap.scope: cap.committed_pusd for cap in self._caps}
        if len(self._committed) != len(self._caps):
            raise ValueError("each scope has one cap")
        self._told = {cap.scope: self._percents(cap) for cap in self._caps}
        self._periods: dict[str, int] = {}
        self._reserved = 0
        self._elsewhere = 0
        self._others_at_work = False
        self._short_of: str | None = None

    @property
    def is_capped(self) -> bool:
        """Whether there is any cap."""
        return bool(self._caps)

    @property
    def reserved_pusd(self) -> Picodollars:
        """What is set aside for requests that have not ended."""
        return self._reserved

    @property
    def waits_for_others(self) -> bool:
        """Whether other runs, at work now, may yet free funds."""
        return self._elsewhere > 0 and self._others_at_work

    @property
    def short_of(self) -> str | None:
        """The scope of the cap under which an amount last did not fit."""
        return self._short_of

    @property
    def fullest(self) -> tuple[str, int] | None:
        """The cap of which most is committed: its scope, and how many per cent."""
        if not self._caps:
            return None
        shares = ((cap.scope, self._committed[cap.scope] * 100 // max(1, cap.limit_pusd)) for cap in self._caps)
        return max(shares, key=lambda share: share[1])

    def committed_pusd(self, scope: str) -> Picodollars:
        """What a cap has lost for good."""
        return self._committed[scope]

    def could_ever_fit(self, amount: Picodollars) -> bool:
        """Whether no cap is smaller than this one amount."""
        return all(amount <= cap.limit_pusd for cap in self._caps)

    def reserve(self, amount: Picodollars) -> bool:
        """Set an amount aside under every cap, or under none and say False."""
        claimed = self._reserved + amount
        for cap in self._caps:
            elsewhere = self._elsewhere if cap.shared else 0
            if self._committed[cap.scope] + elsewhere + claimed > cap.limit_pusd:
                self._short_of = cap.scope
                return False
        self._reserved = claimed
        return True

    def adopt(self, amount: Picodollars) -> None:
        """Take over a reservation of an earlier process, whose request is still open; it is not asked to fit."""
        self._reserved += amount

    def release(self, reserved: Picodollars) -> None:
        """Give a reservation back whole: nothing was sent, or nothing was created."""
        if reserved > self._reserved:
            raise ValueError("more is given back than is reserved")
        self._reserved -= reserved

    def settle(self, reserved: Picodollars, cost: Picodollars) -> tuple[Crossed, ...]:
        """Turn a reservation into the cost that became known; returns the thresholds crossed by it."""
        self.release(reserved)
        return self._commit(cost)

    def hold(self, reserved: Picodollars, upper_bound: Picodollars | None) -> tuple[Crossed, ...]:
        """Turn a reservation into the most it can have cost, for good; without a bound it is held whole."""
        self.release(reserved)
        return self._commit(reserved if upper_bound is None else upper_bound)

    def found(self, held: Picodollars, cost: Picodollars) -> tuple[Crossed, ...]:
        """A held amount turns out to have cost this much after all."""
        return self._commit(cost - held)

    def restate(self, scope: str, committed_pusd: Picodollars, *, period: int) -> tuple[Crossed, ...]:
        """Replace what a cap has lost: a new day or month began, or other runs have spent.

        ``period`` is another number for another day or month; thresholds are told anew in each. Reservations of this
        ledger are not part of what is lost, and count under the new period too: nobody knows on which side of
        midnight the provider books them.
        """
        began_anew = self._periods.setdefault(scope, period) != period
        self._committed[scope], self._periods[scope] = committed_pusd, period
        if began_anew:
            self._told.update({cap.scope: self._percents(cap) for cap in self._caps if cap.scope == scope})
        return self._crossed()

    def note_others(self, aside: Picodollars, *, at_work: bool) -> None:
        """Other runs have so much set aside under the shared caps; a run that is not at work frees nothing."""
        self._elsewhere = aside
        self._others_at_work = at_work

    def _commit(self, amount: Picodollars) -> tuple[Crossed, ...]:
        for scope in self._committed:
            self._committed[scope] += amount
        return self._crossed()

    def _crossed(self) -> tuple[Crossed, ...]:
        crossed: list[Crossed] = []
        for cap in self._caps:
            fresh = self._percents(cap) - self._told[cap.scope]
            self._told[cap.scope] |= fresh
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
