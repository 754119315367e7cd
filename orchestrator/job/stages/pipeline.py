"""The stages of a job: their order, which columns each needs, and what is wrong with them before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.job.documents.validation_problems import ValidationProblem, did_you_mean
from orchestrator.job.result_file import Included, kept_columns
from orchestrator.job.stages.packing import tree_can_end
from orchestrator.job.stages.read_columns import ROWS, columns_read, member_columns, texts_of
from orchestrator.job.stages.stage_section import StageSection
from orchestrator.policy.pricing.tokens import count_tokens

__all__ = ["INPUT", "MISSING", "Columns", "StagePlan", "stage_plans", "stage_problems", "stages_lost_from"]

INPUT = "input"
MISSING = "missing"
_RESERVED = frozenset({INPUT, ROWS, "row", MISSING, "main", "parent", "run"})
_MADE = {
    "text": frozenset({"part", "part_number", "part_count"}),
    "list": frozenset({"item", "item_number", "item_count"}),
}

# Columns by name; None: all of them.
Columns = frozenset[str] | None


@dataclass(slots=True, kw_only=True)
class StagePlan:
    """One stage, with its place in the pipeline.

    ``source`` is the stage with a request (or the input) whose rows it is made of, through stages without one.
    ``columns`` are those that a row of it keeps. ``by_parent_at_once`` says that the rows of each of its groups are
    made together, so that a group is complete as soon as they are settled.
    """

    name: str
    section: StageSection
    consumers: list[StagePlan] = field(default_factory=list)
    source: str = INPUT
    columns: Columns = frozenset()
    members: Columns = frozenset()
    by_parent_at_once: bool = False
    makes_several: bool = False

    @property
    def passes_on(self) -> bool:
        """Whether something is made of its settled rows one by one."""
        return any(not each.by_parent_at_once for each in self.consumers)


def stages_lost_from(plans: Mapping[str, StagePlan], plan: StagePlan) -> list[str]:
    """The stages whose failed rows a group by column may lack: back to the input, or to the groups before it."""
    if plan.section.group_columns is None:
        return []
    found = [plan.section.from_]
    while plans[found[-1]].section.group_by is None and plans[found[-1]].source != INPUT:
        found.append(plans[found[-1]].source)
    return found


def stage_plans(stages: Mapping[str, StageSection], included: Included = "none") -> dict[str, StagePlan]:
    """The plan of each stage, in the order of the job; ``included`` are columns that its results are written with."""
    plans = {name: StagePlan(name=name, section=section) for name, section in stages.items()}
    for plan in plans.values():
        plan.makes_several = _multiplies_at_once(plan, plans)
        before = plans.get(plan.section.from_)
        if before is None:
            continue
        before.consumers.append(plan)
        plan.source = before.name if before.section.request is not None else before.source
        plan.by_parent_at_once = plan.section.group_by == "parent" and before.makes_several
    for plan in reversed(plans.values()):
        after = _union(_read_by(each) for each in plan.consumers)
        own = _union([columns_read(texts_of([plan.section.request, plan.section.merge])), after])
        plan.columns = kept_columns(None if own is None else own - {plan.name, ROWS, MISSING}, included)
        if plan.section.group_by is not None:
            plan.members = _union(member_columns(text) for text in texts_of(plan.section.request))
    return plans


def _multiplies_at_once(plan: StagePlan, plans: Mapping[str, StagePlan]) -> bool:
    if plan.section.multiplies:
        return True
    before = plans.get(plan.section.from_)
    return before is not None and before.section.request is None and _multiplies_at_once(before, plans)


def _read_by(plan: StagePlan) -> Columns:
    """The columns that a stage reads of the rows that come to it, for itself and for the stages after it."""
    section = plan.section
    if section.rows is not None:
        return None
    expanded = section.expand
    made = _MADE["text" if expanded.text is not None else "list"] if expanded is not None else frozenset[str]()
    kept = None if plan.columns is None else plan.columns - made
    read = columns_read(texts_of([section.where, expanded.text, expanded.list] if expanded else [section.where]))
    return _union([kept, read, plan.members, frozenset(section.group_columns or ())])


def _union(every: Iterable[Columns]) -> Columns:
    found = set[str]()
    for columns in every:
        if columns is None:
            return None
        found |= columns
    return frozenset(found)


# ── what is wrong ─────────────────────────────────────────────────────────────────────────────────────────────


def stage_problems(stages: Mapping[str, StageSection]) -> Iterator[ValidationProblem]:
    """What is wrong with the stages and how they follow on each other."""
    before: dict[str, StageSection] = {}
    for name, section in stages.items():
        if name in _RESERVED or not name.isidentifier():
            hint = "small letters, digits and underscores"
            yield ValidationProblem(("stages", name), "is no name for a stage", hint)
        for path, message, advice in _of_stage(section, before):
            yield ValidationProblem(("stages", name, *path), message, advice)
        before[name] = section
    read = {section.from_ for section in stages.values()}
    for name, section in stages.items():
        if section.request is None and name not in read:
            yield ValidationProblem(("stages", name), "has no request, and no stage reads it", "give it a request")


def _of_stage(
    section: StageSection, before: Mapping[str, StageSection]
) -> Iterator[tuple[tuple[str, ...], str, str | None]]:
    if section.from_ != INPUT and section.from_ not in before:
        near = did_you_mean(section.from_, [INPUT, *before])
        yield ("from",), "names neither input nor a stage before this one", near
        return
    verbs = [verb for verb in ("expand", "rows", "group_by") if getattr(section, verb) is not None]
    if len(verbs) > 1:
        yield (verbs[1],), f"cannot stand beside {verbs[0]}", "make two stages of it"
    if section.group_by is None:
        for needs_group in ("max_input_tokens", "merge"):
            if getattr(section, needs_group) is not None:
                yield (needs_group,), "is only for a stage with group_by", None
        return
    source = before.get(section.from_)
    if section.request is None:
        yield ("group_by",), "needs a request in the same stage", None
    elif source is None or source.request is None:
        yield ("group_by",), f"needs rows of a stage with a request, and {section.from_} has none", None
    elif section.group_by == "parent" and not _has_parent(section, before):
        yield ("group_by",), "finds no stage before it that makes several rows of one", "expand a text or a list"
    else:
        yield from _of_tree(section)
    if section.prompt_cache is not None and section.prompt_cache.warm:
        yield ("prompt_cache", "warm"), "is not possible in a stage", None


def _has_parent(section: StageSection, before: Mapping[str, StageSection]) -> bool:
    source = before.get(section.from_)
    while source is not None:
        if source.multiplies:
            return True
        if source.group_by is not None:
            return False
        source = before.get(source.from_)
    return False


def _of_tree(section: StageSection) -> Iterator[tuple[tuple[str, ...], str, str | None]]:
    """A tree of partial answers must come to an end, whatever the model answers."""
    limit = section.max_input_tokens
    if limit is None:
        return
    request, raised = section.request or {}, section.on_incomplete
    answer = request.get("max_output_tokens")
    if not isinstance(raised, str):
        answer = raised.raise_max_output_tokens_to
    if not isinstance(answer, int):
        yield ("max_input_tokens",), "needs request.max_output_tokens, so that a tree of answers ends", None
        return
    if section.merge is None:
        yield ("max_input_tokens",), "needs merge, which says how the answers of parts become one", None
        return
    template = sum(count_tokens(text) for text in texts_of({**request, **section.merge}))
    if not tree_can_end(answer_tokens=answer, template_tokens=template, at_most=limit):
        least = 2 * answer + template
        yield (
            ("max_input_tokens",),
            f"must be at least {least:,} for two answers of {answer:,} tokens and a template of {template:,}",
            "raise it, or lower max_output_tokens",
        )
