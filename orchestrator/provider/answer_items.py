"""The output items of a response: its messages, its texts, and what it holds beside them.

Servers write messages in several shapes, which are all read: parts of the type ``output_text`` or ``text``, a text in
place of parts, an item that says its role and no type, one item in place of a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.provider.reply_json import read_json

__all__ = ["AnswerParts", "Item", "answer_parts", "has_image", "items_of", "refusal_of", "text_of"]

# An output item: a JSON object that says what type it is of.
Item: TypeAlias = Mapping[str, Any]

_TEXTS = frozenset({"output_text", "text"})
# Where a citation stands in the text of its part.
_PLACES = ("start_index", "end_index")
_ABOUT_AN_IMAGE = ("id", "status", "output_format", "size", "quality", "background", "revised_prompt")


def items_of(wire: Mapping[str, Any]) -> list[Item]:
    """The output items of a response that say what they are."""
    output = wire.get("output")
    if isinstance(output, dict):
        output = [output]
    if not isinstance(output, list):
        return []
    # What has a type, as nearly all items have, is taken as it is.
    items = [item if "type" in item else _typed(item) for item in output if isinstance(item, dict)]
    return [item for item in items if isinstance(item.get("type"), str)]


def _typed(item: Item) -> Item:
    return {**item, "type": "message"} if item.get("role") == "assistant" else item


def text_of(messages: Sequence[Item], wire: Mapping[str, Any]) -> str:
    """The text of all messages, or only of the final answers if some are marked as such.

    Where no message has a text or a refusal, the field that libraries add to a response counts.
    """
    text = "".join([part["text"] for part in _text_parts(_answering(messages))])
    if not text and isinstance(added := wire.get("output_text"), str) and refusal_of(messages) is None:
        return added
    return text


def refusal_of(messages: Sequence[Item]) -> str | None:
    """The words with which the model declined, or None."""
    said = (part.get("refusal") for part in _parts(messages) if part.get("type") == "refusal")
    return "".join(each for each in said if isinstance(each, str)) or None


def has_image(items: Iterable[Item]) -> bool:
    """Whether the response made a picture, which may be all of its answer."""
    return any(item["type"] == "image_generation_call" and _is_text(item.get("result")) for item in items)


def _answering(messages: Sequence[Item]) -> Sequence[Item]:
    return [message for message in messages if message.get("phase") == "final_answer"] or messages


def _parts(messages: Iterable[Item]) -> Iterator[Item]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, dict))
        elif isinstance(content, str):
            yield {"type": "text", "text": content}


def _text_parts(messages: Iterable[Item]) -> Iterator[Item]:
    for part in _parts(messages):
        kind = part.get("type")
        if isinstance(kind, str) and kind in _TEXTS and isinstance(part.get("text"), str):
            yield part


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


# ── beside the text ───────────────────────────────────────────────────────────────────────────────────────────


@fast_dataclass
class AnswerParts:
    """What a response holds beside its text, in the provider's own words.

    The places of ``citations`` are those in the whole answer. An image has its data as ``base64``, or a ``url``.
    """

    citations: Sequence[Item] = ()
    file_results: Sequence[Item] = ()
    images: Sequence[Item] = ()
    logprobs: Sequence[Item] = ()
    reasoning_summary: str | None = None


def answer_parts(body: bytes | None) -> AnswerParts:
    """The parts of a response as it was received; none if there is no response, or none that can be read."""
    try:
        wire = read_json(body)[0] if body else None
    except ValueError:
        return AnswerParts()
    items = items_of(wire) if isinstance(wire, dict) else []
    texts = [*_text_parts(_answering(_of(items, "message")))]
    return AnswerParts(
        citations=[*_citations(texts)],
        file_results=[hit for item in _of(items, "file_search_call") for hit in _objects(item.get("results"))],
        images=[*_images(items)],
        logprobs=[each for part in texts for each in _objects(part.get("logprobs"))],
        reasoning_summary="\n\n".join(_summaries(items)) or None,
    )


def _citations(texts: Sequence[Item]) -> Iterator[Item]:
    before = 0
    for part in texts:
        for citation in _objects(part.get("annotations")):
            moved = {name: citation[name] + before for name in _PLACES if type(citation.get(name)) is int}
            yield {**citation, **moved}
        before += len(part["text"])


def _images(items: Sequence[Item]) -> Iterator[Item]:
    for item in _of(items, "image_generation_call"):
        if _is_text(item.get("result")):
            yield {name: item[name] for name in _ABOUT_AN_IMAGE if name in item} | {"base64": item["result"]}
    for item in _of(items, "code_interpreter_call"):
        for output in _objects(item.get("outputs")):
            if output.get("type") == "image" and _is_text(output.get("url")):
                yield {"id": item.get("id"), "url": output["url"]}


def _summaries(items: Sequence[Item]) -> Iterator[str]:
    for item in _of(items, "reasoning"):
        texts = (part.get("text") for part in _objects(item.get("summary")))
        yield from (text for text in texts if isinstance(text, str) and text)


def _of(items: Sequence[Item], kind: str) -> list[Item]:
    return [item for item in items if item["type"] == kind]


def _objects(value: Any) -> list[Item]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
