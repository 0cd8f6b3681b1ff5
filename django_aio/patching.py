"""The primitive of the patch series: replace, add or rebind one attribute of Django.

A patch is a row of `series/`: a verb, what is changed, what it becomes, and why. Targets and
replacements are named by strings (`"django.db.transaction:Atomic.__call__"`), so that reading the
series imports nothing and a patch for a driver that is not installed costs nothing.

    replace   an attribute; the named factory gets the upstream attribute and returns the new one
    add       an attribute that upstream does not have
    rebind    a name that a module imported (`sync_to_async` in `django.db.models.query`)

Guarantees: a patch is applied once, however often `apply()` is called. A target that is missing, or
that an addition finds in Django already, is a `CONFLICT` with its name and the reason, and stays as
it is. A replaced function whose source differs from the one that the patch was written against is
reported as drifted. Where another package (an error tracker, a tracer) has patched the target
first, its replacement is wrapped as Django's own would be and named in `stranger`; a name that it
rebound stays as that package left it. A patch cannot be undone.

Applied at start-up, by the thread that calls `django.setup()`.
"""

from __future__ import annotations

import enum
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import json
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import asgiref.sync
import django
from django.apps import apps

# The packages that a name may come from if a patch rebinds it.
UPSTREAM = ("django", "asgiref", "asyncio", "_asyncio")
FINGERPRINTS = Path(__file__).with_name("fingerprints.json")


class Verb(enum.Enum):
    """The change that a patch makes to its target."""

    REPLACE = "replace"
    ADD = "add"
    REBIND = "rebind"


class Status(enum.Enum):
    """The state of a patch."""

    PENDING = "pending"
    APPLIED = "applied"
    CONFLICT = "conflict"


@dataclass(eq=False)
class Patch:
    """One change to one attribute. Written by `apply()` alone, under the series' lock.

    `target` and `by` are `module:attribute.path`. `needs` names the modules that must be installed
    for the patch to make sense, such as a database driver; `app` is the Django application that the
    target is part of; `since` is the first Django release that has the target. With `on_import` the
    patch waits until the target's module is imported, because few processes need that module. With
    `early` it does not wait for `ready()`: modules of apps and models import the target by name.
    With `backend` it waits until a connection of that database is made. With `aside` it is left out
    where another package has patched the target.
    """

    verb: Verb
    target: str
    by: str
    why: str
    needs: tuple[str, ...] = ()
    app: str = ""
    since: tuple[int, int] = (0, 0)
    on_import: bool = False
    early: bool = False
    backend: bool = False
    aside: bool = False
    status: Status = field(default=Status.PENDING, init=False)
    reason: str = field(default="", init=False)
    stranger: str = field(default="", init=False)  # what another package put in its place
    found: str | None = field(default=None, init=False)

    @property
    def module(self) -> str:
        """The module that the patch changes."""
        return self.target.partition(":")[0]

    @property
    def drifted(self) -> bool:
        """Whether the replaced source differs from the one that the patch was written against.

        False for asgiref, which has releases of its own and whose functions are only wrapped.
        """
        known = fingerprints().get(self.target, {}).get(series_of_django())
        return self.found is not None and self.found != known

    def apply(self) -> Status:
        """Apply the patch, unless it is applied already or needs something that is not installed.

        Does not raise for a target that cannot be patched: the status becomes CONFLICT, and
        `reason` says what was found. An error in the replacement's own module does propagate.
        """
        if self.status is not Status.PENDING:
            return self.status
        missing = [name for name in self.needs if not _installed(name)]
        if missing:
            self.reason = f"{', '.join(missing)} not installed"
            return self.status
        if self.app and not apps.is_installed(self.app):
            self.reason = f"{self.app} not in INSTALLED_APPS"
            return self.status
        try:
            module, owner, name, upstream = self._find()
        except PatchConflictError as conflict:
            self.status, self.reason = Status.CONFLICT, str(conflict)
            return self.status
        new = resolve(self.by)
        if self.verb is Verb.REPLACE:
            if not _is_upstreams(upstream, module):
                self.stranger = _origin(upstream, owner)
                if self.aside:
                    self.reason, self.stranger = f"left to {self.stranger}", ""
                    return self.status
            if module.startswith("django.") and not self.stranger:
                self.found = fingerprint(upstream)
            new = new(upstream)
        try:
            setattr(owner, name, new)
        except (AttributeError, TypeError) as error:
            self.status, self.reason = Status.CONFLICT, f"{self.target} cannot be set: {error}"
            return self.status
        self.status, self.reason = Status.APPLIED, ""
        return self.status

    def _find(self) -> tuple[str, Any, str, Any]:
        """Return the target's module, its owner, the attribute's name and its present value."""
        module_name, _, path = self.target.partition(":")
        *parents, name = path.split(".")
        try:
            owner: Any = importlib.import_module(module_name)
            for parent in parents:
                owner = getattr(owner, parent)
        except (ImportError, AttributeError) as error:
            raise PatchConflictError(f"{self.target} cannot be reached: {error}") from error
        if isinstance(owner, type) and _is_upstreams(owner) < module_name.startswith("django."):
            # Another package has replaced Django's class by one of its own, derived from it.
            owner = next((each for each in owner.__mro__[:-1] if _is_upstreams(each)), owner)
        found = getattr(owner, "__dict__", {}).get(name, _MISSING)
        if self.verb is Verb.ADD:
            if found is not _MISSING:
                origin = _origin(found, owner)
                self.stranger = "" if _is_upstreams(found) else origin
                raise PatchConflictError(f"{self.target} exists already, in {origin}")
        elif found is _MISSING:
            raise PatchConflictError(f"{self.target} does not exist in Django {django.__version__}")
        elif self.verb is Verb.REBIND and not (_is_upstreams(found) or _is_imported(name, found)):
            self.stranger = _origin(found, owner)
            raise PatchConflictError(f"{self.target} was rebound to {self.stranger}")
        return module_name, owner, name, found


class PatchConflictError(Exception):
    """A target is not what the patch expects. The message names it."""


_MISSING: Any = object()


def when_imported(module: str, action: Callable[[], object], uses: str = "") -> None:
    """Call `action()` once the module is imported: at once if it is imported already.

    Otherwise call it when the import of the module has ended, and the imports that surround it: of
    its packages, or of the module that the action `uses`. The action thus never sees a module that
    is still being executed.
    """
    if module in sys.modules:
        action()
        return
    _awaited.actions.setdefault(module, []).append(action)
    packages = itertools.accumulate(module.split("."), "{}.{}".format)
    for each in (*packages, uses):
        if each and each not in sys.modules:
            _awaited.actions.setdefault(each, [])
    if _awaited not in sys.meta_path:
        sys.meta_path.insert(0, _awaited)


class _Awaited(MetaPathFinder):
    """Find modules as Python would, and call the actions of a module when it has been executed.

    One finder serves all actions, because every import in the process passes through it. A module
    may be looked for without being imported, so an action is kept until its module has run. Called
    by the thread that imports the module, under that module's import lock.
    """

    def __init__(self) -> None:
        self.actions: dict[str, list[Callable[[], object]]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's own spec, with a loader that also calls the actions."""
        if name not in self.actions:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Acting(spec.loader, self.actions)
        return spec


class _Acting(Loader):
    """Load one module by the loader that Python found, which other modules may share (a zip)."""

    def __init__(self, loader: Loader, actions: dict[str, list[Callable[[], object]]]) -> None:
        self._loader = loader
        self._actions = actions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module if the loader itself creates it, else None."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module by its own loader; call the actions if no awaited import is open."""
        spec = module.__spec__
        assert spec is not None
        module.__loader__ = spec.loader = self._loader
        _importing.depth += 1
        try:
            self._loader.exec_module(module)
            _importing.due += self._actions.pop(spec.name, ())
        finally:
            _importing.depth -= 1
        if not _importing.depth:
            _importing.act()


class _Importing(threading.local):
    """The imports of one thread: how deep awaited modules are nested, and the actions due after."""

    def __init__(self) -> None:
        self.depth = 0
        self.due: list[Callable[[], object]] = []

    def act(self) -> None:
        """Call the actions that are due. Those that their own imports make due come last."""
        self.depth += 1
        try:
            while self.due:
                self.due.pop(0)()
        finally:
            self.depth -= 1


_importing = _Importing()
_awaited = _Awaited()


def resolve(name: str) -> Any:
    """Return what `module:attribute.path` names. Raises ImportError or AttributeError."""
    module_name, _, path = name.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def fingerprint(upstream: object) -> str | None:
    """Return 12 hexadecimal digits that identify the source of a function or class.

    Blank lines and the indentation of the whole do not count. None if there is no source to read: a
    module, a plain value, an installation without source files.
    """
    function = upstream
    if isinstance(upstream, ModuleType):
        return None
    if isinstance(upstream, (staticmethod, classmethod)):
        function = upstream.__func__
    elif isinstance(upstream, property):
        function = upstream.fget
    try:
        source = inspect.getsource(inspect.unwrap(function))  # type: ignore[arg-type]
    except (OSError, TypeError):
        return None
    lines = [line.rstrip() for line in textwrap.dedent(source).splitlines() if line.strip()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


@cache
def fingerprints() -> dict[str, dict[str, str]]:
    """Read the sources that patches were written for: {target: {Django series: fingerprint}}."""
    known: dict[str, dict[str, str]] = json.loads(FINGERPRINTS.read_text(encoding="utf-8"))
    return known


def series_of_django() -> str:
    """The feature release of the installed Django, such as "6.1"."""
    return ".".join(str(part) for part in django.VERSION[:2])


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _is_upstreams(value: object, besides: str = "") -> bool:
    """Whether a value comes from `UPSTREAM` or the standard library, or is a plain value.

    Also True if it comes from the package of the module `besides`.
    """
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    module = getattr(value, "__module__", None)
    code = getattr(value, "__code__", None)
    if code is not None:  # functools.wraps() copies __module__ from the wrapped function
        module = getattr(value, "__globals__", {}).get("__name__", module)
    package = module.partition(".")[0] if isinstance(module, str) else ""
    known = package in UPSTREAM or package in sys.stdlib_module_names
    return known or package in ("", besides.partition(".")[0])


def _is_imported(name: str, value: object) -> bool:
    """Whether asgiref has this value under this name, even if a package replaced it there."""
    return value is getattr(asgiref.sync, name, _MISSING)


def _origin(value: object, owner: ModuleType | type) -> str:
    """Name the place where a value was defined, for a message."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if module and name:
        return f"{module}.{name}"
    return owner.__name__ if isinstance(owner, ModuleType) else f"{owner.__qualname__}"
