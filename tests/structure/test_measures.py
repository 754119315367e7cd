"""The measures count what they say they count."""

from __future__ import annotations

import ast

from tests.structure.imports import cycles, import_graph
from tests.structure.measures import function_length, parameter_count
from tests.structure.sources import Module

_FUNCTION = '''
@decorated
def example(self, a, b=1, *rest, c, **others):
    """Two lines
    of docstring."""

    return a
'''


def _function(text: str) -> ast.FunctionDef:
    (found,) = Module("orchestrator/a.py", text).functions()
    assert isinstance(found, ast.FunctionDef)
    return found


def test_a_docstring_and_decorators_do_not_make_a_function_longer() -> None:
    assert function_length(_function(_FUNCTION)) == 3


def test_self_is_no_parameter_and_keyword_only_ones_are() -> None:
    assert parameter_count(_function(_FUNCTION)) == 3


def test_a_cycle_through_an_import_for_types_is_found() -> None:
    files = [
        Module("orchestrator/a.py", "from orchestrator.b import B\n"),
        Module("orchestrator/b.py", "if TYPE_CHECKING:\n    from orchestrator import c\n"),
        Module("orchestrator/c.py", "def late():\n    import orchestrator.a\n"),
        Module("orchestrator/d.py", "from orchestrator.a import A\n"),
    ]
    assert cycles(import_graph(files)) == [["orchestrator.a", "orchestrator.b", "orchestrator.c"]]


def test_importing_downwards_is_no_cycle() -> None:
    files = [Module("orchestrator/a.py", "from orchestrator.b import B\n"), Module("orchestrator/b.py", "")]
    assert cycles(import_graph(files)) == []
