"""The steps: each does one thing, writes it down, and may be repeated safely.

The intent is on disk before a POST, the response id before anything else is done with it, and result, charge and new
state go in one transaction. The tasks of the engine decide only when to call a step; each step returns an ``After``.
"""

from orchestrator.engine.steps.attach import Attach
from orchestrator.engine.steps.late_cost import settle_late_cost
from orchestrator.engine.steps.other_runs import OtherRuns
from orchestrator.engine.steps.poll import Poll
from orchestrator.engine.steps.recover import Recover
from orchestrator.engine.steps.refuse import refuse
from orchestrator.engine.steps.run_tools import RunTools
from orchestrator.engine.steps.settle import Settle
from orchestrator.engine.steps.submit import Submit

__all__ = ["Attach", "OtherRuns", "Poll", "Recover", "RunTools", "Settle", "Submit", "refuse", "settle_late_cost"]
