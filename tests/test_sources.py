"""What every module of the package holds to: its docstring, its length, what it imports."""

import ast
import statistics
from pathlib import Path

import pytest

import django_aio

PACKAGE = Path(django_aio.__file__).parent
SOURCES = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
MOST_LINES = 400
MOST_FUNCTION_LINES = 50


@pytest.mark.parametrize("source", SOURCES)
def test_only_the_bridge_imports_greenlet(source):
    imported = set()
    for node in ast.walk(ast.parse(SOURCES[source])):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert ("greenlet" in imported) is (source == "bridge.py")


@pytest.mark.parametrize("source", SOURCES)
def test_every_module_says_what_it_is_for(source):
    assert ast.get_docstring(ast.parse(SOURCES[source]))


@pytest.mark.parametrize("source", SOURCES)
def test_no_module_is_too_long(source):
    assert len(SOURCES[source].splitlines()) <= MOST_LINES


@pytest.mark.parametrize("source", SOURCES)
def test_no_function_is_too_long(source):
    functions = [
        node
        for node in ast.walk(ast.parse(SOURCES[source]))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: n for name, n in lengths.items() if n > MOST_FUNCTION_LINES} == {}


def test_modules_are_neither_crumbs_nor_tomes():
    """Without the `__init__` modules that hold nothing but a docstring."""
    lengths = [
        len(source.splitlines())
        for path, source in SOURCES.items()
        if not path.endswith("__init__.py") or len(ast.parse(source).body) > 1
    ]
    assert 100 <= statistics.median(lengths) <= 180
    assert sum(length < 30 for length in lengths) < 10
