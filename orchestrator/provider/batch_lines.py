"""The lines of batch files: those of the input are written, and those of the results are read leniently."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Response
from orchestrator.core.problems import Refused
from orchestrator.provider.refusal import code_text, error_fields
from orchestrator.provider.reply_json import read_json
from orchestrator.provider.wire import UnreadableReply, parse_response

__all__ = ["ENDPOINT", "ResultLine", "input_line", "parse_result_line", "split_lines"]

ENDPOINT = "/v1/responses"

_MOST_MESSAGE = 2000


@fast_dataclass
class ResultLine:
    """One line of an output or error file.

    It has a ``response`` that has ended, or a ``refusal`` of this one request, or an ``error_code`` of the batch
    (``batch_expired``, ``batch_cancelled``); or none of them, if what it holds cannot be read.
    """

    custom_id: str
    response: Response | None = None
    refusal: Refused | None = None
    error_code: str | None = None
    message: str = ""


def input_line(custom_id: str, body: bytes) -> bytes:
    """The line that asks for a response; ``body`` is the JSON of its create call."""
    return b'{"custom_id":%b,"method":"POST","url":"%b","body":%b}\n' % (
        orjson.dumps(custom_id),
        ENDPOINT.encode(),
        body,
    )


def parse_result_line(line: bytes, status_aliases: Mapping[str, str]) -> ResultLine | None:
    """One line of a result file; None if it cannot even be read whose line it is."""
    try:
        document, _ = read_json(line)
    except ValueError:
        return None
    custom_id = document.get("custom_id") if isinstance(document, dict) else None
    if not isinstance(custom_id, str) or not custom_id:
        return None
    reply, error = document.get("response"), document.get("error")
    if isinstance(reply, dict) and reply.get("body") is not None:
        return _of_reply(custom_id, reply, status_aliases)
    fields = error_fields({"error": error}) if isinstance(error, dict | str) else {}
    code = code_text(fields.get("code")) or code_text(fields.get("type"))
    return ResultLine(custom_id=custom_id, error_code=code, message=_message(fields))


def _of_reply(custom_id: str, reply: Mapping[str, Any], status_aliases: Mapping[str, str]) -> ResultLine:
    status, body = reply.get("status_code"), reply["body"]
    if not isinstance(status, int) or status < 300:
        try:
            response = parse_response(orjson.dumps(body), status_aliases=status_aliases)
        except (UnreadableReply, ValueError, RecursionError) as error:
            return ResultLine(custom_id=custom_id, message=f"the line cannot be read ({type(error).__name__})")
        return ResultLine(custom_id=custom_id, response=response if response.ended else None)
    fields = error_fields(body) if isinstance(body, dict) else {}
    refusal = Refused(
        status=status,
        code=code_text(fields.get("code")),
        type=code_text(fields.get("type")),
        param=code_text(fields.get("param")),
        message=_message(fields),
    )
    return ResultLine(custom_id=custom_id, refusal=refusal)


def _message(fields: Mapping[str, Any]) -> str:
    message = fields.get("message")
    return message[:_MOST_MESSAGE] if isinstance(message, str) else ""


async def split_lines(chunks: AsyncIterator[bytes], *, most_bytes: int) -> AsyncIterator[bytes]:
    """Yields the lines of a file as it arrives; a line that is longer than ``most_bytes`` is left out.

    The last line counts without its line break, too.
    """
    begun, too_long = bytearray(), False
    async for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            if not too_long and len(begun) + len(piece) <= most_bytes:
                begun += piece
                if begun.strip():
                    yield bytes(begun)
            begun, too_long = bytearray(), False
        too_long = too_long or len(begun) + len(rest) > most_bytes
        if too_long:
            begun.clear()
        else:
            begun += rest
    if begun.strip() and not too_long:
        yield bytes(begun)
