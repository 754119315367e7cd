"""Checks that items come in pairs: a call and its output, a reasoning item and the item after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from orchestrator.sandbox.faults.api_errors import ErrorReply, bad_request

__all__ = ["check_pairs"]

Json: TypeAlias = Any
Item: TypeAlias = Mapping[str, Json]

_CALLS = ("function_call", "custom_tool_call")


def check_pairs(items: Sequence[Item]) -> None:
    """Raises ``ErrorReply`` (400) if one of a pair is missing, with the provider's messages as users report them."""
    if (call_id := _output_without_call(items)) is not None:
        raise _refused(f"No tool call found for function call output with call_id {call_id}.")
    if (call_id := _call_without_output(items)) is not None:
        raise _refused(f"No tool output found for function call {call_id}.")
    if (item_id := _reasoning_without_successor(items)) is not None:
        raise _refused(f"Item '{item_id}' of type 'reasoning' was provided without its required following item.")


def _call_without_output(items: Iterable[Item]) -> str | None:
    """The ``call_id`` of the first call that no later output answers."""
    waiting: dict[str, None] = {}
    for item in items:
        if item.get("type") in _CALLS:
            waiting[item["call_id"]] = None
        elif str(item.get("type")).endswith("_output"):
            waiting.pop(str(item.get("call_id")), None)
    return next(iter(waiting), None)


def _output_without_call(items: Iterable[Item]) -> str | None:
    """The ``call_id`` of the first function call output that answers no earlier call."""
    called = set()
    for item in items:
        match item.get("type"):
            case "function_call":
                called.add(item.get("call_id"))
            case "function_call_output" if item["call_id"] not in called:
                return str(item["call_id"])
    return None


def _reasoning_without_successor(items: Sequence[Item]) -> str | None:
    """The id of the first reasoning item that no item of the model follows."""
    for item, following in pairwise((*items, {})):
        if item.get("type") == "reasoning" and not _is_from_model(following):
            return str(item.get("id"))
    return None


def _is_from_model(item: Item) -> bool:
    kind = str(item.get("type"))
    own = kind == "reasoning" or kind.endswith("_call") or kind in ("mcp_list_tools", "mcp_approval_request")
    return own or item.get("role") == "assistant"


def _refused(message: str) -> ErrorReply:
    return bad_request(message, code=None, param="input")
