"""How large the requests of a job are, as far as their cost depends on it: counted, estimated, or sampled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from orchestrator.core import exact_json
from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.policy.pricing.tokens import TokenCounter, estimate_input, may_write_12h, upper_bound_tokens

__all__ = ["Counting", "Measured", "RequestSize", "Ruler"]

# The provider reads a beginning that requests share from its cache from this length on (responses API, "Cost").
_LEAST_CACHED = 1_024
# The sum of a sample lies within this many standard errors of the true one.
_ERRORS = 3.0


class Counting(StrEnum):
    """How input tokens were counted."""

    PROVIDER = "provider"
    PROVIDER_SAMPLE = "provider-sample"
    VOCABULARY = "o200k"
    OTHER_VOCABULARY = "o200k-for-another-model"
    HEURISTIC = "heuristic"

    def error(self, request_tokens: float) -> float:
        """The share by which the sum over requests of this length may be wrong: of the text, and of its framing."""
        share, framing = _COUNTING_ERRORS[self]
        return share + framing / request_tokens if request_tokens else share


_COUNTING_ERRORS = {
    Counting.PROVIDER: (0.0, 0.0),
    Counting.PROVIDER_SAMPLE: (0.02, 0.0),
    Counting.VOCABULARY: (0.01, 1.0),
    Counting.OTHER_VOCABULARY: (0.15, 2.0),
    Counting.HEURISTIC: (0.10, 5.0),
}


@fast_dataclass
class RequestSize:
    """What decides the cost of one request. ``shared_tokens`` are those that it begins with like other requests."""

    model: str
    tier: str | None
    window: str | None
    input_tokens: int
    shared_tokens: int
    max_output_tokens: int | None
    # Whether more input comes than the request shows: what hosted tools find, files, earlier turns.
    open_ended: bool = False
    # Whether it may write to the cache for twelve hours, which costs more.
    writes_12h: bool = False
    # By which an earlier run's answer is found, if answers are reused.
    fingerprint: bytes | None = None


class Ruler:
    """Measures requests one after the other."""

    def __init__(self, counter: TokenCounter | None = None) -> None:
        self._counter = counter
        self._first: str | None = None
        self._before = ""

    def measure(self, fields: Mapping[str, Any]) -> RequestSize:
        """The size of a request; ``fields`` is the body of ``POST /v1/responses``."""
        tokens = estimate_input(fields, self._counter)
        options = fields.get("background_options")
        return RequestSize(
            model=str(fields.get("model") or ""),
            tier=_text(fields.get("service_tier")),
            window=_text(options.get("completion_window")) if isinstance(options, Mapping) else None,
            input_tokens=tokens,
            shared_tokens=self._shared(fields, tokens),
            max_output_tokens=_count(fields.get("max_output_tokens")),
            open_ended=upper_bound_tokens(fields) is None,
            writes_12h=may_write_12h(fields),
        )

    def _shared(self, fields: Mapping[str, Any], tokens: int) -> int:
        """The tokens that the request has in common with the first or the last one, from its beginning on."""
        prompt = exact_json.dumps([fields.get("tools"), fields.get("instructions"), fields.get("input")]).decode()
        length = 0 if self._first is None else max(_alike(self._first, prompt), _alike(self._before, prompt))
        self._first, self._before = self._first or prompt, prompt
        shared = tokens * length // len(prompt)
        return shared if shared >= _LEAST_CACHED else 0


@fast_dataclass
class Measured:
    """The requests of a job: all of them, or a sample that stands for all ``rows``.

    ``rows_error`` is the share by which the number of rows may be wrong if it was not counted; ``correction`` is
    what the provider counts for each token counted here.
    """

    sizes: Sequence[RequestSize]
    rows: int
    counting: Counting
    rows_error: float = 0.0
    correction: float = 1.0

    @property
    def scale(self) -> float:
        """How many rows each measured request stands for."""
        return self.rows / len(self.sizes) if self.sizes else 0.0

    @property
    def error(self) -> float:
        """The share by which a sum over the input may be wrong."""
        mean = sum(size.input_tokens for size in self.sizes) / max(1, len(self.sizes))
        return self.counting.error(mean) + self.rows_error + _sampling_error(self.sizes, self.rows)


def _sampling_error(sizes: Sequence[RequestSize], rows: int) -> float:
    """The share by which a sample's sum may differ from that of all rows."""
    number = len(sizes)
    if number >= rows or number == 0:
        return 0.0
    mean = sum(size.input_tokens for size in sizes) / number
    if mean == 0 or number == 1:
        return 1.0
    variance = sum((size.input_tokens - mean) ** 2 for size in sizes) / (number - 1)
    return _ERRORS * math.sqrt(variance * (1 - number / rows) / number) / mean


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
