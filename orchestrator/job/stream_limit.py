"""The job's ``stream: true``: for a few long tasks, and never in bulk."""

from __future__ import annotations

from itertools import islice

from orchestrator.core.errors import SpecError
from orchestrator.job.rows.keyed_rows import open_rows
from orchestrator.job.rows.sources import STDIN
from orchestrator.job.spec import Job

__all__ = ["MOST_STREAMED_ROWS", "MOST_STREAMS", "refuse_bulk"]

# Each streamed response holds a connection and a task of its own for as long as it runs.
MOST_STREAMS = 16
MOST_STREAMED_ROWS = 200


def refuse_bulk(job: Job) -> None:
    """Raise ``SpecError`` if a job with ``stream: true`` has more rows than that is meant for.

    In bulk, streams gain nothing, and a client that goes at the wrong moment can leave its response queued for good
    (responses API, trouble T1).
    """
    if not job.stream:
        return
    where = f"{job.source}: stream" if job.source is not None else None
    if job.input.path == STDIN and (job.input.limit is None or job.input.limit > MOST_STREAMED_ROWS):
        raise SpecError(
            "stream is for a few long tasks, and the number of rows on standard input is unknown",
            where=where,
            hint=f"set input.limit to at most {MOST_STREAMED_ROWS}, or remove stream",
        )
    if next(islice(open_rows(job), MOST_STREAMED_ROWS, None), None) is not None:
        raise SpecError(
            f"stream is for a few long tasks, and the input has more than {MOST_STREAMED_ROWS} rows",
            where=where,
            hint="remove stream: the results are the same, and polling finds them as soon",
        )
