"""Notices of the end of a run: composes them for the outbox, and delivers what is in it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Awaitable, Callable, Sequence

import orjson

from orchestrator.core.clock import Clock
from orchestrator.core.errors import ExitCode
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.money import format_usd
from orchestrator.core.states import SETTLED, RunState, State
from orchestrator.notify.delivery import Notice, deliver, ping_start
from orchestrator.notify.settings import Channel, NotifyRule
from orchestrator.report.exit_code import exit_code
from orchestrator.report.summary import summary_object
from orchestrator.stores.base import Store
from orchestrator.stores.notices import NewNotice, PendingNotice
from orchestrator.stores.reads import Summary

__all__ = ["Delivered", "JobEvent", "RunNotices", "event_of"]

# Three tries within ten seconds; what is left is delivered by the next run.
_PAUSES_S = (2.0, 6.0)
# No other process delivers the same notice meanwhile: three tries of at most five minutes each.
_TAKEN_FOR_S = 1_000.0


@fast_dataclass(kw_only=False)
class Delivered:
    """How a notice fared at one receiver; ``error`` is None if it was delivered."""

    receiver: str
    error: str | None


@fast_dataclass
class JobEvent:
    """Something that receivers are notified of that is no end of a run.

    ``says`` goes into the subject, ``next`` is the command to type. For what is the same in ``once`` each receiver is
    notified at most once.
    """

    event: str
    job: str
    run: str
    says: str
    next: str | None
    once: str


def event_of(summary: Summary) -> str | None:
    """The event that a run's end is; None if it has not ended."""
    match summary.run.state:
        case RunState.FINISHED:
            return "failed" if summary.requests.get(State.FAILED, 0) else "finished"
        case RunState.HALTED:
            return "halted"
        case RunState.CANCELLED:
            return "cancelled"
        case _:
            return None


class RunNotices:
    """The notices of one database's runs to the receivers of a config."""

    def __init__(self, rules: Sequence[NotifyRule], database: str, clock: Clock) -> None:
        self._rules = {rule.receiver: rule for rule in rules}
        self._database = database
        self._clock = clock

    async def announce_start(self, run_uid: str) -> None:
        """Let checks measure how long the run takes, and notice if it never ends."""
        for rule in self._rules.values():
            if rule.channel is Channel.PING:
                await ping_start(rule, run_uid)

    def of_end(self, summary: Summary, *, may_be_empty: bool) -> list[NewNotice]:
        """The notices of a run's end, for the transaction that ends it."""
        event = event_of(summary)
        if event is None:
            return []
        code = exit_code(summary, None, may_be_empty=may_be_empty)
        now, run = self._clock.now(), summary.run
        return [
            NewNotice(
                message_id=_message_id(run.uid, event, rule, now),
                run_id=run.id,
                event=event,
                cause=run.reason or "",
                receiver=receiver,
                payload=self._payload(summary, event, code),
                created_at=now,
            )
            for receiver, rule in self._rules.items()
            if rule.wants(event)
        ]

    async def announce(
        self,
        about: JobEvent,
        store: Callable[[], Awaitable[Store]],
        *,
        summary: Summary | None = None,
        deliver: bool = True,
    ) -> list[Delivered]:
        """Add the notices of an event that is no end of a run, and ``deliver`` what is pending."""
        now, wanted = self._clock.now(), {}
        for receiver, rule in self._rules.items():
            informed = summary is not None and (end := event_of(summary)) is not None and rule.wants(end)
            if rule.channel is not Channel.PING and rule.wants(about.event) and not informed:
                wanted[receiver] = _message_id(about.once, about.event, rule, 0.0)
        if not wanted:
            return []
        payload = self._job_payload(about, summary)
        outbox = await store()
        await outbox.add_notices(
            [
                NewNotice(
                    message_id=message_id,
                    run_id=None if summary is None else summary.run.id,
                    event=about.event,
                    cause=about.once,
                    receiver=receiver,
                    payload=payload,
                    created_at=now,
                )
                for receiver, message_id in wanted.items()
            ]
        )
        return await self.deliver_pending(outbox) if deliver else []

    async def deliver_pending(self, store: Store) -> list[Delivered]:
        """Deliver what is in the outbox, each notice up to three times; returns those that were given up for now."""
        if not self._rules:
            return []
        taken = await store.take_notices([*self._rules], at=self._clock.now(), for_s=_TAKEN_FOR_S)
        failed: list[Delivered] = []
        for pending in taken:
            rule = self._rules[pending.receiver]
            error = await self._try(rule, pending)
            delivered = error is None
            await store.note_delivery(pending.message_id, delivered=delivered, error=error, at=self._clock.now())
            if error is not None:
                failed.append(Delivered(rule.title, error))
        return failed

    async def _try(self, rule: NotifyRule, pending: PendingNotice) -> str | None:
        notice = _notice(pending, self._database)
        error = await deliver(rule, notice, now=self._clock.now())
        for pause_s in _PAUSES_S:
            if error is None:
                break
            await self._clock.sleep_until(self._clock.now() + pause_s)
            error = await deliver(rule, notice, now=self._clock.now())
        return error

    async def test(self) -> list[Delivered]:
        """Send each receiver a notice of a run that never was."""
        at = self._clock.now()
        body = orjson.dumps({"event": "test", "run": "test", "subject": "orchestrator: a test", "host": _host()})
        tried = []
        for rule in self._rules.values():
            notice = Notice(
                message_id=_message_id("test", "test", rule, at),
                event="test",
                run="test",
                run_uid="0" * 16,
                database=self._database,
                exit_code=ExitCode.OK,
                subject="orchestrator: a test",
                body=body,
            )
            tried.append(Delivered(rule.title, await deliver(rule, notice, now=at)))
        return tried

    def _payload(self, summary: Summary, event: str, code: ExitCode) -> bytes:
        """What receivers get: the object of ``run --json``, and what it means. It holds no text of the user's."""
        run = summary.run
        resumes = {"halted": f"orchestrator resume {run.name}", "failed": f"orchestrator retry {run.name}"}
        fields = {
            "event": event,
            "subject": _subject(summary, event),
            "host": _host(),
            "exit_code": int(code),
            "next": resumes.get(event),
            "run_uid": run.uid,
            **summary_object(summary, self._database),
        }
        return orjson.dumps(fields)

    def _job_payload(self, about: JobEvent, summary: Summary | None) -> bytes:
        fields = {
            "event": about.event,
            "subject": f"{about.run} {about.event}: {about.says}",
            "host": _host(),
            "exit_code": int(ExitCode.OK),
            "next": about.next,
            "run_uid": "" if summary is None else summary.run.uid,
            "run": about.run,
            "job": about.job,
            "database": self._database,
        }
        return orjson.dumps(fields if summary is None else {**summary_object(summary, self._database), **fields})


def _notice(pending: PendingNotice, database: str) -> Notice:
    fields = orjson.loads(pending.payload)
    return Notice(
        message_id=pending.message_id,
        event=pending.event,
        run=fields["run"],
        run_uid=fields["run_uid"],
        database=database,
        exit_code=fields["exit_code"],
        subject=fields["subject"],
        body=pending.payload,
    )


def _subject(summary: Summary, event: str) -> str:
    run, counts = summary.run, summary.requests
    settled, total = sum(counts.get(state, 0) for state in SETTLED), sum(counts.values())
    budget = "" if run.budget_pusd is None else f" of ${format_usd(run.budget_pusd)}"
    reason = f": {run.reason}" if run.reason and event == "halted" else ""
    failed = f", {counts.get(State.FAILED, 0):,} failed" if event == "failed" else ""
    return (
        f"{run.name} {event}{reason}, {settled:,} of {total:,} rows{failed}, ${format_usd(summary.cost_pusd)}{budget}"
    )


def _message_id(run_uid: str, event: str, rule: NotifyRule, at: float) -> str:
    digest = hashlib.blake2b(f"{run_uid} {event} {rule.receiver} {at:.6f}".encode(), digest_size=12)
    return f"msg_{digest.hexdigest()}"


def _host() -> str:
    return socket.gethostname()
