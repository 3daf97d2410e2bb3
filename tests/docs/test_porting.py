"""The porting table names every function once, its calls are right, and the page is made from it."""

import ast
import inspect
from pathlib import Path

import pytest

import porting
from libmemif.test_names import FUNCTIONS_2_0, FUNCTIONS_LATER
from memif import libmemif as c

PAGE = Path(__file__).parents[2] / "docs" / "porting.md"
CALLS = [call for row in porting.FUNCTIONS for call in row.here]


def parsed(line: str) -> tuple[int, ast.Call]:
    """How many results a line takes, and its call."""
    statement = ast.parse(line).body[0]
    if isinstance(statement, ast.Expr):
        assert isinstance(statement.value, ast.Call)
        return 0, statement.value
    assert isinstance(statement, ast.Assign)
    assert isinstance(statement.value, ast.Call)
    target = statement.targets[0]
    return len(target.elts) if isinstance(target, ast.Tuple) else 1, statement.value


def test_every_function_has_its_row() -> None:
    names = [row.c.split()[0] for row in porting.FUNCTIONS]
    assert sorted(names) == sorted(FUNCTIONS_2_0 + FUNCTIONS_LATER)


@pytest.mark.parametrize("line", CALLS)
def test_calls_fit_the_signatures(line: str) -> None:
    results, call = parsed(line)
    assert isinstance(call.func, ast.Name)
    signature = inspect.signature(getattr(c, call.func.id))
    signature.bind(*call.args)
    returned = str(signature.return_annotation)
    assert results == (0 if returned == "None" else 2 if "tuple" in returned else 1)


def test_each_row_calls_its_own_function() -> None:
    for row in porting.FUNCTIONS:
        assert {parsed(call)[1].func.id for call in row.here} == {row.c.split()[0]}  # type: ignore[attr-defined]


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text() == porting.page(), "python docs/_ext/porting.py > docs/porting.md"
