"""Shows the request of one row as it was sent, and the input items that the provider keeps of it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from anyio import to_thread

from orchestrator.app.connections import address, endpoint_config, limits_of, open_client
from orchestrator.config import Config
from orchestrator.core import exact_json
from orchestrator.core.errors import BadRow, OrchestratorError, ProviderUnreachable, UsageError
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.lanes import Lane, first_lane, in_background
from orchestrator.core.problems import Problem, Refused
from orchestrator.core.states import State
from orchestrator.engine.lane_notes import lane_notes
from orchestrator.executors.background import create_body
from orchestrator.job.requests.compose import compose, request_rules
from orchestrator.job.requests.lane_fields import in_lane
from orchestrator.job.requests.local_files import FileToUpload, NamedFiles, UnchangedFiles, uploads_in
from orchestrator.job.requests.renderer import Renderer, contained
from orchestrator.job.requests.turns import MOST_TURNS
from orchestrator.job.spec import Job
from orchestrator.job.stages.stage_jobs import renderer_of, stage_job
from orchestrator.policy.rate_limits.limits import LearnedLimits, learned_limits
from orchestrator.provider.client import CallFailed
from orchestrator.stores.base import LearnedReader, Reader, Store
from orchestrator.stores.reads import EarlierTurn, RequestRecord, Run
from orchestrator.stores.request_history import RequestHistory

__all__ = [
    "SendingNote",
    "input_items",
    "limits_learned",
    "name_of_notes",
    "note_sending",
    "request_sent",
    "sending_note",
    "to_user_error",
]


@fast_dataclass
class SendingNote:
    """What the requests of a run depend on in addition to its job and rows, from a given time on."""

    since: float
    # Of the provider. None in the notes of older versions.
    address: str | None = None
    cap_output_tokens: int | None = None
    # The folder of the files that rows name, as an absolute path; None if rows name none.
    files_folder: str | None = None


def sending_note(job: Job, config: Config, renderer: Renderer, *, now: float) -> SendingNote:
    """The note of a run that starts or resumes now."""
    folder = str(job.files_folder.resolve()) if renderer.names_files else None
    return SendingNote(
        since=now,
        address=address(config),
        cap_output_tokens=config.output_cap(job.budget_pusd),
        files_folder=folder,
    )


async def note_sending(store: Store, reader: Reader, run: Run, note: SendingNote) -> None:
    """Keep a note for ``request_sent``, if it says anything else than the run's latest note."""
    notes = await _notes(reader, run)
    latest = notes[-1] if notes else SendingNote(since=0.0)
    if replace(latest, since=note.since) != note:
        await store.remember(name_of_notes(run), orjson.dumps([*notes, note]))


async def limits_learned(reader: LearnedReader, run: Run) -> Mapping[str, LearnedLimits]:
    """Returns the limits by model that runs at the provider of this run have learned; the latest are kept."""
    notes = await _notes(reader, run)
    at = notes[-1].address if notes else None
    snapshot = await reader.recall(limits_of(at)) if at is not None else None
    return learned_limits(snapshot) if snapshot is not None else {}


async def request_sent(reader: Reader, run: Run, history: RequestHistory) -> dict[str, Any] | None:
    """Returns the body of a row's latest create call, composed again from the row and the job as they were stored.

    For a row that waits to be sent it is the body that comes next. None if the row makes no request, or its data was
    dropped. A file that has changed since, or is not on this machine, is only named.
    """
    request = history.request
    if not request.row:
        return None
    job = Job.model_validate_json(run.spec_json)
    number, sent_at = _latest_call(history)
    lane = await _lane(reader, run, job, history)
    note = await _note_at(reader, run, sent_at)
    earlier = await _earlier_turns(reader, job, request)
    try:
        with contained(request.where):
            fields = await to_thread.run_sync(_composed, job, note, request, earlier, sent_at)
            body = create_body(
                in_lane(fields, lane),
                run_uid=run.uid,
                key=request.key,
                number=number,
                stage=request.stage,
                background=in_background(lane),
            )
    except BadRow:
        return None
    for upload in set(uploads_in(fields)):
        body = body.replace(orjson.dumps(upload), orjson.dumps(await _file_id(reader, run, upload)))
    sent: dict[str, Any] = exact_json.loads(body)
    return sent


def _latest_call(history: RequestHistory) -> tuple[int, float]:
    """Returns the number of the latest attempt and when it was sent; infinity for one that is still to be sent."""
    latest = history.attempts[-1] if history.attempts else None
    if latest is None or history.request.state in (State.PENDING, State.BLOCKED):
        return (latest.number if latest is not None else 0) + 1, math.inf
    return latest.number, latest.sent_at


async def _lane(reader: Reader, run: Run, job: Job, history: RequestHistory) -> Lane:
    """Returns the lane of a row's latest create call, or of the one that comes next."""
    if history.attempts and history.request.state not in (State.PENDING, State.BLOCKED):
        return history.attempts[-1].lane
    notes = await lane_notes(reader, run.id)
    stage = history.request.stage
    return next(
        (note.lane for note in reversed(notes) if note.stage == stage), first_lane(stage_job(job, stage).lane)
    )


async def _earlier_turns(reader: Reader, job: Job, request: RequestRecord) -> list[EarlierTurn]:
    if job.chain is None or job.chain.mode != "stateless" or request.follows is None:
        return []
    return await reader.earlier_turns(request.id, limit=MOST_TURNS)


def _composed(
    job: Job, note: SendingNote, request: RequestRecord, earlier: Sequence[EarlierTurn], sent_at: float
) -> dict[str, Any]:
    files = NamedFiles() if note.files_folder is None else UnchangedFiles(Path(note.files_folder), since=sent_at)
    if job.stages is None:
        renderer = Renderer(job, may_be_unstored=True, files=files)
    else:
        renderer = renderer_of(job, request.stage, may_be_unstored=True, files=files)
        job = stage_job(job, request.stage)
    history = [(renderer.render(turn.row, where=turn.where).get("input"), turn.output_text) for turn in earlier]
    return compose(
        renderer.render(request.row, where=request.where),
        request_rules(job, cap_output_tokens=note.cap_output_tokens),
        request,
        history=history,
        continuation=request.continuation if request.turn else None,
    )


def name_of_notes(run: Run) -> str:
    """The name under which the notes of a run are kept."""
    return f"sending:{run.id}"


async def _notes(reader: LearnedReader, run: Run) -> list[SendingNote]:
    kept = await reader.recall(name_of_notes(run))
    return [SendingNote(**note) for note in orjson.loads(kept)] if kept is not None else []


async def _note_at(reader: Reader, run: Run, at: float) -> SendingNote:
    notes = [note for note in await _notes(reader, run) if note.since <= at]
    return notes[-1] if notes else SendingNote(since=0.0)


async def _file_id(reader: Reader, run: Run, upload: FileToUpload) -> str:
    """Returns the id of an uploaded file, or its name if it was not uploaded with this content."""
    retained = await reader.retained(run.id)
    kept = await reader.upload(retained.provider, upload.sha256) if retained is not None else None
    return kept.file_id if kept is not None else f"(upload of {upload.name})"


async def input_items(config: Config, database: Path | None, history: RequestHistory) -> AsyncIterator[bytes]:
    """Yields the input items of the row's latest response, each as JSON, in order, as the provider keeps them."""
    latest = next((each for each in reversed(history.responses) if each.response_id), None)
    response_id = None if latest is None else latest.response_id
    if latest is None or response_id is None:
        raise UsageError(
            f"no response was created for {history.request.key!r} yet, so the provider has no input items of it"
        )
    async with open_client(endpoint_config(config, latest.endpoint), database) as client:
        try:
            async for item in client.input_items(response_id):
                yield item
        except CallFailed as failed:
            raise to_user_error(failed.problem, f"the input items of {response_id}") from None


def to_user_error(problem: Problem, what: str) -> OrchestratorError:
    """Returns the error for a user whose question the provider did not answer; ``what`` was asked for."""
    if not isinstance(problem, Refused):
        return ProviderUnreachable(
            f"{what} could not be fetched: {problem.reason}",
            hint="check provider.base_url and the network, then ask again",
        )
    reason = problem.message or problem.code or f"HTTP {problem.status}"
    if problem.status == 404:
        return UsageError(
            f"the provider no longer knows {what}: {reason}",
            hint="responses are deleted by a purge, and by the provider after some time",
        )
    if problem.status in (401, 403):
        return ProviderUnreachable(
            f"the provider refuses the key, so {what} could not be fetched", hint="give the --config of the run"
        )
    return ProviderUnreachable(
        f"{what} could not be fetched: {reason} (HTTP {problem.status})", hint="try again later"
    )
