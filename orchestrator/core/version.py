"""The version of the package, for ``--version``, the build and the user agent."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
