"""Servers that mean some errors differently than the rest, by the name to write as ``provider.profile``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from orchestrator.policy.errors.error_rules import Action, Override, Phase

__all__ = ["PROFILES", "Profile", "overrides_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of server, and the errors that it means differently."""

    about: str
    overrides: tuple[Override, ...] = ()


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "openai": Profile(about="OpenAI, and everything that answers as it does."),
        "ogx": Profile(
            about="OGX (formerly llama-stack): a full queue is answered with HTTP 400 and no code.",
            overrides=(Override(action=Action.BOUNCE, status=400, text="queue is full"),),
        ),
        "litellm": Profile(
            about="LiteLLM proxy: a response that it does not know is answered with HTTP 400 rather than 404.",
            overrides=(Override(action=Action.MISSING, status=400, met=Phase.LOOK),),
        ),
    }
)


def overrides_for(profile: str, own: Sequence[Override] = ()) -> tuple[Override, ...]:
    """The user's own overrides, then those of the profile; raises ``KeyError`` for a profile that is not shipped."""
    return (*own, *PROFILES[profile].overrides)
