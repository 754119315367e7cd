"""The file of a user's own prices: what it accepts and what it refuses."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.policy.pricing.price_file import PriceFile, file_version
from orchestrator.policy.pricing.price_rules import Fees, LongRate, PriceOverride, PriceRules, UnpricedTier


def rules(document: dict[str, Any]) -> PriceRules:
    return PriceFile.model_validate(document).rules(source="prices.yaml", version="sha256:0123")


def test_an_empty_file_changes_nothing() -> None:
    assert rules({}) == PriceRules(version="sha256:0123")


def test_a_file_with_all_fields() -> None:
    document = {
        "prices": [
            {
                "model": "gpt-5-mini",
                "tier": "fast",
                "effective_from": "2026-12-01",
                "input": 0.45,
                "cached": "0.045",
                "cache_write": Decimal("0.5"),
                "output": 4,
                "long": {"input": 1, "output": 2, "cached": 0.5, "cache_write": 1.5, "above": 200_000},
            },
            {"model": "llama-*", "input": 0, "output": 0},
            {"model": "gpt-5-mini", "tier": "standard:8h", "input": 0.1, "output": 1},
        ],
        "windows": {"8h": 0.6},
        "regional": {"gpt-6*": 1.1},
        "auto_tiers": ["default"],
        "unpriced_tier": "default",
        "fees": {"web_search": 0.02, "code_session": "0.12"},
    }
    assert rules(document) == PriceRules(
        overrides=(
            PriceOverride(
                model="gpt-5-mini",
                tier="priority",
                effective_from=date(2026, 12, 1),
                input=Decimal("0.45"),
                cached=Decimal("0.045"),
                cache_write=Decimal("0.5"),
                output=Decimal(4),
                long=LongRate(
                    input=Decimal(1),
                    output=Decimal(2),
                    cached=Decimal("0.5"),
                    cache_write=Decimal("1.5"),
                    above=200_000,
                ),
            ),
            PriceOverride(model="llama-*", input=Decimal(0), output=Decimal(0)),
            PriceOverride(model="gpt-5-mini", tier="default:8h", input=Decimal("0.1"), output=Decimal(1)),
        ),
        windows={"2h": Decimal("0.7"), "8h": Decimal("0.6")},
        regional={"gpt-6*": Decimal("1.1")},
        auto_tiers=("default",),
        unpriced_tier=UnpricedTier.DEFAULT,
        fees=Fees(web_search=20_000_000_000, code_session=120_000_000_000),
        version="sha256:0123",
    )


PRICE = {"model": "m", "input": 1, "output": 1}


@pytest.mark.parametrize(
    ("document", "where", "words"),
    [
        ({"prices": [{"model": "m", "input": 1}]}, ("prices", 0, "output"), "Field required"),
        ({"prices": [PRICE | {"ouput": 1}]}, ("prices", 0, "ouput"), "Extra inputs are not permitted"),
        ({"prices": [PRICE | {"input": -1}]}, ("prices", 0, "input"), "greater than or equal to 0"),
        ({"prices": [PRICE | {"input": True}]}, ("prices", 0, "input"), "must be a number"),
        ({"prices": [PRICE | {"input": "0.0000001"}]}, ("prices", 0, "input"), "at most 6 decimals"),
        ({"prices": [PRICE | {"input": "NaN"}]}, ("prices", 0, "input"), "finite"),
        ({"prices": [PRICE | {"model": ""}]}, ("prices", 0, "model"), "at least 1 character"),
        ({"prices": [PRICE | {"tier": "flexible"}]}, ("prices", 0, "tier"), "must be one of default, flex"),
        ({"prices": [PRICE | {"tier": "flex:8h"}]}, ("prices", 0, "tier"), "must be one of default, flex"),
        ({"prices": [PRICE | {"tier": "default:soon"}]}, ("prices", 0, "tier"), "must be one of default, flex"),
        ({"prices": [PRICE | {"tier": "auto"}]}, ("prices", 0, "tier"), "must be one of default, flex"),
        ({"prices": [PRICE | {"effective_from": "soon"}]}, ("prices", 0, "effective_from"), "valid date"),
        ({"prices": [PRICE, PRICE]}, (), "the price of m at tier default is given twice"),
        ({"windows": {"8h": 1.5}}, ("windows", "8h"), "less than or equal to 1"),
        ({"windows": {"8h": 0}}, ("windows", "8h"), "greater than 0"),
        ({"windows": {"eight": 0.5}}, ("windows", "eight", "[key]"), "pattern"),
        ({"fees": {"web_search": "0.0000000000001"}}, ("fees", "web_search"), "exact to 1e-12"),
        ({"auto_tiers": ["batch"]}, ("auto_tiers", 0), "Input should be 'default'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(
    document: dict[str, Any], where: tuple[str | int, ...], words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        PriceFile.model_validate(document)
    (error,) = caught.value.errors()
    assert error["loc"] == where
    assert words in error["msg"]


def test_the_version_of_a_file_is_the_start_of_its_sha256sum() -> None:
    assert file_version(b"prices: []\n") == "sha256:" + sha256(b"prices: []\n").hexdigest()[:16]


def test_the_defaults_of_the_file_are_those_of_the_rules() -> None:
    assert PriceFile().fees.fees() == Fees()


def test_every_field_is_described() -> None:
    schema = PriceFile.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for name, field in section.get("properties", {}).items():
            assert "description" in field, name
