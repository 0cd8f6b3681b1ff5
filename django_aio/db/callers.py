"""R10: who may leave state in a session by other means than a raw cursor.

The ORM's statements leave none, so its cursors keep no connection (`leases.py`). There are four
exceptions: a wrapper of `execute_wrapper()` that runs other SQL than it was given, an SQL function
in a queryset that sets something, `raw()` with something else than a query, and a project's use of
the client's own connection. All call `leases.keep_state()`. Guarded by `tests/db/test_callers.py`.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from django.db import connections

from django_aio.conf import OURS, is_below
from django_aio.db import leases, sessions
from django_aio.db.blocks import innermost

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper

    from django_aio.db.types import Params, Sql, Wrapper

# Functions of PostgreSQL and MySQL that leave something in the session, in lower case; and
# PostgreSQL's view of settings, which may be updated.
FUNCTIONS = ("set_config", "pg_settings", "pg_advisory_lock", "pg_try_advisory_lock", "get_lock(")

_COMMENT = r"--[^\n]*(?:\n|$)|/\*.*?\*/"
_COMMENTS = re.compile(_COMMENT, re.DOTALL)
_QUERY = re.compile(
    rf"(?:\s|\(|{_COMMENT})*(?:select|with|values|table|explain|insert|update|delete|merge)\b[^;]*;?\s*",
    re.DOTALL | re.IGNORECASE,
)

_INTO = re.compile(r"\binto\b", re.IGNORECASE)
_WRITES = re.compile(r"(?:insert|merge)\s", re.IGNORECASE)

# The modules that open a cursor for a caller whom `open_cursor()` has judged already.
OPENERS = (
    leases.__name__,
    "django_aio.db.backends.utils",
    "django_aio.db.backends.postgresql.marks",
    "django.db.backends.sqlite3.operations",  # it has SQLite quote what it logs
)
# What may stand between a project and a connection: Django, this package and the client.
BETWEEN = (*OURS, "psycopg")
# The module that asks the client for Django's cursors. Code between the two is a tracer's.
BACKENDS = ("django.db.backends.postgresql.base",)


if sys.version_info >= (3, 12):
    # The module of a caller, without frame objects, which cost more than all else here.
    module_at = sys._getframemodulename
else:

    def module_at(depth: int = 0) -> str | None:
        """The module of the function that calls this, or of one further out; None past the end."""
        try:
            name: str | None = sys._getframe(depth + 1).f_globals.get("__name__")
        except ValueError:
            return None
        return name


_answers: dict[str, bool | None] = {}  # by module; each is judged once


def _judged(module: str) -> bool | None:
    """Whether a module's code is a project's; None if its caller decides."""
    if module in OPENERS:
        return False
    return None if is_below(module, BETWEEN) else True


def by_project(depth: int = 2) -> bool:
    """Whether a project's code called the running function, directly or by Django's functions.

    False where the project opened one of Django's cursors. `depth` is that of the caller's frame,
    as in `sys._getframe()`.
    """
    unknown = False  # whether the code one frame further in is a project's, or a tracer's
    while (module := module_at(depth)) is not None:
        if module not in _answers:
            _answers[module] = _judged(module)
        answer = _answers[module]
        if answer is False:
            return False
        if unknown and answer is None and module not in BACKENDS:
            return True
        unknown = answer is True
        depth += 1
    return True  # the project has handed the function to `run()`


def tell_chain(connection: object) -> None:
    """Note that a project's code uses a physical connection past Django (R10)."""
    for wrapper in _wrappers():
        if wrapper.connection is connection:
            leases.keep_state(wrapper)


def _wrappers() -> Iterator[Any]:
    """The connection objects that the running task or thread may use: its chain's, and shared."""
    yield from connections.all(initialized_only=True)
    yield from (session.wrapper for session in sessions.known.get().values())
    block = innermost.get()
    while block is not None:
        yield block.wrapper
        block = block.parent


def leaves_state(sql: object) -> bool:
    """Whether a statement of the ORM calls a function that leaves something in the session."""
    return isinstance(sql, str) and _calls_one(sql)


@functools.lru_cache(maxsize=1024)  # most statements come again and again
def _calls_one(sql: str) -> bool:
    lower = sql.lower()
    return any(function in lower for function in FUNCTIONS)


def is_query(sql: object) -> bool:
    """Whether a project's SQL is one query and nothing else."""
    if not isinstance(sql, str) or _QUERY.fullmatch(sql) is None:
        return False
    return not _INTO.search(sql) or _WRITES.match(_bare(sql)) is not None


def look_at_raw(cursor: CursorWrapper, wrapper: Wrapper) -> None:
    """Judge what `raw()` is about to run on its cursor."""
    execute = cursor.execute

    def look_and_execute(sql: Sql, params: Params = None) -> Any:
        if not is_query(sql):
            leases.keep_state(wrapper)
        return execute(sql, params)

    cursor.execute = look_and_execute  # type: ignore[method-assign]


# An attribute of a cursor: the statement that is shown to the wrappers of `execute_wrapper()` now.
_WATCHED = "_aio_watched"


def look_at(cursor: CursorWrapper, sql: object, executor: Callable[..., Any]) -> Callable[..., Any]:
    """Judge a statement before it runs. Returns its executor; call `looked_at()` afterwards.

    A wrapper of `execute_wrapper()` may run other statements, on this cursor or by the function
    that it is given. The same statement with a comment added is not another one.
    """
    wrapper = cursor.db
    if leaves_state(sql) or _WATCHED in vars(cursor):
        leases.keep_state(wrapper)
    elif wrapper.execute_wrappers:
        vars(cursor)[_WATCHED] = sql
        return functools.partial(_look_and_execute, cursor, executor)
    return executor


def looked_at(cursor: CursorWrapper) -> None:
    """Note that the statement that `look_at()` has judged has ended."""
    vars(cursor).pop(_WATCHED, None)


def _look_and_execute(
    cursor: CursorWrapper, executor: Callable[..., Any], sql: object, *args: Any
) -> Any:
    asked = vars(cursor).get(_WATCHED)
    if sql is not asked and _bare(sql) != _bare(asked):
        leases.keep_state(cursor.db)
    return executor(sql, *args)


def _bare(sql: object) -> Any:
    return _COMMENTS.sub("", sql).strip() if isinstance(sql, str) else sql
