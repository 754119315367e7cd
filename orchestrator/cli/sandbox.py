"""``sandbox``: the rehearsal provider as a server of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from orchestrator.cli.output import say
from orchestrator.core.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.sandbox.sandbox_settings import SandboxSettings

__all__ = ["sandbox"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SandboxOptions:
    """The options of ``sandbox``, in the order of its help page."""

    port: Annotated[
        int, Parameter(metavar="N", show_default=True, help="The port to listen on; 0 takes a free one.")
    ] = 8089
    host: Annotated[str, Parameter(metavar="ADDRESS", show_default=True, help="The address to listen on.")] = (
        "127.0.0.1"
    )
    allow_remote: Annotated[bool, Parameter(help="Listen where other machines can reach it, too.")] = False
    state: Annotated[
        Path | None,
        Parameter(metavar="FILE", help="Keep responses and ledger in this SQLite file, across restarts."),
    ] = None
    config: Annotated[
        Path | None, Parameter(metavar="FILE", help="Take the settings under provider.sandbox of a config file.")
    ] = None
    seed: Annotated[
        int | None, Parameter(metavar="N", help="The seed of everything random; the same seed repeats it.")
    ] = None
    fault: Annotated[
        list[str] | None,
        Parameter(metavar="NAME=RATE", help="Play a fault at a rate from 0 to 1 (repeatable)."),
    ] = None
    faults: Annotated[bool, Parameter(help="List the faults and end.")] = False


def sandbox(*, options: Annotated[SandboxOptions, Parameter(name="*")] = SandboxOptions()) -> None:
    """Serve a simulated Responses API: no key, no cost.

    Give its address as base_url to anything that speaks the API. GET /_ledger returns what it counted.
    """
    if options.faults:
        _list_faults()
        return
    from orchestrator.sandbox.server.serve import serve

    settings = _settings(options.config, options.seed, options.fault or ())
    serve(
        settings,
        host=options.host,
        port=options.port,
        state_file=options.state,
        allow_remote=options.allow_remote,
    )


def _settings(config: Path | None, seed: int | None, faults: Sequence[str]) -> SandboxSettings:
    from pydantic import ValidationError

    from orchestrator.config import load_config
    from orchestrator.sandbox.sandbox_settings import SandboxSettings

    base = (load_config(config).provider.sandbox if config else None) or SandboxSettings()
    changes = base.model_dump()
    if seed is not None:
        changes["seed"] = seed
    changes["faults"].update(_rates(faults, known=list(changes["faults"])))
    try:
        return SandboxSettings.model_validate(changes)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {first['msg']}", hint="orchestrator sandbox --faults") from None


def _rates(texts: Sequence[str], *, known: Sequence[str]) -> dict[str, float]:
    rates = {}
    for text in texts:
        name, _, rate = text.partition("=")
        if name not in known:
            from difflib import get_close_matches

            close = get_close_matches(name, known, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(
                f"--fault {text}: no fault is called {name!r}{meant}", hint="orchestrator sandbox --faults"
            )
        try:
            rates[name] = float(rate)
        except ValueError:
            raise UsageError(f"--fault {text}: write it as name=rate, such as {name}=0.02") from None
    return rates


def _list_faults() -> None:
    from rich.text import Text

    from orchestrator.sandbox.sandbox_settings import fault_table

    text, title = Text(), ""
    for group, name, meaning in fault_table():
        if group != title:
            text.append(f"{'' if not title else chr(10)}{group}\n", "bold")
            title = group
        text.append(f"  {name:<22}", "cyan")
        text.append(f"{meaning}\n")
    text.rstrip()
    say(text)
