"""Every error of a provider that we tell apart: the first row that matches decides.

Each row answers three questions. Will it pass? (what to do) Was it sent? (what may have been is in doubt, and
never repeated blindly) Who else will hit it? (``reach``)
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.problems import Problem, Refused
from orchestrator.policy.errors.error_rules import Action, ErrorRule, Override, Phase, Reach, Reply
from orchestrator.policy.errors.refusals import CHECK_URL, NO_MONEY, REFUSALS

__all__ = ["ERROR_TABLE", "deciding_rule"]

_LOOK = frozenset({Phase.LOOK})
_FAILED = frozenset({Phase.FAILED})

_NOTHING_CAME: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="own-pool-full",
        came=frozenset({Reply.NO_CONNECTION}),
        action=Action.LATER,
        wait_s=0.5,
        why="Says nothing about the provider, and nothing was sent.",
    ),
    ErrorRule(
        name="never-sent",
        came=frozenset({Reply.NOTHING_SENT}),
        action=Action.OUTAGE,
        reach=Reach.ALL,
        code="connection_failed",
        why="Refused, DNS or TLS: nothing was sent, so nothing was spent, and no other request would get through.",
    ),
    ErrorRule(
        name="id-salvaged",
        came=frozenset({Reply.ONLY_ID}),
        action=Action.FOUND,
        why="The response exists and its id is known: it is followed, not sent again.",
    ),
    ErrorRule(
        name="unreadable-reply",
        came=frozenset({Reply.NOTHING}),
        http=("2xx",),
        action=Action.IN_DOUBT,
        reach=Reach.JOB,
        says="the provider answers with something that is not a response",
        hint=CHECK_URL,
        why="Accepted, it seems, but the body cannot be read; from a wrong address every reply looks like that.",
    ),
    ErrorRule(
        name="reply-lost",
        came=frozenset({Reply.NOTHING}),
        action=Action.IN_DOUBT,
        why="A read timeout or a dropped connection after the POST: it may run and cost money.",
    ),
    ErrorRule(
        name="look-own-pool-full",
        met=_LOOK,
        came=frozenset({Reply.NO_CONNECTION}),
        action=Action.RETRY,
        wait_s=0.5,
        why="Says nothing about the provider; the look is repeated.",
    ),
    ErrorRule(
        name="look-lost",
        met=_LOOK,
        came=frozenset({Reply.NOTHING_SENT, Reply.NOTHING, Reply.ONLY_ID}),
        action=Action.RETRY,
        reach=Reach.ALL,
        why="A look costs nothing and changes nothing; it is repeated.",
    ),
)

_LOOKS: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="look-missing",
        met=_LOOK,
        http=("404", "410"),
        action=Action.MISSING,
        why="A young response may not have arrived everywhere; one unknown for minutes has expired or was deleted.",
    ),
    ErrorRule(
        name="look-impossible",
        met=_LOOK,
        http=("405", "501"),
        action=Action.HALT,
        reach=Reach.ALL,
        says="the server cannot be asked for a response that it has accepted",
        hint="it does not do background responses; use one that does, or wait with this run",
        why="Every further request would be paid for and never seen.",
    ),
    ErrorRule(
        name="look-server-error",
        met=_LOOK,
        http=("5xx",),
        action=Action.RETRY,
        reach=Reach.ALL,
        why="A look costs nothing and changes nothing; it is repeated, and waves of it are an outage.",
    ),
    ErrorRule(
        name="look-refused",
        met=_LOOK,
        action=Action.RETRY,
        base_s=5.0,
        why="Not known; a result that is paid for is not given up before its deadline.",
    ),
)

_FAILURES: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="failed-server-error",
        met=_FAILED,
        names=frozenset({"server_error", "server_is_overloaded"}),
        action=Action.RETRY,
        reach=Reach.ALL,
        base_s=5.0,
        why="A new response may work; waves of it are an outage.",
    ),
    ErrorRule(
        name="failed-rate-limited",
        met=_FAILED,
        names=frozenset({"rate_limit_exceeded"}),
        action=Action.BOUNCE,
        reach=Reach.ALL,
        base_s=5.0,
        why="The limit was met when the response was started; it had an id, so the attempt is spent.",
    ),
    ErrorRule(
        name="failed-slow-down",
        met=_FAILED,
        names=frozenset({"slow_down"}),
        action=Action.SLOW_DOWN,
        reach=Reach.ALL,
        base_s=5.0,
        why="As a rate limit; the response had an id, so the attempt is spent.",
    ),
    ErrorRule(
        name="failed-vector-store",
        met=_FAILED,
        names=frozenset({"vector_store_timeout"}),
        action=Action.RETRY,
        base_s=5.0,
        why="A new response may find the vector store awake.",
    ),
    ErrorRule(
        name="failed-image-download",
        met=_FAILED,
        names=frozenset({"failed_to_download_image"}),
        action=Action.RETRY,
        most_attempts=2,
        base_s=5.0,
        why="The image's server may have had a bad moment: tried once more, not longer.",
    ),
    ErrorRule(
        name="failed-nameless",
        met=_FAILED,
        nameless=True,
        action=Action.RETRY,
        base_s=5.0,
        code="response_failed",
        why="The provider does not say why; another server's way to report a fault of its own.",
    ),
    ErrorRule(
        name="failed",
        met=_FAILED,
        action=Action.FAIL,
        why="Every other reason lies in the request and would come again.",
    ),
)

ERROR_TABLE = _NOTHING_CAME + REFUSALS + _LOOKS + _FAILURES


def deciding_rule(problem: Problem, met: Phase, overrides: Iterable[Override] = ()) -> ErrorRule:
    """The row that decides: the config's own first, but one reaches an error about money only by naming its code."""
    about_money = isinstance(problem, Refused) and (problem.code in NO_MONEY or problem.type in NO_MONEY)
    for override in overrides:
        rule = override.rule()
        if rule.matches(problem, met) and (override.code or not about_money):
            return rule
    return next(rule for rule in ERROR_TABLE if rule.matches(problem, met))
