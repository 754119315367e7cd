"""From the object of a page to its HTML; every value is text, and hidden characters in it are made visible."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.core.money import format_usd, parse_usd
from orchestrator.core.version import __version__
from orchestrator.report import formatting
from orchestrator.web.page_addresses import query_of
from orchestrator.web.visible_text import finalize, shortened

__all__ = ["render"]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("orchestrator.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=formatting.count,
        duration=formatting.duration,
        when=formatting.date_time,
        rate=formatting.rate,
        usd=_usd,
        usd_short=_usd_short,
        words=lambda state: state.replace("_", " "),
        share=_share,
        wasted=_wasted,
        signed_usd=_signed_usd,
        cut=shortened,
        query=query_of,
        pusd=formatting.dollars,
    )
    environment.globals.update(version=__version__, style=_style)
    return environment


def render(template: str, values: Mapping[str, Any]) -> str:
    """Returns a page."""
    return _environment().get_template(template).render(values)


def _style(name: str) -> Markup:
    """A style sheet of the package, for a file that stands alone."""
    return Markup(files("orchestrator.web").joinpath("static", name).read_text(encoding="utf-8"))  # noqa: S704  # our own


def _usd(amount: str | None) -> str:
    return "not known" if amount is None else formatting.dollars(parse_usd(amount))


def _usd_short(amount: str | None) -> str:
    if amount is None:
        return "not known"
    pusd = parse_usd(amount)
    sign = "−" if pusd < 0 else ""
    return f"{sign}{formatting.short_dollars(abs(pusd))}" if pusd else "$0"


def _signed_usd(amount: str) -> str:
    pusd = parse_usd(amount)
    return f"{'−' if pusd < 0 else '+'}{formatting.dollars(abs(pusd))}"


def _wasted(sums: Mapping[str, Any]) -> str:
    """What attempts without an answer cost, of a row of ``costs --json``."""
    kinds = ("failed", "incomplete", "empty", "duplicate")
    return format_usd(sum(parse_usd(sums[f"wasted_{kind}_usd"]) for kind in kinds))


def _share(part: float, whole: float) -> str:
    """A share in percent for a width, with a point whatever the language; what is there is never invisible."""
    return f"{max(100 * part / whole, 0.4):.3f}" if whole and part else "0"
