"""Texts that a page must show as they are: markup, script, hidden characters, very long lines."""

from __future__ import annotations

__all__ = ["HOSTILE"]

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "'; alert(1); //",
    "javascript:alert(1)",
    "</pre></title><script>alert(1)</script>",
    "\u202egnp.exe",
    "left \u2066inside\u2069 right",
    "nul \x00 inside",
    "\x1b[2J\x1b]0;title\x07",
    "{{ 7 * 7 }} {% raw %} ${7*7} #{7*7}",
    "&lt;script&gt; &amp; &#x3c;",
    "zero\u200bwidth \ufeff mark \u2028 line",
    "<base href=//evil.example> <meta http-equiv=refresh content=0;url=//evil.example>",
    "[link](javascript:alert(1)) ![image](http://evil.example/x.png)",
    "../../etc/passwd",
    "a" * 3_000,
    "\r\nset-cookie: a=b\r\n\r\n",
    "x" * 200_000,
)
