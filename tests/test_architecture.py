"""What the architecture promises: no circle of imports, and nobody uses the private names of another module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
COMPILED = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.rglob("*.pyx")}


def imports(name: str, path: Path) -> Iterator[str]:
    """The modules of the package that a module imports, at its top or later, also for annotations only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "memif")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "memif":
            assert not node.level, f"{name} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES or whole in COMPILED else node.module


GRAPH = {name: {other for other in imports(name, path) if other != name} for name, path in MODULES.items()}
# The package itself only says where its names live, and imports on first use.
GRAPH["memif"] = set()


def circles() -> list[list[str]]:
    """The strongly connected parts of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in GRAPH.get(name, ()):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in GRAPH:
        if name not in index:
            visit(name)
    return found


def test_no_circle_of_imports() -> None:
    assert circles() == []


LAYERS = [
    {"memif.errors", "memif.address", "memif.logs", "memif.types"},
    {"memif.protocol"},
    {"memif.control"},
    {"memif.interface", "memif.socket"},
    {"memif.aio", "memif.libmemif", "memif.waiting", "memif.scapy", "memif.bridge", "memif.vpp", "memif.doctor"},
    {"memif.tools", "memif.console", "memif.extcap"},
]


def layer(name: str) -> int | None:
    """How far up a module is; None for those that the list leaves out."""
    for height, members in enumerate(LAYERS):
        if any(name == member or name.startswith(member + ".") for member in members):
            return height
    return None


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_is_used_from_above(name: str) -> None:
    own = layer(name)
    above = {other for other in GRAPH[name] if own is not None and (layer(other) or 0) > own}
    assert not above


def own_names(tree: ast.Module) -> set[str]:
    """What is private and defined here: functions, classes, attributes that are set on anything."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Constant(value=str(name)):  # __slots__
                names.add(name)
    return names


@pytest.mark.parametrize("name", sorted(MODULES))
def test_private_names_stay_private(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    own = own_names(tree)
    foreign = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            # What a base class of another module keeps for its subclasses is asked of self; os._exit has that name.
            asked = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr not in own and asked not in ("self", "cls", "os"):
                foreign.add(f"{node.attr}, line {node.lineno}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memif"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if alias.name.startswith("_") and not alias.name.startswith("__") and whole not in COMPILED:
                    foreign.add(f"{alias.name}, line {node.lineno}")
    assert not foreign
