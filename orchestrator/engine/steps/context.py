"""What every step is given: one run, its store and executor, and the policies that decide."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator.core.clock import Clock
from orchestrator.core.events import Observer, OutageBegan, OutageEnded, Progress, Warned
from orchestrator.core.money import format_usd
from orchestrator.core.problems import NeverSent, Problem
from orchestrator.core.states import State
from orchestrator.engine.items import Stopped
from orchestrator.engine.poll_schedules import Schedules
from orchestrator.engine.run_status import RunStatus
from orchestrator.engine.settings import Settings
from orchestrator.engine.uploads import Uploads
from orchestrator.executors.base import Executor
from orchestrator.executors.function_tools import FunctionTools
from orchestrator.policy.errors.first_tries import FirstCreates, FirstPolls
from orchestrator.policy.pricing.budget import Budget, Crossed
from orchestrator.policy.pricing.prices import PriceBook
from orchestrator.policy.rate_limits.circuit_breaker import CircuitBreaker
from orchestrator.policy.rate_limits.limits import Limiter, Pools
from orchestrator.stores.base import Store
from orchestrator.stores.reads import Run, Spending

__all__ = ["Context", "record_failure", "record_success", "refresh_spending", "unreachable", "warn_budget"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Shared by all steps of a run and the engine that calls them."""

    run: Run
    store: Store
    executor: Executor
    clock: Clock
    rng: random.Random
    settings: Settings
    progress: Progress
    observe: Observer
    prices: PriceBook
    budget: Budget
    pools: Pools
    polls: Limiter
    creates: FirstCreates
    looks: FirstPolls
    # Three things can be down each by itself: what takes requests, what works on them, and what shows them.
    create_circuit: CircuitBreaker
    response_circuit: CircuitBreaker
    poll_circuit: CircuitBreaker
    schedules: Schedules
    flow: RunStatus
    # Whether a process works on a run, by the run's id.
    is_at_work: Callable[[int], bool]
    # The handlers of the job's function tools; None where it has none.
    tools: FunctionTools | None = None
    # Where the files go that requests name; None where a run's requests name none.
    uploads: Uploads | None = None

    def count(self, from_state: State, to_state: State) -> None:
        """Show a move in the live counts."""
        self.progress.requests[from_state] -= 1
        self.progress.requests[to_state] += 1


def unreachable(context: Context, problem: Problem) -> Stopped | None:
    """Whether nobody is there at all: a wrong address must be told at once, an outage later on is waited out."""
    if context.flow.heard or not isinstance(problem, NeverSent):
        return None
    if context.clock.now() - context.progress.started_at < context.settings.first_contact_s:
        return None
    return Stopped(
        "unreachable",
        f"the provider cannot be reached: {problem.reason}; check provider.base_url and the network, then run again",
        collect=False,
    )


def refresh_spending(context: Context, spent: Spending) -> None:
    """Take up what all runs together have spent and set aside."""
    caps, budget = context.settings.shared_caps, context.budget
    if caps is None:
        return
    for scope, _, spent_pusd, period in spent.under(caps):
        warn_budget(context, budget.restate(scope, spent_pusd, period=period))
    budget.note_others(spent.elsewhere_pusd, at_work=any(map(context.is_at_work, spent.holders)))


def warn_budget(context: Context, crossed: Iterable[Crossed]) -> None:
    """Tell of thresholds, once each, and show how full the fullest cap is."""
    context.progress.budget_used = context.budget.fullest
    for each in crossed:
        spent, cap = format_usd(each.committed_pusd), format_usd(each.limit_pusd)
        message = f"{each.percent} % of the {each.scope}'s budget is used: {spent} of {cap} dollars"
        context.observe(Warned(code="budget", message=message))


def record_failure(context: Context, circuit: CircuitBreaker, sent_at: float, code: str, *, again: bool) -> None:
    """Tell a circuit of a failure that is the provider's, and the user when the first of them opens."""
    now, flow = context.clock.now(), context.flow
    circuit.failed(now, sent_at, code, again=again)
    if circuit.is_open and flow.outage_since is None:
        flow.outage_since = now
        context.observe(OutageBegan(reason=code))


def record_success(context: Context, circuit: CircuitBreaker, sent_at: float) -> None:
    """Tell a circuit of an answer, and the user when that closes the last of them."""
    flow = context.flow
    circuit.succeeded(sent_at)
    if flow.outage_since is None:
        return
    circuits = (context.create_circuit, context.response_circuit, context.poll_circuit)
    if not any(each.is_open for each in circuits):
        context.observe(OutageEnded(lasted_s=context.clock.now() - flow.outage_since))
        flow.outage_since = None
