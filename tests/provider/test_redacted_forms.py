"""A key is removed however a server writes it."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest

from orchestrator.provider.redaction import Redaction

KEY = "sk-canary_+/=&<4567890"
FORMS = {
    "raw": KEY,
    "JSON": json.dumps(KEY),
    "escaped": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "slashes": KEY.replace("/", "\\/"),
    "quoted": quote(KEY, safe=""),
    "quoted plus": quote_plus(KEY),
    "quoted in small letters": quote(KEY, safe="").lower(),
    "page": KEY.replace("&", "&amp;").replace("<", "&lt;"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_in_any_form_is_redacted(form: str) -> None:
    body = f'{{"error": {{"message": "wrong key: {FORMS[form]}, try another"}}}}'.encode()
    said = Redaction([KEY.encode()]).redact(body).decode()
    assert "canary" not in said
    assert "[redacted]" in said
    assert "try another" in said
