"""Endpoints that refuse everything, or one model: each is left alone for a time, as long as others are left."""

from __future__ import annotations

from orchestrator.engine.items import Halted
from orchestrator.engine.run_context import RunContext
from orchestrator.engine.run_endpoints import Closed, RunEndpoint
from orchestrator.policy.endpoint_choice import closed_for_s

__all__ = ["close", "close_model", "halt_without_polls", "reopen"]

# An endpoint that refuses polls is asked again after so long.
_POLLED_AGAIN_S = 30.0


def close(run: RunContext, place: int, halted: Halted) -> Halted | None:
    """Leave an endpoint alone for a time; returns why the run halts if no other is left."""
    if len(run.endpoints) == 1:
        return halted
    endpoint, now = run.endpoints[place], run.clock.now()
    first = endpoint.closed is None
    endpoint.closed = _closed(endpoint.closed, halted, now)
    sending = [each for each in run.endpoints if each.weight]
    if all(each.closed is not None for each in sending):
        return _none_left(sending)
    if first:
        message = f"endpoint {endpoint.name}: {halted.message}; the others continue, and it is tried again later"
        run.observation.warn("endpoint_closed", message)
    run.status.send_signal.set()
    return None


def close_model(run: RunContext, place: int, model: str, halted: Halted) -> bool:
    """Send an endpoint no requests to a model for a time; False if no other one is left for them."""
    endpoint, now = run.endpoints[place], run.clock.now()
    first = model not in endpoint.closed_models
    endpoint.closed_models[model] = _closed(endpoint.closed_models.get(model), halted, now)
    left = [each for each in run.endpoints if each.weight and each.closed is None and model not in each.closed_models]
    if left and first:
        message = f"endpoint {endpoint.name} does not have {model}; the others answer its requests"
        run.observation.warn("endpoint_closed", message)
    return bool(left)


def reopen(run: RunContext, endpoint: RunEndpoint, model: str, sent_at: float) -> None:
    """The endpoint has accepted a request; one that was sent before it was closed says nothing."""
    if endpoint.closed is not None and sent_at >= endpoint.closed.at:
        endpoint.closed = None
        run.observation.warn("endpoint_opened", f"endpoint {endpoint.name} takes requests again")
    closed = endpoint.closed_models.get(model)
    if closed is not None and sent_at >= closed.at:
        del endpoint.closed_models[model]


def halt_without_polls(run: RunContext, place: int, halted: Halted) -> Halted | float:
    """An endpoint refuses polls: when to poll again, or why the run halts because nothing else is left to do."""
    endpoint, status = run.endpoints[place], run.status
    if len(run.endpoints) == 1:
        return halted
    endpoint.polls_refused = True
    elsewhere = any(
        run.in_flight_at(other)
        for other, each in enumerate(run.endpoints)
        if other != place and not each.polls_refused
    )
    if elsewhere or (status.may_send and not status.only_polls):
        return run.clock.now() + _POLLED_AGAIN_S
    return Halted(halted.code, f"endpoint {endpoint.name}: {halted.message}", collect=False)


def _closed(before: Closed | None, halted: Halted, now: float) -> Closed:
    if before is not None and now < before.until:
        return before  # it was on its way when the endpoint was closed
    times = 1 if before is None else before.times + 1
    return Closed(halted, at=now, until=now + closed_for_s(times), times=times)


def _none_left(endpoints: list[RunEndpoint]) -> Halted:
    reasons = {each.name or "": each.closed.reason for each in endpoints if each.closed is not None}
    codes = {reason.code for reason in reasons.values()}
    message = "no endpoint is left: " + "; ".join(f"{name}: {reason.message}" for name, reason in reasons.items())
    collect = any(reason.collect for reason in reasons.values())
    return Halted(codes.pop() if len(codes) == 1 else "no_endpoint", message, collect=collect)
