"""Rigs for tests that run the whole product."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Callable[..., Rig]:
    """Makes the folder of a user with a job ready to run."""

    def make(**settings: Any) -> Rig:
        return Rig(tmp_path, **settings)

    return make
