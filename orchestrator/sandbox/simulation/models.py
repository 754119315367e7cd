"""The models that the sandbox knows: names and sizes of real models, and a few that each simulate one behavior."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.sandbox.faults.api_errors import error_reply

__all__ = ["RESERVED", "Catalogue", "Model"]


@fast_dataclass(kw_only=False)
class Model:
    """One model; ``snapshot`` is the dated name that responses echo, sizes are in tokens."""

    name: str
    snapshot: str
    context: int
    max_output: int
    reasoning: bool = False
    # Whether tokens written to the prompt cache are counted and billed separately.
    cache_writes: bool = False


# Each of these names simulates one behavior, whatever the settings say.
RESERVED = {
    "sandbox-slow": "Every response runs for ``slow_run_s`` seconds.",
    "sandbox-rate-limited": "Every create is answered with 429 ``rate_limit_exceeded``.",
    "sandbox-failed": "Every response ends ``failed`` with ``server_error``.",
    "sandbox-incomplete": "Every response is cut off at ``max_output_tokens``, with half of the answer.",
    "sandbox-refusal": "Every response is a refusal.",
}

# Name, snapshot date, context and largest output in thousands of tokens, "r" reasoning, "w" cache writes billed.
# Dates are the published ones if the price data has them, else made up.
_REAL = """
gpt-6.2-sol            2026-11-17  922 128 rw
gpt-6.2-astra          2026-11-17  922 128 rw
gpt-6-astra            2026-10-06  922 128 rw
gpt-6.1-sol            2026-11-03  922 128 rw
gpt-6.1-terra          2026-11-03  922 128 rw
gpt-6-sol              2026-09-22  922 128 rw
gpt-6-luna             2026-09-22  922 128 rw
gpt-5.6-sol            2026-07-14  922 128 rw
gpt-5.6-terra          2026-07-14  922 128 rw
gpt-5.6-luna           2026-07-14  922 128 rw
gpt-5.5                2026-04-23 1050 128 r
gpt-5.5-pro            2026-04-23 1050 128 r
gpt-5.4                2026-03-05 1050 128 r
gpt-5.4-pro            2026-03-05 1050 128 r
gpt-5.4-mini           2026-03-17  272 128 r
gpt-5.4-nano           2026-03-17  272 128 r
gpt-5.2                2025-12-11  272 128 r
gpt-5.1                2025-11-13  272 128 r
gpt-5                  2025-08-07  272 128 r
gpt-5-mini             2025-08-07  272 128 r
gpt-5-nano             2025-08-07  272 128 r
gpt-5-pro              2025-10-06  272 128 r
gpt-4.1                2025-04-14 1050  32 -
gpt-4.1-mini           2025-04-14 1050  32 -
gpt-4.1-nano           2025-04-14 1050  32 -
gpt-4o                 2024-08-06  128  16 -
gpt-4o-mini            2024-07-18  128  16 -
o3                     2025-04-16  200 100 r
o3-pro                 2025-06-10  200 100 r
o4-mini                2025-04-16  200 100 r
o3-deep-research       2025-06-26  200 100 r
o4-mini-deep-research  2025-06-26  200 100 r
"""
_ALIASES = {"gpt-5.6": "gpt-5.6-sol"}
_DATE = re.compile(r"-\d{4}-\d\d-\d\d$")


def _real_models() -> Iterable[Model]:
    for line in _REAL.split("\n")[1:-1]:
        name, date, context, output, flags = line.split()
        yield Model(
            name=name,
            snapshot=f"{name}-{date}",
            context=int(context) * 1000,
            max_output=int(output) * 1000,
            reasoning="r" in flags,
            cache_writes="w" in flags,
        )


class Catalogue:
    """The models by name; ``extra`` names are accepted too, as plain models without a known price."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._by_name = {model.name: model for model in _real_models()}
        for name in (*RESERVED, *extra):
            self._by_name[name] = Model(name, name, context=1_000_000, max_output=128_000)

    def find(self, name: str) -> Model | None:
        """The model of a name, an alias or a dated snapshot (any date is accepted and echoed); None if unknown."""
        known = self._by_name.get(_ALIASES.get(name, name))
        if known is not None:
            return known
        family = self._by_name.get(_DATE.sub("", name)) if _DATE.search(name) else None
        if family is None or family.snapshot == family.name:
            return None
        return Model(name, name, family.context, family.max_output, family.reasoning, family.cache_writes)

    def get(self, name: str) -> Model:
        """The model of a name; raises ``ErrorReply`` (404 ``model_not_found``) if it is unknown."""
        model = self.find(name)
        if model is None:
            message = f"The model `{name}` does not exist or you do not have access to it."
            raise error_reply(404, message, type="invalid_request_error", code="model_not_found", param="model")
        return model

    def names(self) -> list[str]:
        """Every name that a client may use, including aliases and snapshots."""
        names = {*self._by_name, *_ALIASES, *(model.snapshot for model in self._by_name.values())}
        return sorted(names)
