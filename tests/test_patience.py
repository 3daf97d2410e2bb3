"""No time bound of a test stands outside `patience`."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
CLOCKS = {"time.monotonic", "time.perf_counter", "time.process_time", "time.time"}


def _reads_clock(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Call) and ast.unparse(part.func) in CLOCKS for part in ast.walk(node))


def _is_span(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub) and _reads_clock(part) for part in ast.walk(node)
    )


def _upper_bounds(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    """What the asserts of a function compare elapsed time with, and deadlines with what they add to a clock."""
    spans: set[str] = set()
    deadlines: dict[str, ast.expr] = {}
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _is_span(value):
                spans.add(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.BinOp(left=left, op=ast.Add(), right=right)):
                if _reads_clock(left):
                    deadlines[name] = right
    for assertion in (node for node in ast.walk(function) if isinstance(node, ast.Assert)):
        for compare in (node for node in ast.walk(assertion.test) if isinstance(node, ast.Compare)):
            sides = [compare.left, *compare.comparators]
            for lower, operator, upper in zip(sides, compare.ops, sides[1:], strict=False):
                if not isinstance(operator, (ast.Lt, ast.LtE)):
                    continue
                if _is_span(lower) or (isinstance(lower, ast.Name) and lower.id in spans):
                    yield upper
                elif _reads_clock(lower) and isinstance(upper, ast.Name) and upper.id in deadlines:
                    yield deadlines[upper.id]


def unscaled(source: str) -> list[int]:
    """Lines of upper bounds that `within` does not stretch."""
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    bounds = (bound for function in functions for bound in _upper_bounds(function))
    return sorted({bound.lineno for bound in bounds if "within(" not in ast.unparse(bound)})


def test_every_upper_bound_is_stretched() -> None:
    found = {str(file.relative_to(TESTS)): unscaled(file.read_text()) for file in TESTS.rglob("*.py")}
    assert {file: lines for file, lines in found.items() if lines} == {}, "write within(seconds), of patience"


def test_it_sees_what_it_looks_for() -> None:
    source = """
def a():
    assert 0.1 <= time.monotonic() - start < 1.0
    took = time.perf_counter() - start
    assert took < 2
    end = time.monotonic() + 5
    assert time.monotonic() < end
    assert time.monotonic() - start < within(1.0)
    assert count < 3
"""
    assert unscaled(source) == [3, 5, 6]
