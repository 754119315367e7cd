"""The stages of a job as a picture: text for a terminal, Mermaid for a page, an object for scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import MAIN_STAGE
from orchestrator.job.spec import Job
from orchestrator.job.stages.pipeline import INPUT
from orchestrator.job.stages.stage_section import AtMost, StageSection
from orchestrator.report import formatting

__all__ = ["diagram_mermaid", "diagram_object", "diagram_text"]

# Words that end or begin something in Mermaid; as the name of a node they break the picture.
_RESERVED = frozenset({"call", "class", "click", "default", "end", "flowchart", "graph", "href", "style", "subgraph"})
_LONGEST = 40


@fast_dataclass(kw_only=False)
class _Node:
    """A stage: where its rows come from, how they are made, and what is asked of each of them."""

    name: str
    source: str
    makes: str
    asks: str
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """All of it in one line."""
        asks = f"asks {self.asks}" if self.asks else ""
        return "; ".join(filter(None, (self.makes, asks, *self.notes)))


def diagram_text(job: Job) -> str:
    """A tree: each stage under the one whose rows it takes."""
    nodes = _nodes(job)
    lines = [(INPUT, job.input.path)]
    lines += _branches(INPUT, nodes, "")
    width = max(len(name) for name, _ in lines)
    return "\n".join([job.name, *(f"  {name:<{width}}  {words}".rstrip() for name, words in lines)])


def _branches(source: str, nodes: Sequence[_Node], indent: str) -> Iterator[tuple[str, str]]:
    found = [node for node in nodes if node.source == source]
    for node in found:
        is_last = node is found[-1]
        yield f"{indent}{'└─' if is_last else '├─'} {node.name}", node.words
        yield from _branches(node.name, nodes, f"{indent}{'   ' if is_last else '│  '}")


def diagram_mermaid(job: Job) -> str:
    """A flowchart: boxes ask, rounded ones only make rows."""
    lines = ["flowchart LR", f"  {INPUT}[(input)]"]
    nodes = _nodes(job)
    for node in nodes:
        label = _quoted(f"{node.name}<br/>{node.asks}" if node.asks else node.name)
        lines.append(f"  {_id(node.name)}{f'[{label}]' if node.asks else f'([{label}])'}")
    for node in nodes:
        label = "; ".join(filter(None, (node.makes, *node.notes)))
        arrow = f"-->|{_quoted(label)}|" if label else "-->"
        lines.append(f"  {_id(node.source)} {arrow} {_id(node.name)}")
    return "\n".join(lines)


def diagram_object(job: Job) -> dict[str, Any]:
    """The stages in their order, for scripts."""
    return {
        "job": job.name,
        "stages": [
            {
                "name": node.name,
                "from": node.source,
                "makes": node.makes,
                "asks": node.asks,
                "notes": list(node.notes),
            }
            for node in _nodes(job)
        ],
    }


def _nodes(job: Job) -> list[_Node]:
    if job.stages is None:
        return [_Node(MAIN_STAGE, INPUT, "", _short(str(job.request.get("model", "the model of each row"))))]
    return [
        _Node(name, section.from_, _makes(section), _model(section), tuple(_notes(section)))
        for name, section in job.stages.items()
    ]


def _model(section: StageSection) -> str:
    return "" if section.request is None else _short(str(section.request.get("model", "")))


def _makes(section: StageSection) -> str:
    """How the rows of a stage are made."""
    also = section.group_by is not None or section.multiplies
    parts = [("where, then" if also else "where")] if section.where is not None else []
    if section.expand is not None:
        size = section.expand.max_tokens
        parts.append("expand list" if size is None else f"expand text by {formatting.count(size)} tokens")
    elif section.rows is not None:
        parts.append(f"rows by {section.rows.partition(':')[2]}")
    elif section.group_by is not None:
        columns = section.group_columns
        of = "parent" if columns is None else ", ".join(columns)
        parts.append(f"group by {of}" if of else "one group of all")
    return " ".join(parts)


def _notes(section: StageSection) -> Iterator[str]:
    if isinstance(section.missing, AtMost):
        yield f"may lack {section.missing.at_most} of its rows"
    elif section.missing == "any":
        yield "may lack rows"
    if section.max_input_tokens is not None:
        yield f"in parts above {formatting.count(section.max_input_tokens)} tokens"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _id(name: str) -> str:
    return f"{name}_" if name in _RESERVED else name


def _quoted(text: str) -> str:
    return f'"{text.replace(chr(34), "#quot;").replace("|", "#124;")}"'
