"""``doctor``: checks whether everything is in place for a run."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from orchestrator.cli.options import ConfigFile, Database, Json, Sandbox
from orchestrator.cli.output import say, say_json
from orchestrator.cli.session import opened
from orchestrator.core.errors import ExitCode

__all__ = ["doctor"]

# The checks of what a server supports.
LANES = frozenset({"provider", "model", "create", "background", "polling", "cancel", "delete", "stream", "tokens"})


async def doctor(
    *,
    sandbox: Sandbox = False,
    db: Database = None,
    config: ConfigFile = None,
    model: Annotated[str | None, Parameter(metavar="NAME", help="Try two small requests to this model.")] = None,
    lanes: Annotated[bool, Parameter(help="Show only what the server supports.")] = False,
    json: Json = False,
) -> int:
    """Check whether everything is in place for a run.

    Checks Python, SQLite, the database, the config, the key (which is never shown) and the provider. Two small
    requests, which are free or cost less than a tenth of a cent, show what the server supports.
    """
    async with opened(db, config, sandbox=sandbox) as orchestrator:
        findings = await orchestrator.doctor(model=model)
    if lanes:
        findings = [each for each in findings if each.name in LANES or not each.ok]
    well = all(finding.ok for finding in findings)
    if json:
        fields = ("name", "ok", "detail", "hint")
        say_json({"ok": well, "findings": [{name: getattr(each, name) for name in fields} for each in findings]})
        return ExitCode.OK if well else ExitCode.USAGE
    text = Text()
    for finding in findings:
        text.append("ok    " if finding.ok else "FAIL  ", "green" if finding.ok else "red")
        text.append(f"{finding.name:<10}  {finding.detail}\n")
        if finding.hint:
            text.append(f"{'':18}{finding.hint}\n", "dim")
    text.rstrip()
    say(text)
    return ExitCode.OK if well else ExitCode.USAGE
