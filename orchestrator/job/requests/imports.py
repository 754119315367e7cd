"""Finds what a job names as ``package.module:name`` in the user's own Python code."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from importlib import import_module
from inspect import isclass, isroutine
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.job.documents.validation_problems import did_you_mean

__all__ = ["CannotImport", "imported"]

_REFERENCE = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)")


class CannotImport(ValueError):
    """The name leads to nothing, or its module cannot be imported."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def imported(reference: str, folder: Path, *, allowed: Collection[str] | None = None) -> Any:
    """What ``package.module:name`` names, imported; raises ``CannotImport``.

    A job file is text that may come from anyone, so it may name only modules in ``folder`` (its own), and those that
    the config allows: these names, and what is inside packages of these names. None allows all.
    Modules are looked for in ``folder`` (the job file's), then in the working directory, then where Python looks
    anyway. The two folders stay on ``sys.path``: what the module imports later must be found there as well.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise CannotImport("must be package.module:name", "a colon stands between the module and the name in it")
    if allowed is not None:
        _refuse_foreign(found["module"], folder, allowed)
    module = _module(found["module"], folder)
    value: Any = module
    for name in found["name"].split("."):
        if not hasattr(value, name):
            public = [each for each in vars(value) if not each.startswith("_")] if hasattr(value, "__dict__") else []
            raise CannotImport(f"{found['module']} has no {found['name']}", did_you_mean(name, public))
        value = getattr(value, name)
        if allowed is not None and isinstance(value, ModuleType):
            raise CannotImport(
                f"{name} is a module that {found['module']} imports", "name a function or a class of yours"
            )
    if allowed is not None and (isroutine(value) or isclass(value)):
        # What a module merely imports, such as subprocess.run, is as foreign as its own module.
        _refuse_foreign(str(getattr(value, "__module__", None) or "builtins"), folder, allowed)
    return value


def _refuse_foreign(module: str, folder: Path, allowed: Collection[str]) -> None:
    if _is_in(folder, module.partition(".")[0]):
        return
    parts = module.split(".")
    if not any(".".join(parts[: length + 1]) in allowed for length in range(len(parts))):
        raise CannotImport(
            f"there is no module {module} beside the job file",
            f"put it beside the job file, or allow code from elsewhere in the config: allow_modules: [{parts[0]}]",
        )


def _is_in(place: Path, root: str) -> bool:
    return (place / root).is_dir() or (place / f"{root}.py").is_file()


def _module(name: str, folder: Path) -> Any:
    places = [folder.resolve(), Path.cwd()]
    for place in reversed(places):
        if str(place) in sys.path:
            sys.path.remove(str(place))
        sys.path.insert(0, str(place))
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        # A module that is there, but itself misses another one, is another matter.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CannotImport(
                f"there is no module {error.name}",
                "it is looked for beside the job file, and in the working directory",
            ) from None
        raise CannotImport(f"{name} cannot be imported: {error}") from error
    except Exception as error:
        raise CannotImport(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    _refuse_another(name.partition(".")[0], places)
    return module


def _refuse_another(root: str, places: list[Path]) -> None:
    """A module of that name was loaded before from elsewhere, and would silently stand in for the one meant."""
    meant = next((place for place in places if _is_in(place, root)), None)
    loaded = getattr(sys.modules[root], "__file__", None)
    if meant is not None and loaded is not None and meant not in Path(loaded).resolve().parents:
        raise CannotImport(f"another module named {root} is loaded already", "give yours another name")
