"""Prices that come with the product, for models that the installed price list does not know yet."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from orchestrator.policy.pricing.price_rules import PriceRules

__all__ = ["unlisted_prices"]

_FILE = "unlisted_models.yaml"
_SOURCE = "orchestrator"


@cache
def unlisted_prices() -> PriceRules:
    """Returns the rules of the file; its date is their version."""
    # Loaded when a model is not in the price list, which is rare.
    from ruamel.yaml import YAML

    from orchestrator.policy.pricing.price_file import PriceFile

    text = resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    dated = re.search(r"^# as of: (\S+)$", text, re.MULTILINE)
    if dated is None:
        raise ValueError(f"{_FILE} does not say of which day its prices are")
    return PriceFile.model_validate(YAML(typ="safe", pure=True).load(text)).rules(
        source=_SOURCE, version=dated.group(1)
    )
