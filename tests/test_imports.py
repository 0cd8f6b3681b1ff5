"""How the modules of the package lean on each other: not in a circle, nor on the speed-ups."""

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "django_aio"
PATHS = {
    ".".join(("django_aio", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in PACKAGE.rglob("*.py")
}


def imported(path):
    """The modules of the package that one imports, at its top or in a function."""
    tree = ast.parse(path.read_text())
    for_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and _is_typing(node)]
    left_out = {each for node in for_types for each in ast.walk(node)}
    found = set()
    for node in set(ast.walk(tree)) - left_out:
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in PATHS else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & PATHS.keys()


def _is_typing(node):
    return "TYPE_CHECKING" in ast.unparse(node.test)


IMPORTS = {name: imported(path) - {name} for name, path in PATHS.items()}


def test_no_module_imports_itself_by_others():
    assert len(IMPORTS) > 150
    order = list(graphlib.TopologicalSorter(IMPORTS).static_order())
    assert order.index("django_aio.bridge") < order.index("django_aio.db.chains")


def test_nothing_imports_the_speedups():
    room = "django_aio.speedups"
    outside = {name: found for name, found in IMPORTS.items() if not name.startswith(room)}
    assert [name for name, found in outside.items() if any(m.startswith(room) for m in found)] == []
