"""Items that belong together: a call and its output, a thought and what it led to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from orchestrator.sandbox.faults.api_errors import Denied, bad_request

__all__ = ["check_pairs"]

Json: TypeAlias = Any
Item: TypeAlias = Mapping[str, Json]

_CALLS = ("function_call", "custom_tool_call")


def check_pairs(items: Sequence[Item]) -> None:
    """Raise ``Denied`` where one of a pair is missing; the words are the provider's, as its users report them."""
    if (stray := _unasked(items)) is not None:
        raise _refused(f"No tool call found for function call output with call_id {stray}.")
    if (missing := _unanswered(items)) is not None:
        raise _refused(f"No tool output found for function call {missing}.")
    if (thought := _unfollowed(items)) is not None:
        raise _refused(f"Item '{thought}' of type 'reasoning' was provided without its required following item.")


def _unanswered(items: Iterable[Item]) -> str | None:
    """The ``call_id`` of the first call among the items that no output among them answers."""
    waiting: dict[str, None] = {}
    for item in items:
        if item.get("type") in _CALLS:
            waiting[item["call_id"]] = None
        elif str(item.get("type")).endswith("_output"):
            waiting.pop(str(item.get("call_id")), None)
    return next(iter(waiting), None)


def _unasked(items: Iterable[Item]) -> str | None:
    """The ``call_id`` of the first function's output among the items that answers no call before it."""
    called = set()
    for item in items:
        match item.get("type"):
            case "function_call":
                called.add(item.get("call_id"))
            case "function_call_output" if item["call_id"] not in called:
                return str(item["call_id"])
    return None


def _unfollowed(items: Sequence[Item]) -> str | None:
    """The id of the first reasoning item that nothing of the model's own comes after."""
    for item, following in pairwise((*items, {})):
        if item.get("type") == "reasoning" and not _is_the_models(following):
            return str(item.get("id"))
    return None


def _is_the_models(item: Item) -> bool:
    kind = str(item.get("type"))
    own = kind == "reasoning" or kind.endswith("_call") or kind in ("mcp_list_tools", "mcp_approval_request")
    return own or item.get("role") == "assistant"


def _refused(message: str) -> Denied:
    return bad_request(message, code=None, param="input")
