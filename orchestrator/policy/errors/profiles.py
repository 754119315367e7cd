"""Servers that use some errors differently, by the name given as ``provider.profile``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.policy.errors.error_rules import Action, Override, Phase

__all__ = ["PROFILES", "Profile", "overrides_for"]


@fast_dataclass
class Profile:
    """One kind of server, and the rules for the errors that it uses differently."""

    about: str
    overrides: tuple[Override, ...] = ()


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "openai": Profile(about="OpenAI, and every server that answers like it."),
        "ogx": Profile(
            about="OGX (formerly llama-stack): answers HTTP 400 without a code if its queue is full.",
            overrides=(Override(action=Action.FULL, status=400, text="queue is full"),),
        ),
        "litellm": Profile(
            about="LiteLLM proxy: answers HTTP 400 instead of 404 for an unknown response that is not its own.",
            overrides=(Override(action=Action.MISSING, status=400, text="not found", phase=Phase.POLL),),
        ),
    }
)


def overrides_for(profile: str, own: Sequence[Override] = ()) -> tuple[Override, ...]:
    """Returns the user's overrides, then those of the profile; raises ``KeyError`` for an unknown profile."""
    return (*own, *PROFILES[profile].overrides)
