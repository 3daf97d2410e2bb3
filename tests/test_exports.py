"""What `import memif` gives: the public names, lazily, at hardly any cost."""

import ast
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import memif

SOURCE = Path(memif.__file__)
NAMES = [name for name in memif.__all__ if name != "__version__"]
_ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}


def python(program: str) -> str:
    """Run `program` in a fresh interpreter that finds the package where we found it; return what it prints."""
    environment = {**_ENVIRONMENT, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_public_name(name: str) -> None:
    assert getattr(memif, name) is not None


def test_names_are_sorted_out() -> None:
    assert len(set(memif.__all__)) == len(memif.__all__)
    assert set(memif.__all__) < set(dir(memif))
    assert {"metrics", "packet", "scapy"} <= set(dir(memif)) - set(memif.__all__)


def test_everything_has_a_docstring() -> None:
    assert [name for name in NAMES if not getattr(memif, name).__doc__] == []


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'connnect'"):
        _ = memif.connnect  # type: ignore[attr-defined]


def test_star_import() -> None:
    python("from memif import *; Socket, connect, MemifError, tap")


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(SOURCE.read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(memif._HOME)


@pytest.mark.parametrize("module", ["socket", "interface", "errors", "ring", "memory", "protocol"])
def test_module_imports_first(module: str) -> None:
    """No import order may be needed: each module can be the first one."""
    python(f"import memif.{module}")


def test_import_loads_no_third_party_package() -> None:
    # The compiled part and the socket are loaded on first use; that may not need anything else either.
    program = """
import sys
before = set(sys.modules)
import memif
memif.Socket, memif.connect, memif.RxQueue
import json
print(json.dumps(sorted(m.partition(".")[0] for m in set(sys.modules) - before)))
"""
    loaded = set(json.loads(python(program)))
    assert "memif" in loaded
    strangers = loaded - {"memif", "cython_runtime"} - sys.stdlib_module_names  # that one is made, not imported
    assert {name for name in strangers if not name.startswith(("_cython_", "_editable_"))} == set()


def test_import_loads_one_module() -> None:
    """Its time is that of the standard library's modules that nearly every program has loaded anyway."""
    program = """
import importlib.machinery, importlib.util, os, sys, typing
before = set(sys.modules)
import memif
print(*set(sys.modules) - before)
"""
    assert python(program).split() == ["memif"]


def test_modules_agree_on_errors() -> None:
    assert memif.MemifError is import_module("memif.errors").MemifError
