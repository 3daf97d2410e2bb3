"""The stubs of the compiled modules carry the docstrings that the modules have, so that an editor shows them.

The text is written once, in the ``.pyx``. ``python tests/ring/test_stubs.py`` copies it into the stubs.
"""

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FOLDERS = ("libmemif", "packet", "ring", "system", "tools")
STUBS = sorted(p for folder in FOLDERS for p in (SOURCE / "memif" / folder).glob("*.pyi"))
Documented = ast.ClassDef | ast.FunctionDef


def module_of(stub: Path) -> str:
    """The name of the module that a stub describes."""
    return ".".join(stub.relative_to(SOURCE).with_suffix("").parts)


def documented(tree: ast.Module, module: Any) -> Iterator[tuple[str, Documented, str]]:
    """Every public class, method, property and function of a stub: its name, its node, its docstring at run time."""
    for node in tree.body:
        if isinstance(node, Documented) and hasattr(module, node.name):
            thing = getattr(module, node.name)
            yield node.name, node, inspect.cleandoc(thing.__doc__ or "")
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef) and not is_plain(inner) and inner.name in vars(thing):
                    doc = vars(thing)[inner.name].__doc__
                    # Plain attributes have no docstring of their own: the class has a section for them.
                    if doc is not None or f"\n    {inner.name}: " not in inspect.cleandoc(thing.__doc__):
                        yield f"{node.name}.{inner.name}", inner, inspect.cleandoc(doc or "")


def is_plain(node: ast.FunctionDef) -> bool:
    """Special methods, of which compiled classes say what the language says, setters, and what only narrows a type."""
    special = node.name.startswith("__")
    decorators = [ast.unparse(d) for d in node.decorator_list]
    return special or any(d == "overload" or d.endswith(".setter") for d in decorators)


@pytest.mark.parametrize("stub", STUBS, ids=module_of)
def test_stubs_say_what_help_says(stub: Path) -> None:
    module = import_module(module_of(stub))
    found = list(documented(ast.parse(stub.read_text()), module))
    for name, node, doc in found:
        assert doc, f"{name} has no docstring at run time"
        assert ast.get_docstring(node) == doc, f"{name}: run python {Path(__file__).name}"
    names = {name for name, _, _ in found}
    for name, node, _ in found:
        if isinstance(node, ast.ClassDef):
            members = vars(getattr(module, name)).items()
            expected = {f"{name}.{n}" for n, value in members if not n.startswith("_") and value.__doc__}
            assert expected - names == set(), "missing in the stub"


def write(stub: Path) -> None:
    """Copy the docstrings of a module into its stub."""
    text = stub.read_text()
    lines = text.split("\n")
    tree = ast.parse(text)
    found = documented(tree, import_module(module_of(stub)))
    for _, node, doc in sorted(found, key=lambda d: (start(d[1]), d[1].col_offset), reverse=True):
        put(lines, node, doc)
    stub.write_text("\n".join(lines))


def start(node: Documented) -> int:
    """The line that the docstring of a node begins in, or would."""
    first = node.body[0]
    return min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", []))])


def put(lines: list[str], node: Documented, doc: str) -> None:
    """Make `doc` the docstring of a node, in the lines of its file."""
    indent = " " * (node.col_offset + 4)
    quoted = [f'{indent}"""{doc}"""'] if "\n" not in doc else [*f'{indent}"""{doc}'.split("\n"), f'{indent}"""']
    quoted[1:] = [f"{indent}{line}" if line and i < len(quoted) - 2 else line for i, line in enumerate(quoted[1:])]
    first = node.body[0]
    line = lines[first.lineno - 1]
    if ast.get_docstring(node) is not None:
        lines[first.lineno - 1 : first.end_lineno] = quoted
    elif isinstance(first, ast.Expr):
        lines[first.lineno - 1 : first.lineno] = [line.removesuffix(" ..."), *quoted]
    else:
        lines[start(node) - 1 : start(node) - 1] = [*quoted, ""]


if __name__ == "__main__":
    for each in STUBS:
        write(each)
