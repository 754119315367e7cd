"""Words and phrases that the project no longer uses, each with what stands in its place.

The glossary (``docs/reference/glossary.md``) defines the words that it does use. A pattern is matched against prose
with underscores read as spaces and against the words of identifiers, so ``\\blook\\b`` finds ``_look`` and
``LookAgain``. Patterns are narrow on purpose: "look up", "keep" and "equal to" are ordinary English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["OLD_WORDS", "OldWord"]


@dataclass(frozen=True)
class OldWord:
    """A pattern and the words to use instead; ``only_names`` applies it to identifiers and file names alone."""

    pattern: re.Pattern[str]
    instead: str
    only_names: bool = False


def _word(pattern: str, instead: str) -> OldWord:
    return OldWord(_compiled(pattern), instead)


def _name(pattern: str, instead: str) -> OldWord:
    return OldWord(_compiled(pattern), instead, only_names=True)


def _compiled(pattern: str) -> re.Pattern[str]:
    # A phrase may be broken by the end of a line, in comments too.
    across_lines = pattern.replace(" ", r"[\s#]+")
    return re.compile(rf"\b(?:{across_lines})\b", re.IGNORECASE)


_A = "(?:a|an|the|each|every|one|two|no|any|first|last|next|late|further|single|more|[0-9]+)"

OLD_WORDS: Sequence[OldWord] = (
    # The field's own words.
    _word(f"{_A} looks?|looks that come|between looks", "poll"),
    _word("look(?:s|ed|ing)? at (?:(?:the|a|an|each|every|open|its|one) )?(?:responses?|again)", "poll"),
    _word("looked at (?:when|again|until|as soon|early|late|once)|look again", "poll"),
    _name("look(?!s? up| behind| ahead)(?:s|ed|ing)?", "poll"),
    _word("bounc(?:e|es|ed|ing)", "rate-limited"),
    _word("crews?", "worker pool"),
    _word("learnt|unlearnt", "learned"),
    _word("lessons?", "snapshot, learned state"),
    _word("reckon(?:s|ed|ing)?", "price, compute, estimate; settle a late cost"),
    _word("booked", "reported"),
    _word("book ?keeping", "reconcile"),
    _word("checkups?", "doctor, dry run"),
    _word("fates?", "settlement, fault plan"),
    _word("upkeep", "housekeeping"),
    _word("shortfalls?", "incomplete answer"),
    _word("stor(?:y|ies)", "request history"),
    _word("followers?", "dependent, live tail"),
    _word("equal (?:rows?|requests?)", "duplicate"),
    _word("(?:its|their|no|other|has|have|find|of) equals", "duplicates"),
    _name("equals", "duplicates"),
    _name("mistakes?", "validation problem"),
    _name("keepers?", "retention store"),
    _name("flow", "run status"),
    _name("actors?|acting", "tool runner, awaiting tools"),
    _name("came", "reply"),
    _name("denials?", "API error"),
    _name("parting", "verdict after cancel"),
    _name("let go", "grace expired"),
    _word("tool ?box(?:es)?", "function tools"),
    # Words that an engineer would not search for.
    _word("anew", "again"),
    _word("whoever|whomever", "name the role: the caller, the user, the process"),
    _word("whatever becomes|what(?:ever)? (?:becomes|became|become|has become) of", "how it ended"),
    _word("mend(?:s|ed|ing)?", "fix, repair"),
    _word("dear(?:er|est|ly)?", "expensive"),
    _word("nobody", "no process, no one"),
    _word("is a pity|a pity", "say what is lost"),
    _word("patience|be patient|patiently", "timeout"),
    _word("unheard|hears?|heard|hearing", "observe, receive"),
    _word("tells?|told|telling", "report, say, print; distinguish"),
    _word("luck|lucky|luckily", "drawn faults"),
    _word("dribbl(?:e|es|ed|ing)", "trickle, slow reply"),
    _word("blot(?:s|ted)?(?: out)?", "redact"),
    _word("without an end", "no upper bound"),
    _word("go(?:es)? before (?:it|them|those|the)|go(?:es)? before", "take precedence"),
    _word("where there (?:is|are) none", "if there is none"),
    _word("so (?:many|much) (?:[a-z]+ ){0,3}at (?:the )?most|so many at most", "at most N"),
    _word("(?:is|are|was|were) to be", "must, will"),
    _word("go(?:es)? on|went on|gone on", "continue, resume"),
)
