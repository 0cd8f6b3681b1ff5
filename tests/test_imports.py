"""How the modules of the package lean on each other: downwards, not in a circle."""

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


# From the ground up. The longest name that fits a module says where it is.
FLOORS = (
    ("bridge", "patching", "conf"),
    ("policy", "threads", "awaiting", "loops", "utils", "series"),
    ("protocols", "hooks", "http", "websocket", "core.signals"),
    ("db",),
    ("core", "template", "forms", "views", "dispatch", "contrib", "middleware", "utils.decorators"),
    ("apps", "checks", "shortcuts", "urls", "management", "test", "compat", "__main__"),
    ("speedups",),
)

# Imported inside functions: what needs an optional package, and the public names of `django_aio`
# that need a configured project.
LATE = {
    ("django_aio", "django_aio.db"),
    ("django_aio.test", "django_aio.test"),
    ("django_aio.checks.threads", "django.contrib.auth.backends"),
    ("django_aio.core.servers.basehttp", "django_aio.core.servers.asgi"),
    ("django_aio.db.backends.postgresql.patches", "django_aio.db.backends.postgresql.pool"),
    ("django_aio.db.backends.registry", "django.db.backends.postgresql.psycopg_any"),
    ("django_aio.db.backends.registry", "django_aio.db.backends.postgresql.driver"),
    ("django_aio.db.backends.registry", "django_aio.db.backends.sqlite3.driver"),
    ("django_aio.test.live", "django_aio.test.server"),
    ("django_aio.test.sharing", "django_aio.test.memory"),
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


def floor(module):
    """The number of the floor that a module is on; the package itself is on the highest."""
    name = module.removeprefix("django_aio").lstrip(".")
    fits = [
        (len(prefix), number)
        for number, prefixes in enumerate(FLOORS)
        for prefix in prefixes
        if f"{name}.".startswith(f"{prefix}.")
    ]
    return max(fits)[1] if fits else len(FLOORS)


def test_imports_point_down():
    roofs = {f"{name} -> {each}" for name, found in IMPORTS.items() for each in found}
    roofs = {pair for pair in roofs if floor(pair.split(" -> ")[1]) > floor(pair.split(" -> ")[0])}
    # The version, which is written there.
    assert {pair for pair in roofs if not pair.endswith("-> django_aio")} == set()


def test_functions_import_only_what_is_optional():
    found = set()
    for name, path in PATHS.items():
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                late = [node for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
                found |= {(name, node.module) for node in late}
    assert found == LATE
