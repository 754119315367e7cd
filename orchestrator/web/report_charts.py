"""The charts of reports: each a Vega-Lite specification, drawn by vl-convert if that is installed (extra ``report``).

A drawing has no script, no address and no identifier. Its colors are those of the light view; the style sheet of the
report replaces them in the dark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, TypeAlias

from markupsafe import Markup

from orchestrator.web.report_figures import Bin, Interval

__all__ = ["AMBER", "BLUE", "RED", "can_draw", "drawn", "latency_chart", "nights_chart", "time_charts"]

Spec: TypeAlias = dict[str, Any]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_VEGA_LITE = "5.21"
_WIDTH, _HEIGHT = 470, 120
_INK, _MUTED, _LINE = "#1b1d21", "#5a6069", "#e2e3e1"
BLUE, _GREEN, RED, AMBER = "#2f66d8", "#1d7d4c", "#c2352b", "#8f5600"
_PUSD = 10**12
_TIMES = (("%H:%M:%S", 600), ("%H:%M", 86_400), ("%b %d %H:%M", 4 * 86_400))
_STYLE: Mapping[str, Any] = {
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": _LINE, "gridColor": _LINE, "tickColor": _LINE,
        "labelColor": _MUTED, "labelFontSize": 10, "labelOverlap": True, "labelFlush": True, "title": None,
    },
    "legend": {
        "orient": "top", "title": None, "labelColor": _INK, "offset": 4,
        "symbolType": "stroke", "symbolStrokeWidth": 3,
    },
}  # fmt: skip


def can_draw() -> bool:
    """Whether charts can be drawn here."""
    return find_spec("vl_convert") is not None


def drawn(spec: Spec, title: str) -> Markup:
    """A chart as SVG to stand in a page."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=_VEGA_LITE)
    _, _, inside = svg.partition(">")
    box = svg.partition('viewBox="')[2].partition('"')[0]
    head = Markup('<svg role="img" aria-label="{}" class="chart" viewBox="{}">').format(title, box)
    # What draws it has escaped the texts inside.
    return head + Markup(inside)  # noqa: S704


def time_charts(intervals: Sequence[Interval], budget_pusd: int | None) -> dict[str, Spec]:
    """What a run did over time, by the titles of the charts."""
    rows = [
        {
            "at": _milliseconds(each.end),
            "settled": each.all_settled,
            "failed": each.all_failed,
            "in flight": each.in_flight,
            "rate": round(each.a_minute(each.settled), 3),
            "polls": round(each.a_minute(each.polls), 3),
            "429s": round(each.a_minute(each.rate_limited), 3),
            "cost": each.cost_pusd / _PUSD,
        }
        for each in intervals
    ]
    budget = [] if budget_pusd is None else [_budget_line(budget_pusd / _PUSD)]
    cost = f"Cost in dollars{', budget as a line' if budget else ''}"
    return {
        "Rows settled, failed and in flight": _lines(rows, {"settled": _GREEN, "failed": RED, "in flight": BLUE}),
        "Rows settled a minute": _area(rows, "rate", _GREEN),
        "Polls and 429s a minute": _lines(rows, {"polls": BLUE, "429s": AMBER}),
        cost: {**_frame(rows), "layer": [_area_layer(rows, "cost", BLUE), *budget]},
    }


def latency_chart(bins: Sequence[Bin], marks: Mapping[str, float]) -> Spec:
    """How long rows took, on a scale of equal ratios, with percentiles as lines."""
    rows = [{"low": max(each.low, each.high / 1.3), "high": each.high, "rows": each.rows} for each in bins]
    scale = {"type": "log", "nice": False, "domain": [rows[0]["low"], rows[-1]["high"]]}
    lines = {"values": [{"name": name, "at": max(value, rows[0]["low"])} for name, value in marks.items()]}
    x = {"field": "at", "type": "quantitative", "scale": scale}
    axis = {"labelExpr": "datum.value + ' s'", "grid": False}
    bars = {
        "mark": {"type": "bar", "color": BLUE, "binSpacing": 1},
        "encoding": {
            "x": {"field": "low", "type": "quantitative", "scale": scale, "axis": axis},
            "x2": {"field": "high"},
            "y": {"field": "rows", "type": "quantitative", "axis": {"tickCount": 4, "tickMinStep": 1}},
            "y2": {"datum": 0},
        },
    }
    rules = {"data": lines, "mark": {"type": "rule", "color": _INK, "strokeDash": [3, 3]}, "encoding": {"x": x}}
    names = {
        "data": lines,
        "mark": {"type": "text", "color": _INK, "y": -6, "fontSize": 10},
        "encoding": {"x": x, "text": {"field": "name"}},
    }
    return {**_frame(rows), "layer": [bars, rules, names]}


def nights_chart(nights: Sequence[Mapping[str, Any]], fields: Mapping[str, str]) -> Spec:
    """Numbers of nights as bars, the oldest first; ``fields`` are the numbers and their colors."""
    rows = [
        {"place": place, "what": name, "number": night[name]} for place, night in enumerate(nights) for name in fields
    ]
    return {
        **_frame(rows),
        "mark": {"type": "bar"},
        "encoding": {
            "x": {"field": "place", "type": "ordinal", "axis": {"labels": False, "ticks": False}},
            "y": {"field": "number", "type": "quantitative", "axis": {"tickCount": 4}},
            "color": _colors(fields) if len(fields) > 1 else {"value": next(iter(fields.values()))},
        },
    }


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _frame(rows: Sequence[Mapping[str, Any]]) -> Spec:
    data = {"values": list(rows)}
    return {"$schema": _SCHEMA, "width": _WIDTH, "height": _HEIGHT, "config": _STYLE, "data": data}


def _time(rows: Sequence[Mapping[str, Any]]) -> Spec:
    """The axis of times, as precise as the run is short."""
    span = (rows[-1]["at"] - rows[0]["at"]) / 1000 if rows else 0
    form = next((form for form, most in _TIMES if span < most), "%b %d")
    axis = {"grid": False, "tickCount": 6, "format": form}
    return {"field": "at", "type": "temporal", "scale": {"type": "utc"}, "axis": axis}


def _number(field: str) -> Spec:
    form = "~g" if field == "cost" else "~s"
    # Without it, zero has the prefix of the others.
    axis = {"tickCount": 4, "format": form, "labelExpr": "datum.value == 0 ? '0' : datum.label"}
    return {"field": field, "type": "quantitative", "axis": axis, "scale": {"domainMin": 0}}


def _area(rows: Sequence[Mapping[str, Any]], field: str, color: str) -> Spec:
    return {**_frame(rows), "layer": [_area_layer(rows, field, color)]}


def _area_layer(rows: Sequence[Mapping[str, Any]], field: str, color: str) -> Spec:
    mark = {"type": "area", "color": color, "fillOpacity": 0.22, "line": {"color": color, "strokeWidth": 1.5}}
    return {"mark": mark, "encoding": {"x": _time(rows), "y": _number(field)}}


def _lines(rows: Sequence[Mapping[str, Any]], fields: Mapping[str, str]) -> Spec:
    return {
        **_frame(rows),
        "transform": [{"fold": list(fields), "as": ["what", "number"]}],
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {"x": _time(rows), "y": _number("number"), "color": _colors(fields)},
    }


def _colors(fields: Mapping[str, str]) -> Spec:
    return {"field": "what", "type": "nominal", "scale": {"domain": list(fields), "range": list(fields.values())}}


def _budget_line(budget: float) -> Spec:
    return {"mark": {"type": "rule", "color": RED, "strokeDash": [4, 3]}, "encoding": {"y": {"datum": budget}}}


def _milliseconds(at: float) -> int:
    return int(datetime.fromtimestamp(at, UTC).timestamp() * 1000)
