"""The money of a run: what a response cost, what is reserved for those that are open, and what all runs spend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Charge, Response
from orchestrator.core.money import Picodollars, format_usd
from orchestrator.engine.items import OpenResponse
from orchestrator.engine.observation import Observation
from orchestrator.policy.pricing.budget import Budget, Crossed
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.stores.reads import SharedCaps, Spending

__all__ = ["Funds", "unknown_charge"]


@fast_dataclass
class Funds:
    """Prices (of each endpoint, by place) and budget of one run. ``caps`` are those over all runs; ``is_at_work``
    says whether a process holds the lock of a run, by the run's id. With ``has_siblings``, other processes work on
    the same run.
    """

    prices: Sequence[PriceBook]
    budget: Budget
    observation: Observation
    caps: SharedCaps | None
    is_at_work: Callable[[int], bool]
    has_siblings: bool = False

    def charge(self, open_: OpenResponse, response: Response | None) -> Charge | None:
        """What an attempt cost, by the usage that its response reports."""
        if response is None:
            return unknown_charge(open_)
        try:
            return self.prices[open_.endpoint].charge_response(
                response,
                requested_model=open_.model,
                requested_tier=open_.service_tier,
                at=open_.sent_at,
                window=open_.window,
                worst_case=open_.worst_case_pusd,
            )
        except Exception:  # noqa: BLE001  # what a reply reports must not stop the others: its cost is unknown
            return unknown_charge(open_)

    def settle(self, reserved: Picodollars | None, charge: Charge | None, stage: str) -> None:
        """Turn a reservation into a cost; an unknown cost stays reserved at its upper bound, and no cost frees it."""
        if charge is None:
            self.release(reserved, stage)
            return
        reserved = reserved or 0
        progress = self.observation.progress
        if charge.usage is not None:
            progress.usage += charge.usage
        if charge.cost_pusd is None:
            progress.cost_unknown += 1
            crossed = self.budget.hold(reserved, charge.upper_bound_pusd, stage)
        else:
            progress.cost_pusd += charge.cost_pusd
            crossed = self.budget.settle(reserved, charge.cost_pusd, stage)
        progress.reserved_pusd = self.budget.reserved_pusd
        self._warn(crossed)

    def settle_late(self, held: Picodollars | None, charge: Charge, cost: Picodollars) -> None:
        """Replace an unknown cost, held at its upper bound, by the real one."""
        progress = self.observation.progress
        if charge.usage is not None:
            progress.usage += charge.usage
        progress.cost_pusd += cost
        progress.cost_unknown -= 1
        self._warn(self.budget.found(held or 0, cost))

    def release(self, reserved: Picodollars | None, stage: str) -> None:
        """Return a reservation: nothing was spent."""
        self.budget.release(reserved or 0, stage)

    def refresh(self, spent: Spending) -> None:
        """Take over what all runs together have spent and reserved."""
        if self.caps is None:
            return
        for scope, _, spent_pusd, period in spent.under(self.caps):
            self._warn(self.budget.restate(scope, spent_pusd, period=period))
        if self.has_siblings:
            self.budget.note_siblings(spent.own_pusd)
        self.budget.note_others(spent.elsewhere_pusd, active=any(map(self.is_at_work, spent.holders)))

    def _warn(self, crossed: Iterable[Crossed]) -> None:
        """Report each threshold once, and show the cap that is used most."""
        self.observation.progress.budget_used = self.budget.fullest
        for each in crossed:
            spent, cap = format_usd(each.committed_pusd), format_usd(each.limit_pusd)
            message = f"{each.percent} % of the {each.scope}'s budget is used: {spent} of {cap} dollars"
            self.observation.warn("budget", message)


def unknown_charge(open_: OpenResponse) -> Charge | None:
    """The charge of an attempt that may have cost something: at most what was reserved, and zero if that was zero."""
    if open_.worst_case_pusd == 0:
        # A known cost belongs to a response, and here there may be none.
        return Charge(usage=None, cost_pusd=0, upper_bound_pusd=None, price=None) if open_.response_id else None
    return Charge(usage=None, cost_pusd=None, upper_bound_pusd=open_.worst_case_pusd, price=None)
