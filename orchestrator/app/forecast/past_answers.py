"""What the answers of earlier runs took that asked the same of each row, or the same at one stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.core import exact_json
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import MAIN_STAGE, PastUse
from orchestrator.job.spec import Job
from orchestrator.stores.base import Reader
from orchestrator.stores.reads import Run

__all__ = ["Past", "find_past"]

_PAST_RUNS = 3
_PAST_REQUESTS = 10_000
# What decides the answers: earlier runs whose requests differ in anything else are like this one.
_INDIFFERENT = frozenset(
    {
        "background",
        "background_options",
        "metadata",
        "model",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)


@fast_dataclass(kw_only=False)
class Past:
    """What earlier requests took, in which runs, and of which model if it is another one."""

    use: PastUse = PastUse()
    runs: tuple[str, ...] = ()
    model: str | None = None


async def find_past(job: Job, reader: Reader | None, *, stage: str = MAIN_STAGE, run: str | None = None) -> Past:
    """What requests took that were like these; of the same model if there are any. With ``run`` only that one."""
    if reader is None:
        return Past()
    wanted = _asking(job.model_dump(mode="json"), stage)
    if wanted is None:
        return Past()
    alike = [
        (each, asking["request"].get("model"))
        for each in await reader.runs()
        if each.job == job.name and (run is None or each.name == run)
        for asking in (_asking(exact_json.loads(each.spec_json), stage),)
        if asking is not None and _answers_alike(asking, wanted)
    ]
    model = wanted["request"].get("model")
    same = await _use(reader, [each for each, its_model in alike if its_model == model], stage)
    if same.use.requests or not alike:
        return same
    others: dict[str | None, list[Run]] = {}
    for each, its_model in alike:
        others.setdefault(its_model, []).append(each)
    for its_model, runs in others.items():
        found = await _use(reader, runs, stage)
        if found.use.requests:
            return Past(found.use, found.runs, its_model)
    return Past()


def _asking(spec: Mapping[str, Any], stage: str) -> Mapping[str, Any] | None:
    """The part of a stored job that asks: the job itself, or one of its stages; None if it has no such stage."""
    stages = spec.get("stages")
    if not stages:
        return spec if stage == MAIN_STAGE else None
    asking: Mapping[str, Any] | None = stages.get(stage)
    return asking if asking and asking.get("request") else None


async def _use(reader: Reader, runs: Sequence[Run], stage: str) -> Past:
    use, names = PastUse(), list[str]()
    for run in runs:
        one = await reader.past_use(run.id, stage=stage, most=_PAST_REQUESTS)
        if one.requests:
            use += one
            names.append(run.name)
        if len(names) == _PAST_RUNS:
            break
    return Past(use, tuple(names))


def _answers_alike(spec: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two jobs ask the same of each row, so that answers are about as long."""
    return (
        _deciding(spec["request"]) == _deciding(wanted["request"])
        and spec["on_incomplete"] == wanted["on_incomplete"]
    )


def _deciding(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in _INDIFFERENT}
