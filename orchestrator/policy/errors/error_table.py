"""Every provider error that is handled in its own way: the first row that matches decides.

Each row answers three questions. Is it transient? (``action``) Was the request sent? (if it may have been, it is in
doubt and never repeated blindly) Which other requests will hit it? (``reach``)
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.problems import Problem, Refused
from orchestrator.policy.errors.error_rules import Action, ErrorRule, Override, Phase, Reach, ReplyKind
from orchestrator.policy.errors.refusals import CHECK_URL, NO_MONEY, REFUSALS

__all__ = ["ERROR_TABLE", "deciding_rule"]

_POLL = frozenset({Phase.POLL})
_FAILED = frozenset({Phase.FAILED})

_NO_REPLY: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="own-pool-full",
        replies=frozenset({ReplyKind.NO_CONNECTION}),
        action=Action.LATER,
        wait_s=0.5,
        why="Says nothing about the provider, and nothing was sent.",
    ),
    ErrorRule(
        name="never-sent",
        replies=frozenset({ReplyKind.NOTHING_SENT}),
        action=Action.OUTAGE,
        reach=Reach.ALL,
        code="connection_failed",
        why="Refused, DNS or TLS: nothing was sent, so nothing was spent, and no other request would get through.",
    ),
    ErrorRule(
        name="id-salvaged",
        replies=frozenset({ReplyKind.ONLY_ID}),
        action=Action.FOUND,
        why="The response exists and its id is known: it is polled, not sent again.",
    ),
    ErrorRule(
        name="unreadable",
        replies=frozenset({ReplyKind.UNREADABLE}),
        action=Action.FAIL,
        reach=Reach.JOB,
        code="unreadable_reply",
        says="the provider answers with something that is not a response",
        hint=CHECK_URL,
        why="The request was received and may be paid for; sent again, it may bring the same reply for more money.",
    ),
    ErrorRule(
        name="unreadable-reply",
        replies=frozenset({ReplyKind.NOTHING}),
        http=("2xx",),
        action=Action.IN_DOUBT,
        reach=Reach.JOB,
        says="the provider answers with something that is not a response",
        hint=CHECK_URL,
        why="A gateway's page or an empty body: it may be accepted, without a known id; a wrong address replies so.",
    ),
    ErrorRule(
        name="reply-lost",
        replies=frozenset({ReplyKind.NOTHING}),
        action=Action.IN_DOUBT,
        why="A read timeout or a dropped connection after the POST: it may run and cost money.",
    ),
    ErrorRule(
        name="poll-own-pool-full",
        phases=_POLL,
        replies=frozenset({ReplyKind.NO_CONNECTION}),
        action=Action.RETRY,
        wait_s=0.5,
        why="Says nothing about the provider; the poll is repeated.",
    ),
    ErrorRule(
        name="poll-unreadable",
        phases=_POLL,
        replies=frozenset({ReplyKind.UNREADABLE}),
        action=Action.UNREADABLE,
        code="unreadable_reply",
        why="The answer is paid for, and the next polls may bring it whole; another attempt would cost again.",
    ),
    ErrorRule(
        name="poll-lost",
        phases=_POLL,
        replies=frozenset({ReplyKind.NOTHING_SENT, ReplyKind.NOTHING, ReplyKind.ONLY_ID}),
        action=Action.RETRY,
        reach=Reach.ALL,
        why="A poll costs nothing and changes nothing; it is repeated.",
    ),
)

_POLLS: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="poll-missing",
        phases=_POLL,
        http=("404", "410"),
        action=Action.MISSING,
        why="A new response may not be replicated yet; one unknown for minutes has expired or was deleted.",
    ),
    ErrorRule(
        name="poll-impossible",
        phases=_POLL,
        http=("405", "501"),
        action=Action.HALT,
        reach=Reach.ALL,
        says="the server has no call to fetch a response that it has accepted",
        hint="it does not support background responses; use a server that does, or resume this run later",
        why="Every further request would be paid for and its answer never fetched.",
    ),
    ErrorRule(
        name="poll-server-error",
        phases=_POLL,
        http=("5xx",),
        action=Action.RETRY,
        reach=Reach.ALL,
        why="A poll costs nothing and changes nothing; it is repeated, and many in a row are an outage.",
    ),
    ErrorRule(
        name="poll-refused",
        phases=_POLL,
        action=Action.RETRY,
        base_s=5.0,
        why="Unknown error; a result that is paid for is not given up before its deadline.",
    ),
)

_FAILURES: tuple[ErrorRule, ...] = (
    ErrorRule(
        name="failed-server-error",
        phases=_FAILED,
        names=frozenset({"server_error", "server_is_overloaded"}),
        action=Action.RETRY,
        reach=Reach.ALL,
        base_s=5.0,
        why="A new response may work; many in a row are an outage.",
    ),
    ErrorRule(
        name="failed-rate-limited",
        phases=_FAILED,
        names=frozenset({"rate_limit_exceeded"}),
        action=Action.RATE_LIMITED,
        reach=Reach.ALL,
        base_s=5.0,
        why="The limit was hit when the response started; it had an id, so the attempt is spent.",
    ),
    ErrorRule(
        name="failed-slow-down",
        phases=_FAILED,
        names=frozenset({"slow_down"}),
        action=Action.SLOW_DOWN,
        reach=Reach.ALL,
        base_s=5.0,
        why="Like a rate limit; the response had an id, so the attempt is spent.",
    ),
    ErrorRule(
        name="failed-vector-store",
        phases=_FAILED,
        names=frozenset({"vector_store_timeout"}),
        action=Action.RETRY,
        base_s=5.0,
        why="The vector store may be ready for a new response.",
    ),
    ErrorRule(
        name="failed-image-download",
        phases=_FAILED,
        names=frozenset({"failed_to_download_image"}),
        action=Action.RETRY,
        most_attempts=2,
        base_s=5.0,
        why="The fault of the image's server may be transient: retried once, not more often.",
    ),
    ErrorRule(
        name="failed-nameless",
        phases=_FAILED,
        nameless=True,
        action=Action.RETRY,
        base_s=5.0,
        code="response_failed",
        why="The provider gives no reason; some servers report their own faults like this.",
    ),
    ErrorRule(
        name="failed",
        phases=_FAILED,
        action=Action.FAIL,
        why="Every other reason lies in the request and would recur.",
    ),
)

ERROR_TABLE = _NO_REPLY + REFUSALS + _POLLS + _FAILURES


def deciding_rule(problem: Problem, phase: Phase, overrides: Iterable[Override] = ()) -> ErrorRule:
    """Returns the row that decides: overrides come first, but apply to a lack of money only if they name its code."""
    about_money = isinstance(problem, Refused) and (problem.code in NO_MONEY or problem.type in NO_MONEY)
    for override in overrides:
        rule = override.rule()
        if rule.matches(problem, phase) and (override.code or not about_money):
            return rule
    return next(rule for rule in ERROR_TABLE if rule.matches(problem, phase))
