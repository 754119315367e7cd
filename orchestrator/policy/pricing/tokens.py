"""How many tokens a request has: an estimate for rate limits and forecasts, an upper bound for budgets.

Exact counts need the vocabulary, which comes with the extra ``tokens`` (o200k, the vocabulary of gpt-4o, gpt-4.1,
gpt-5 and the o models). Without it, and for newer models whose vocabulary is not published, counts are estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from orchestrator.core import exact_json
from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = [
    "TokenCounter",
    "count_tokens",
    "estimate_input",
    "estimate_request",
    "may_write_12h",
    "token_counter",
    "upper_bound_tokens",
]

_VOCABULARY = "o200k_base"
_O200K_MODELS = ("gpt-4o", "gpt-4.1", "gpt-5", "chatgpt-4o", "o1", "o3", "o4")

# Tokens that frame a request and each message of it. Not documented; a request that says "hi" is counted as 8, and as
# one less by gpt-5 models: the API reference counts 11 for a text of five tokens.
_REQUEST_FRAME = 3
_GPT_5_FRAME = 2
_MESSAGE_FRAME = 4
# The assumed size of an image or a file, for the rate limit only: the real count depends on its content.
_ATTACHMENT = 2_000

# Margins of an upper bound, for framing and for what the provider adds around tools and schemas.
_REQUEST_MARGIN = 128
_ITEM_MARGIN = 16
_TOOL_MARGIN = 64
# Fields that add text which is not in the request.
_ADDING_FIELDS = ("previous_response_id", "conversation", "prompt", "context_management")
# Fields that the model does not see.
_UNSEEN_FIELDS = frozenset({"metadata", "model", "prompt_cache_key", "safety_identifier", "user"})
# Tools that the client runs. The provider runs all others, for several turns, and their results are input too.
_CLIENT_TOOLS = ("custom", "function")
_TEXTUAL_TYPES = (
    None,
    "custom_tool_call",
    "custom_tool_call_output",
    "function_call",
    "function_call_output",
    "input_text",
    "message",
    "output_text",
    "refusal",
)


@fast_dataclass(kw_only=False)
class TokenCounter:
    """Counts the tokens of texts, with the vocabulary if ``exact``, else by estimate."""

    exact: bool

    def exact_for(self, model: str) -> bool:
        """Whether the counts are exact for a model: its vocabulary must be published and installed."""
        return self.exact and model.startswith(_O200K_MODELS)

    def count(self, text: str) -> int:
        """Returns the tokens of one text."""
        return self.count_all([text])[0]

    def count_all(self, texts: Sequence[str]) -> list[int]:
        """Returns the tokens of each text; several texts are counted in parallel."""
        if not self.exact:
            return [_estimate(text) for text in texts]
        # A lone surrogate, which JSON may hold, cannot be encoded; it counts as the replacement character.
        whole = [text if _encodes(text) else text.encode(errors="replace").decode() for text in texts]
        return _batch_count()(whole, _VOCABULARY, 0 if len(whole) > 1 else 1)


_BY_ESTIMATE = TokenCounter(exact=False)


@cache
def _batch_count() -> Callable[[list[str], str, int], list[int]]:
    # Compiled with the vocabulary: takes half a second to load. It has no type information.
    return import_module("toktok").batch_count  # type: ignore[no-any-return]


@cache
def token_counter() -> TokenCounter:
    """Returns the best installed counter."""
    return TokenCounter(exact=find_spec("toktok") is not None)


def count_tokens(text: str) -> int:
    """Returns the tokens of a text, exact if the extra ``tokens`` is installed."""
    return token_counter().count(text)


def estimate_input(fields: Mapping[str, Any], counter: TokenCounter | None = None) -> int:
    """Returns about how many input tokens a request has; ``fields`` is the body of ``POST /v1/responses``.

    Counts by estimate unless a counter is given. Tokens that a conversation, a previous response or a hosted tool
    adds are unknown here and not counted.
    """
    texts = list(_texts(fields))
    counts = (counter or _BY_ESTIMATE).count_all(texts)
    messages = fields.get("input")
    frames = len(messages) if isinstance(messages, list) else 1
    frames += 1 if fields.get("instructions") else 0
    frame = _GPT_5_FRAME if str(fields.get("model")).startswith("gpt-5") else _REQUEST_FRAME
    return frame + _MESSAGE_FRAME * frames + sum(counts) + _ATTACHMENT * _attachments(messages)


def estimate_request(fields: Mapping[str, Any]) -> int:
    """Returns what a request counts for in a limit of tokens per minute: its input and its whole cap on output.

    Takes microseconds per kilobyte of text. (Responses API, "Rate limits": the provider counts the larger of the two,
    or both.)
    """
    cap = fields.get("max_output_tokens")
    return estimate_input(fields) + (cap if isinstance(cap, int) and cap > 0 else 0)


def may_write_12h(fields: Mapping[str, Any]) -> bool:
    """Whether a request asks for twelve hours in the prompt cache, for all of it or for one part."""
    options = fields.get("prompt_cache_options")
    if isinstance(options, dict) and options.get("ttl") not in (None, "30m"):
        return True
    messages = fields.get("input")
    return isinstance(messages, list) and any(map(_has_long_breakpoint, messages))


def _has_long_breakpoint(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_long_breakpoint, value))
    if not isinstance(value, dict):
        return False
    mark = value.get("prompt_cache_breakpoint")
    if isinstance(mark, dict) and mark.get("ttl") not in (None, "30m"):
        return True
    return any(_has_long_breakpoint(value.get(name)) for name in ("content", "output"))


def upper_bound_tokens(fields: Mapping[str, Any]) -> int | None:
    """Returns the most input tokens that a request can be charged for; None if its text does not bound them.

    Each token covers at least a byte of UTF-8, so the bytes of the whole request are a bound in any vocabulary. The
    bound is three to five times the real count of plain text.
    """
    options = fields.get("background_options")
    continued = isinstance(options, dict) and options.get("continuation_id")
    tools = fields.get("tools") or []
    if continued or any(fields.get(name) for name in _ADDING_FIELDS) or not _are_client_tools(tools):
        return None
    messages = fields.get("input")
    if not _is_textual(messages):
        return None
    try:
        size = len(exact_json.dumps({name: value for name, value in fields.items() if name not in _UNSEEN_FIELDS}))
    except TypeError:
        return None  # it cannot be encoded, so it cannot be sent
    items = len(messages) if isinstance(messages, list) else 1
    return size + _REQUEST_MARGIN + _ITEM_MARGIN * items + _TOOL_MARGIN * len(tools)


# ── The parts of a request ────────────────────────────────────────────────────────────────────────────────────


def _texts(fields: Mapping[str, Any]) -> Iterator[str]:
    for name in ("instructions", "input"):
        yield from _strings(fields.get(name))
    if tools := fields.get("tools"):
        yield _as_json(tools)
    text = fields.get("text")
    if isinstance(text, dict) and isinstance(text.get("format"), dict) and "schema" in text["format"]:
        yield _as_json(text["format"])


def _strings(value: Any) -> Iterator[str]:
    """Yields every text in a message, a list of messages, or a part, without attachments."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for name in ("content", "text", "name", "arguments", "input", "output", "summary", "refusal"):
            yield from _strings(value.get(name))


def _attachments(value: Any) -> int:
    if isinstance(value, list):
        return sum(_attachments(each) for each in value)
    if isinstance(value, dict):
        inside = _attachments(value.get("content")) + _attachments(value.get("output"))
        return inside + (1 if value.get("type") in ("input_image", "input_file", "computer_screenshot") else 0)
    return 0


def _as_json(value: Any) -> str:
    try:
        return exact_json.dumps(value).decode()
    except TypeError:
        return repr(value)


def _are_client_tools(tools: Any) -> bool:
    return isinstance(tools, list) and all(
        isinstance(tool, dict) and tool.get("type") in _CLIENT_TOOLS for tool in tools
    )


def _is_textual(value: Any) -> bool:
    """Whether an input is only text: no image, no file, no reference to stored items."""
    if isinstance(value, list):
        return all(_is_textual(each) for each in value)
    if isinstance(value, dict):
        return value.get("type") in _TEXTUAL_TYPES and all(
            _is_textual(each) for name, each in value.items() if name != "prompt_cache_breakpoint"
        )
    return True


# ── Counting without the vocabulary ───────────────────────────────────────────────────────────────────────────

# A linear fit to o200k: within 2 % for English prose, 10 % for Markdown and JSON, 15 % for code. Each word has this
# weight, and each character that of its kind, which the first byte of its UTF-8 encoding determines.
_PER_WORD = 0.5
_WEIGHTS = (
    0.12,  # 0 ASCII letters
    0.3,  # 1 digits
    0.0,  # 2 white space
    0.7,  # 3 punctuation
    0.0,  # 4 second and later bytes of a character
    0.25,  # 5 two bytes: accented Latin, Greek, Cyrillic, Hebrew, Arabic; and E0: scripts of India, Thai
    0.9,  # 6 E1, E2: typographic signs, arrows, box drawing
    0.86,  # 7 E3 to E9: kana and Chinese characters
    0.6,  # 8 EA to EF: Hangul
    2.5,  # 9 four bytes: emoji
)
_ASCII_KINDS, _ALL_KINDS = range(1, 4), range(1, len(_WEIGHTS))


def _kind(byte: int) -> int:
    if byte < 0x80:
        return 0 if chr(byte).isalpha() else 1 if chr(byte).isdigit() else 2 if byte <= 0x20 else 3
    return next((kind for limit, kind in ((0xC0, 4), (0xE1, 5), (0xE3, 6), (0xEA, 7), (0xF0, 8)) if byte < limit), 9)


_KINDS = bytes(_kind(byte) for byte in range(256))
# A longer text is estimated by so many evenly spread pieces of so many characters: the error is half a percent in
# prose and two percent in code, in both directions.
_PIECES, _PIECE = 32, 128
# For each kind, whether it is white space.
_SPACES = bytes(kind == 2 for kind in range(256))


def _estimate(text: str) -> int:
    if not text:
        return 0
    if len(text) <= _PIECES * _PIECE:
        return max(1, round(_weigh(text)))
    step = len(text) // _PIECES
    pieces = "".join([text[start : start + _PIECE] for start in range(0, step * _PIECES, step)])
    return max(1, round(_weigh(pieces) * len(text) / len(pieces)))


def _weigh(text: str) -> float:
    kinds = text.encode(errors="surrogatepass").translate(_KINDS)
    weight, letters = _PER_WORD * _words(kinds), len(kinds)
    for kind in _ASCII_KINDS if text.isascii() else _ALL_KINDS:
        count = kinds.count(kind)
        weight += _WEIGHTS[kind] * count
        letters -= count
    return weight + _WEIGHTS[0] * letters


def _words(kinds: bytes) -> int:
    """Returns how many words a text has; to split it would take longer than the rest of the estimate."""
    spaces = kinds.translate(_SPACES)
    return spaces.count(b"\x01\x00") + (spaces[0] == 0)


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
