"""The steps: each does one thing, writes it down, and may be repeated safely.

Intent is on disk before a POST, the response id before anything else is done with it, and the result, the charge and
the new state go in one transaction. An engine decides only when to call a step.
"""

from orchestrator.engine.steps.act import act
from orchestrator.engine.steps.context import Context, see_spending
from orchestrator.engine.steps.look import look
from orchestrator.engine.steps.reckon import reckon
from orchestrator.engine.steps.recover import recover
from orchestrator.engine.steps.refuse import refuse
from orchestrator.engine.steps.submit import submit

__all__ = ["Context", "act", "look", "reckon", "recover", "refuse", "see_spending", "submit"]
