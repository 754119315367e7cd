"""Tools that the provider runs itself: the output items of their use, and what they found.

Each offered tool is used once after a message of the user, with made-up results: the sandbox searches, runs and draws
nothing. An MCP server's tools are listed first, and wait for an approval unless the request says ``never``. For a
patch, a screen and a shell of the client's the response stops, because the client must run them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.policy.pricing.tokens import count_tokens
from orchestrator.sandbox.simulation.prompts import Prompt

__all__ = ["HostedUse", "ask_approval", "citations_of", "fee_basis", "use_hosted_tools"]

Json: TypeAlias = Any

_PAGE = "https://example.org/"
# One transparent pixel.
_PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_PICTURE_TOKENS = 272
_QUERY_WORDS = 12
# More than any request can use.
_MAX_CALLS = 1_000
# Tools that the client runs, although the provider defines them: type and id prefix of the call, what it asks for.
_SCREENSHOT = ("computer_call", "cu", {"action": {"type": "screenshot"}, "pending_safety_checks": []})
_PATCH = {"type": "create_file", "path": "sandbox.txt", "diff": "+Made up by the sandbox.\n"}
_CLIENT_CALLS: Mapping[str, tuple[str, str, dict[str, Json]]] = {
    "apply_patch": ("apply_patch_call", "apc", {"operation": _PATCH}),
    "computer": _SCREENSHOT,
    "computer_use_preview": _SCREENSHOT,
    "local_shell": ("local_shell_call", "lsh", {"action": {"type": "exec", "command": ["ls"], "env": {}}}),
    "shell": ("shell_call", "sh", {"action": {"commands": ["ls"]}}),
}
_RUN_BY_THE_CLIENT = ("function", "custom")


@fast_dataclass(kw_only=False)
class HostedUse:
    """The items of the tools used, the texts that they found, and whether the response stops for an approval."""

    items: Sequence[dict[str, Json]] = ()
    found: Sequence[str] = ()
    stops: bool = False


def use_hosted_tools(fields: Mapping[str, Json], prompt: Prompt, tail: str) -> HostedUse:
    """Uses the hosted tools that the request offers, at most ``max_tool_calls`` times."""
    tools = _HostedTools(fields, prompt, tail)
    for tool in _offered(fields):
        tools.use(tool)
    return HostedUse(tools.items, tools.found, tools.stops)


def ask_approval(fields: Mapping[str, Json], tail: str) -> dict[str, Json]:
    """The request for an approval that the client must answer, for the first MCP server offered."""
    tools = [tool for tool in fields.get("tools") or [] if tool["type"] == "mcp"]
    return _approval(tools[0] if tools else {"server_label": "sandbox"}, "{}", tail)


def fee_basis(fields: Mapping[str, Json], items: Sequence[Mapping[str, Json]]) -> bytes:
    """The tools offered, the calls made and what is billed for them, shaped like a response; ``{}`` if none is."""
    used = [
        {"type": item["type"], "container_id": item.get("container_id")}
        for item in items
        if item["type"].endswith("_call") and item["type"] not in ("function_call", "custom_tool_call", "mcp_call")
    ]
    if not used:
        return b"{}"
    offered = [{name: tool[name] for name in ("type", "model") if name in tool} for tool in fields.get("tools") or []]
    return orjson.dumps({"tools": offered, "output": used, "tool_usage": _tool_usage(items)})


def _tool_usage(items: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """What is billed apart from the usage: searches, but no opened pages, and the tokens of images."""
    searches = sum(item["type"] == "web_search_call" and item["action"]["type"] == "search" for item in items)
    prompts = [str(item["revised_prompt"]) for item in items if item["type"] == "image_generation_call"]
    texts, drawn = sum(map(count_tokens, prompts)), _PICTURE_TOKENS * len(prompts)
    image_gen = {
        "input_tokens": texts,
        "input_tokens_details": {"text_tokens": texts, "image_tokens": 0},
        "output_tokens": drawn,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": drawn},
        "cached_tokens": 0,
        "total_tokens": texts + drawn,
    }
    return {"image_gen": image_gen, "web_search": {"num_requests": searches}}


def _offered(fields: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The hosted tools that the request allows the model to use."""
    tools = [tool for tool in fields.get("tools") or [] if tool["type"] not in _RUN_BY_THE_CLIENT]
    match fields.get("tool_choice"):
        case "none" | {"type": "function" | "custom"}:
            return []
        case {"type": "mcp", "server_label": label}:
            return [tool for tool in tools if tool.get("server_label") == label]
        case {"type": "allowed_tools", "tools": [*allowed]}:
            kinds = [each.get("type") for each in allowed if isinstance(each, dict)]
            return [tool for tool in tools if tool["type"] in kinds]
        case {"type": kind}:
            return [tool for tool in tools if tool["type"] == kind]
    return tools


class _HostedTools:
    """The hosted tools of one response: uses them, and collects the items and texts that result."""

    def __init__(self, fields: Mapping[str, Json], prompt: Prompt, tail: str) -> None:
        self._include = fields.get("include") or []
        self._max_calls = fields.get("max_tool_calls") or _MAX_CALLS
        self._prompt = prompt
        self._tail = tail[:38]
        self._query = " ".join((prompt.text or "sandbox").split()[:_QUERY_WORDS])
        self.items: list[dict[str, Json]] = []
        self.found: list[str] = []
        self.stops = False

    def use(self, tool: Mapping[str, Json]) -> None:
        """Uses one tool; ignores types that the sandbox does not simulate."""
        kind = str(tool["type"])
        if kind == "mcp":
            self._use_server(tool)
        elif not self._prompt.new_items and self._may_call():
            # Results of the client's tools do not make the model search again.
            if kind.startswith("web_search"):
                self._search_web(is_deep=tool.get("search_context_size") == "high")
            elif kind == "file_search":
                self._search_files()
            elif kind == "code_interpreter":
                self._run_code(tool["container"])
            elif kind == "image_generation":
                self._draw()
            elif kind == "shell" and _runs_at_the_provider(tool):
                self._run_commands()
            elif kind in _CLIENT_CALLS:
                self._ask_client(kind)

    def _may_call(self) -> bool:
        return len([item for item in self.items if item["type"].endswith("_call")]) < self._max_calls

    def _add(self, kind: str, prefix: str, **fields: Json) -> None:
        identity = {"type": kind, "id": f"{prefix}_{self._tail}{len(self.items):02x}", "status": "completed"}
        self.items.append(identity | fields)

    def _search_web(self, *, is_deep: bool) -> None:
        action: dict[str, Json] = {"type": "search", "query": self._query, "queries": [self._query]}
        if "web_search_call.action.sources" in self._include:
            action["sources"] = [{"type": "url", "url": _PAGE}]
        self._add("web_search_call", "ws", action=action)
        if is_deep and self._may_call():
            # Opening what was found is a call, too, and is not billed.
            self._add("web_search_call", "ws", action={"type": "open_page", "url": _PAGE})
        self.found.append(f"{_PAGE} says nothing about: {self._query}")

    def _search_files(self) -> None:
        text = f"No file was read for: {self._query}"
        hit = {"file_id": "file-sandbox", "filename": "sandbox.txt", "score": 0.5, "text": text, "attributes": {}}
        shown = [hit] if "file_search_call.results" in self._include else None
        self._add("file_search_call", "fs", queries=[self._query], results=shown)
        self.found.append(text)

    def _run_code(self, container: Json) -> None:
        logs = f"{len(self._prompt.text)}\n"
        shown = [{"type": "logs", "logs": logs}] if "code_interpreter_call.outputs" in self._include else None
        self._add(
            "code_interpreter_call",
            "ci",
            code="print(len(text))",
            container_id=container if isinstance(container, str) else f"cntr_{self._tail}",
            outputs=shown,
        )
        self.found.append(logs)

    def _draw(self) -> None:
        picture = {"result": _PICTURE, "output_format": "png", "size": "1024x1024", "quality": "low"}
        self._add("image_generation_call", "ig", revised_prompt=self._query, **picture)

    def _run_commands(self) -> None:
        call_id = f"call_{self._tail}{len(self.items):02x}"
        self._add("shell_call", "sh", call_id=call_id, action={"commands": ["ls"]})
        done = [{"stdout": "sandbox.txt\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
        self._add("shell_call_output", "sho", call_id=call_id, output=done)
        self.found.append("sandbox.txt")

    def _ask_client(self, kind: str) -> None:
        """Calls a tool that the client runs: the response stops, and waits for its output."""
        item, prefix, fields = _CLIENT_CALLS[kind]
        self._add(item, prefix, call_id=f"call_{self._tail}{len(self.items):02x}", **fields)
        self.stops = True

    def _use_server(self, tool: Mapping[str, Json]) -> None:
        label, name = tool["server_label"], _tool_of(tool)
        if not _lists(self._prompt.items, label):
            schema = {"type": "object", "properties": {"query": {"type": "string"}}}
            listed = [{"name": name, "description": "Made up by the sandbox.", "input_schema": schema}]
            identity = {"type": "mcp_list_tools", "id": f"mcpl_{self._tail}{len(self.items):02x}"}
            self.items.append({**identity, "server_label": label, "tools": listed})
        decision = _decision(self._prompt, label)
        if decision is None and self._prompt.new_items:
            return
        arguments = orjson.dumps({"query": self._query}).decode()
        if decision is None and _needs_approval(tool, name):
            self.stops = True
            self.items.append(_approval(tool, arguments, f"{self._tail}{len(self.items):02x}"))
        elif (decision is None or decision["approve"]) and self._may_call():
            self._add(
                "mcp_call",
                "mcp",
                server_label=label,
                name=name,
                arguments=arguments,
                output=f"{label} knows nothing about: {self._query}",
                error=None,
                approval_request_id=decision["approval_request_id"] if decision else None,
            )
            self.found.append(self.items[-1]["output"])


def _runs_at_the_provider(tool: Mapping[str, Json]) -> bool:
    """Whether a shell tool has a container of the provider's; else the client runs its commands."""
    environment = tool.get("environment")
    return isinstance(environment, dict) and str(environment.get("type")).startswith("container")


def _approval(tool: Mapping[str, Json], arguments: str, tail: str) -> dict[str, Json]:
    about = {"server_label": tool["server_label"], "name": _tool_of(tool), "arguments": arguments}
    return {"type": "mcp_approval_request", "id": f"mcpr_{tail}", **about}


def _tool_of(tool: Mapping[str, Json]) -> str:
    """The first tool of a server that the request allows."""
    allowed = tool.get("allowed_tools")
    names = allowed.get("tool_names") if isinstance(allowed, dict) else allowed
    return str(names[0]) if isinstance(names, list) and names else "search"


def _needs_approval(tool: Mapping[str, Json], name: str) -> bool:
    """Whether a tool of a server waits for an approval, which is the default."""
    match tool.get("require_approval"):
        case "never":
            return False
        case {"never": {"tool_names": [*names]}}:
            return name not in names
    return True


def _lists(items: Sequence[Mapping[str, Json]], label: str) -> bool:
    return any(item.get("type") == "mcp_list_tools" and item.get("server_label") == label for item in items)


def _decision(prompt: Prompt, label: str) -> Mapping[str, Json] | None:
    """The client's answer to the last request for an approval of a server, if it is among the new items."""
    request_ids = [
        item.get("id")
        for item in prompt.items
        if item.get("type") == "mcp_approval_request" and item.get("server_label") == label
    ]
    answers = [item for item in prompt.new_items if item.get("type") == "mcp_approval_response"]
    return next((each for each in reversed(answers) if each["approval_request_id"] in request_ids), None)


def citations_of(items: Sequence[Mapping[str, Json]], text: str) -> list[Json]:
    """The sources that an answer names: its first word stands for the page, its end for the file that was found."""
    kinds = {item["type"] for item in items}
    cited: list[Json] = []
    if "web_search_call" in kinds:
        end = len(text.partition(" ")[0])
        cited.append(
            {"type": "url_citation", "start_index": 0, "end_index": end, "url": _PAGE, "title": "The sandbox's page"}
        )
    if "file_search_call" in kinds:
        cited.append(
            {"type": "file_citation", "index": len(text), "file_id": "file-sandbox", "filename": "sandbox.txt"}
        )
    return cited
