"""``plan``: shows the stages of a job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from orchestrator.cli.options import ConfigFile, JobFile, Json
from orchestrator.cli.output import say, say_json
from orchestrator.cli.session import find_places, read_config

__all__ = ["plan"]


async def plan(
    job: JobFile,
    /,
    *,
    as_: Annotated[
        Literal["text", "mermaid"],
        Parameter(name="--as", help="A tree for a terminal, or a Mermaid diagram for a page; text without it."),
    ] = "text",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show the stages of a job: what each makes of which rows, and what it asks.

    Reads the job file only; nothing is sent.
    """
    from rich.text import Text

    from orchestrator.job.spec import load_job
    from orchestrator.report.diagram import diagram_mermaid, diagram_object, diagram_text

    places = find_places(None, config, os.environ, Path.cwd())
    allowed = read_config(places)[0].allow_modules if places.config is not None else ()
    spec = load_job(job, allow_modules=allowed)
    if json:
        say_json(diagram_object(spec))
    else:
        # As text, so that no bracket in it is taken for markup.
        say(Text(diagram_mermaid(spec) if as_ == "mermaid" else diagram_text(spec)))
