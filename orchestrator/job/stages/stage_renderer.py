"""The requests of one stage: rows of which none can be made, and those that merge the answers of parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core.errors import BadRow
from orchestrator.job.requests.local_files import LocalFiles, NamedFiles
from orchestrator.job.requests.renderer import PutFiles, Renderer
from orchestrator.job.spec import Job
from orchestrator.job.stages.expansion import FAILURE
from orchestrator.job.stages.groups import MERGES

__all__ = ["RowOfFailedStage", "StageRenderer"]


class RowOfFailedStage(BadRow):
    """A stage could not make this row, so there is nothing to ask."""

    code = "stage_failed"


class StageRenderer(Renderer):
    """Fills in the request of a stage; ``merging`` is the stage's job with the fields for merging answers."""

    def __init__(
        self,
        job: Job,
        merging: Job | None = None,
        *,
        may_be_unstored: bool = False,
        files: LocalFiles | NamedFiles | None = None,
    ) -> None:
        super().__init__(job, may_be_unstored=may_be_unstored, files=files)
        self._merging = Renderer(merging, may_be_unstored=may_be_unstored) if merging is not None else None

    def _fields(self, data: Mapping[str, Any], where: str, put_files: PutFiles) -> dict[str, Any]:
        if FAILURE in data:
            raise RowOfFailedStage(data[FAILURE], where=where)
        if MERGES in data and self._merging is not None:
            return self._merging._fields(data, where, put_files)
        return super()._fields(data, where, put_files)
