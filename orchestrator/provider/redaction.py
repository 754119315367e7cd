"""Removes secrets from what a server says: as they are, and as JSON may write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape
from urllib.parse import quote, quote_plus

__all__ = ["RedactedPieces", "Redaction"]

_REDACTED = b"[redacted]"
# An escape of a printable ASCII character, which a secret consists of.
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]|\\/")
_LONGEST_ESCAPE = 6


class Redaction:
    """Replaces each of some secrets, which are printable ASCII."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        # The longest first: one may be a part of another.
        self._secrets = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._escaped = [re.compile(b"".join(map(_escapes, secret))) for secret in self._secrets]
        # JSON may be in any encoding of Unicode.
        self._wide = [
            (secret.decode().encode(encoding), _REDACTED.decode().encode(encoding))
            for secret in self._secrets
            for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
        ]
        self._window = _LONGEST_ESCAPE * max(map(len, self._secrets), default=0)

    def redact(self, body: bytes) -> bytes:
        """Returns the body without the secrets."""
        for secret in self._secrets:
            body = body.replace(secret, _REDACTED)
        if self._secrets and b"\0" in body:
            for written, redacted in self._wide:
                body = body.replace(written, redacted)
        if b"\\" in body and self._secrets and _ESCAPED_ASCII.search(body) is not None:
            for pattern in self._escaped:
                body = pattern.sub(_REDACTED, body)
        return body

    def pieces(self) -> RedactedPieces:
        """Returns a redaction of one body that arrives in pieces."""
        return RedactedPieces(self)

    def unfinished(self, chunk: bytes) -> int:
        """Returns how many bytes at the end of a chunk may be the beginning of a secret."""
        for start in range(max(0, len(chunk) - self._window), len(chunk)):
            if any(_begins(chunk[start:], secret) for secret in self._secrets):
                return len(chunk) - start
        return 0


class RedactedPieces:
    """Redacts secrets that may be split between the pieces of one body."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Returns what is ready; what may be the beginning of a secret waits for the rest of it."""
        text = self._redaction.redact(self._held + piece)
        ready = len(text) - self._redaction.unfinished(text)
        self._held = text[ready:]
        return text[:ready]

    def rest(self) -> bytes:
        """Returns what was held back, once no more pieces come."""
        rest, self._held = self._held, b""
        return rest


def _forms(secret: bytes) -> Iterator[bytes]:
    """Yields a secret as it is, and as addresses and web pages write it."""
    text = secret.decode("ascii", "replace")
    yield secret
    for form in (quote(text, safe=""), quote(text), quote_plus(text), escape(text)):
        yield form.encode()
    yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quote(text, safe="")).encode()


def _escapes(letter: int) -> bytes:
    """Returns a pattern for a character in each way in which JSON may write it."""
    plain = re.escape(bytes([letter]))
    return b"(?:\\\\?%s|\\\\u00(?i:%02x))" % (plain, letter)


def _begins(text: bytes, secret: bytes) -> bool:
    """Whether a text is the beginning of a secret, possibly escaped."""
    at = 0
    for letter in secret:
        if at >= len(text):
            return True
        if text[at] == letter:
            at += 1
            continue
        escape = b"\\u%04x" % letter
        piece = text[at : at + len(escape)].lower()
        if not escape.startswith(piece):
            return False
        at += len(escape)
    return at > len(text)
