"""The steps: each does one thing, writes it down, and may be repeated safely.

Intent is on disk before a POST, the response id before anything else is done with it, and the result, the charge and
the new state go in one transaction. An engine decides only when to call a step.
"""

from orchestrator.engine.steps.context import Context, refresh_spending
from orchestrator.engine.steps.late_cost import settle_late_cost
from orchestrator.engine.steps.poll import poll
from orchestrator.engine.steps.recover import recover
from orchestrator.engine.steps.refuse import refuse
from orchestrator.engine.steps.run_tools import run_tools
from orchestrator.engine.steps.submit import submit

__all__ = ["Context", "poll", "recover", "refresh_spending", "refuse", "run_tools", "settle_late_cost", "submit"]
