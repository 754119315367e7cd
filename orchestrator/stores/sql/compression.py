"""Keeps rows and responses small: zlib, with the shape that all responses have as its dictionary.

A response repeats two columns beside it: its text and its id. If the body contains them unchanged, they are replaced
by holes and only the rest is compressed. A typical body of 1.5 kB takes 130 bytes, against 860 by compression alone;
one of 10 kB takes no more, and neither takes longer than a small one.
"""

from __future__ import annotations

import json
import zlib

import orjson

__all__ = ["pack_body", "pack_row", "unpack_body", "unpack_row"]

# The first byte of a BLOB says how to read it. The meaning of a number never changes.
_RAW = 0
_ZLIB = 1
_ZLIB_SHAPE = 2
_ZLIB_SHAPE_AND_TEXT = 3
_HOLES_UTF8 = 4
_HOLES_ASCII = 5

# The holes for the text and for the id: bytes that no JSON has.
_TEXT_HOLE, _ID_HOLE = b"\x00", b"\x01"
# The text is found in the body by its beginning: searching for all of a long text is slow.
_BEGINNING = 48

# Raw deflate with a small window, because a body without its text is short. Level 6 would save 6 bytes, for 2 µs.
_HOLED_BITS = -13
_LEVEL = 3
_MEMORY_LEVEL = 4
# Shorter rows are stored as text, readable in the sqlite3 shell: compressing one costs more than writing it.
_LONG_ROW = 32_768
_WINDOW = 32_000

# A typical response, as the provider indents it and as gateways write it. Part of the format: bodies that were packed
# with it cannot be read without it, so a better one needs a number of its own.
_SHAPE = b"""{
  "id": "resp_",
  "object": "response",
  "created_at": 17,
  "status": "completed",
  "background": true,
  "billing": {
    "payer": "developer"
  },
  "completed_at": 17,
  "error": null,
  "frequency_penalty": 0.0,
  "incomplete_details": null,
  "instructions": null,
  "max_output_tokens": null,
  "max_tool_calls": null,
  "model": "gpt-5-mini-2025-08-07",
  "output": [
    {
      "id": "rs_",
      "type": "reasoning",
      "summary": []
    },
    {
      "id": "msg_",
      "type": "message",
      "status": "completed",
      "content": [
        {
          "type": "output_text",
          "annotations": [],
          "logprobs": [],
          "text": ""
        }
      ],
      "role": "assistant"
    }
  ],
  "parallel_tool_calls": true,
  "presence_penalty": 0.0,
  "previous_response_id": null,
  "prompt_cache_key": null,
  "prompt_cache_retention": null,
  "reasoning": {
    "effort": "medium",
    "summary": null
  },
  "safety_identifier": null,
  "service_tier": "default",
  "store": true,
  "temperature": 1.0,
  "text": {
    "format": {
      "type": "text"
    },
    "verbosity": "medium"
  },
  "tool_choice": "auto",
  "tools": [],
  "top_logprobs": 0,
  "top_p": 1.0,
  "truncation": "disabled",
  "usage": {
    "input_tokens": 1,
    "input_tokens_details": {
      "cache_write_tokens": 0,
      "cached_tokens": 0
    },
    "output_tokens": 1,
    "output_tokens_details": {
      "reasoning_tokens": 0
    },
    "total_tokens": 1
  },
  "user": null,
  "metadata": {
    "orchestrator_run": "",
    "orchestrator_key": "",
    "orchestrator_attempt": "1"
  }
}{"id":"resp_","object":"response","created_at":17,"status":"completed","background":true,\
"billing":{"payer":"developer"},"completed_at":17,"conversation":null,"error":null,"frequency_penalty":0.0,\
"incomplete_details":null,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,\
"model":"gpt-5-mini-2025-08-07","output":[{"id":"rs_","type":"reasoning","summary":[]},{"id":"msg_",\
"type":"message","status":"completed","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":""}],\
"role":"assistant"}],"output_text":"","parallel_tool_calls":true,"presence_penalty":0.0,"previous_response_id":null,\
"prompt_cache_key":null,"reasoning":{"effort":"medium","summary":null},"safety_identifier":null,\
"service_tier":"default","store":true,"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"},\
"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1.0,"truncation":"disabled","usage":{"input_tokens":1,\
"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":0},"output_tokens":1,"output_tokens_details":\
{"reasoning_tokens":0},"total_tokens":1},"user":null,"metadata":{"orchestrator_run":"","orchestrator_key":"",\
"orchestrator_attempt":"1"}}"""


# A compressor that has read the shape; each body uses a copy of it.
_PRIMED = zlib.compressobj(_LEVEL, zlib.DEFLATED, _HOLED_BITS, _MEMORY_LEVEL, zdict=_SHAPE)


def pack_row(data: bytes) -> str | bytes:
    """A row's JSON for the database: text, or compressed if it is long and that saves space."""
    if len(data) >= _LONG_ROW:
        packed = _compress(_ZLIB, data, b"", level=1)
        if len(packed) < len(data):
            return packed
    try:
        return data.decode()
    except UnicodeDecodeError:
        return bytes([_RAW]) + data


def unpack_row(stored: str | bytes) -> bytes:
    """The JSON that ``pack_row`` was given; where a column has one type only, its text comes as bytes."""
    if isinstance(stored, str):
        return stored.encode()
    return _expand(stored, b"") if stored and stored[0] <= _HOLES_ASCII else stored


def pack_body(body: bytes, text: str | None, response_id: str | None) -> bytes:
    """A response as received, without the columns beside it: its text and its id."""
    if _TEXT_HOLE in body or _ID_HOLE in body:
        return _compress(_ZLIB_SHAPE, body, _SHAPE, level=3)
    codec = _HOLES_UTF8
    if text:
        for codec in (_HOLES_UTF8, _HOLES_ASCII):
            holed = _without(body, _quoted(text, codec))
            if holed is not None:
                body = holed
                break
        else:
            return _compress(_ZLIB_SHAPE_AND_TEXT, body, _dictionary(text), level=3)
    if response_id:
        body = body.replace(response_id.encode(), _ID_HOLE)
    squeeze = _PRIMED.copy()
    return b"%c%b%b" % (codec, squeeze.compress(body), squeeze.flush())


def unpack_body(stored: bytes, text: str | None, response_id: str | None) -> bytes:
    """The bytes that ``pack_body`` was given, with the same text and id."""
    codec = stored[0]
    if codec not in (_HOLES_UTF8, _HOLES_ASCII):
        return _expand(stored, _dictionary(text) if text and codec == _ZLIB_SHAPE_AND_TEXT else _SHAPE)
    expand = zlib.decompressobj(_HOLED_BITS, zdict=_SHAPE)
    body = expand.decompress(stored[1:]) + expand.flush()
    body = body.replace(_ID_HOLE, (response_id or "").encode())
    return body.replace(_TEXT_HOLE, _quoted(text, codec)) if text else body


def _quoted(text: str, codec: int) -> bytes:
    """The text as JSON has it, escaped in one of the two usual ways."""
    return (orjson.dumps(text) if codec == _HOLES_UTF8 else json.dumps(text).encode())[1:-1]


def _without(body: bytes, quoted: bytes) -> bytes | None:
    """The body with a hole instead of the text; None if it does not contain the text."""
    start = body.find(quoted[:_BEGINNING])
    end = start + len(quoted)
    if start < 0 or body[start:end] != quoted:
        return None
    return b"%b%b%b" % (body[:start], _TEXT_HOLE, body[end:])


def _dictionary(text: str) -> bytes:
    # zlib uses only what lies within its window, and the shape must stay in it.
    return _SHAPE + text.encode()[: _WINDOW - len(_SHAPE)]


def _compress(codec: int, data: bytes, dictionary: bytes, *, level: int) -> bytes:
    squeeze = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY_LEVEL, zdict=dictionary)
    return b"%c%b%b" % (codec, squeeze.compress(data), squeeze.flush())


def _expand(stored: bytes, dictionary: bytes) -> bytes:
    match stored[0]:
        case 0:
            return stored[1:]
        case 1:
            return zlib.decompress(stored[1:])
        case 2 | 3:
            expand = zlib.decompressobj(zdict=dictionary)
            return expand.decompress(stored[1:]) + expand.flush()
        case codec:
            raise ValueError(f"a stored body has the unknown codec {codec}")
