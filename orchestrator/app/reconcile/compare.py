"""Holds the charges of a database against the provider's own account, read from a file or fetched."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.app.connections import open_organization
from orchestrator.app.reconcile.matching import OwnDay, Reconciliation, Tokens, reconcile
from orchestrator.config import Config
from orchestrator.core.errors import ProviderUnreachable, UsageError
from orchestrator.core.problems import NeverSent, Refused, ReplyLost
from orchestrator.provider.organization import UnreadableAccount, read_account
from orchestrator.provider.provider_account import ProviderAccount
from orchestrator.stores.reads import CostRow

__all__ = ["compare"]


async def compare(charged: Sequence[CostRow], config: Config, *, account: bytes | None) -> Reconciliation:
    """Charges by day and model against the account; without one, the days of the charges are fetched."""
    own = [_own_day(row) for row in charged]
    if account is not None:
        try:
            return reconcile(own, read_account(account))
        except UnreadableAccount as error:
            raise UsageError(
                f"this is no account of the provider's: {error}",
                hint="it takes what GET /organization/costs or /organization/usage/completions answers",
            ) from None
    if not own:
        raise UsageError("nothing was charged yet, so there is nothing to compare")
    days = [each.day for each in own]
    return reconcile(own, await _fetched(config, min(days), max(days)))


async def _fetched(config: Config, first_day: str, last_day: str) -> ProviderAccount:
    async with open_organization(config) as client:
        answer = await client.account(first_day, last_day)
    match answer:
        case ProviderAccount():
            return answer
        case Refused(status=status):
            raise UsageError(
                f"the provider refuses its account with HTTP {status}",
                hint=f"it takes an admin key of the organisation, in {config.provider.admin_key_env}; or give a file",
            )
        case NeverSent(reason=reason) | ReplyLost(reason=reason):
            raise ProviderUnreachable(f"the provider's account cannot be read: {reason}")


def _own_day(row: CostRow) -> OwnDay:
    day, model = row.group
    return OwnDay(
        day=day,
        model=model,
        tokens=Tokens(
            requests=row.responses,
            input_tokens=row.usage.input_tokens,
            cached_tokens=row.usage.cached_tokens,
            output_tokens=row.usage.output_tokens,
        ),
        cost_pusd=row.cost_pusd,
        unknown=row.cost_unknown,
        bound=row.unknown_bound,
        estimated_pusd=row.estimated_pusd,
    )
