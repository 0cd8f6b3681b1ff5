"""R10: who may leave state in a session past the cursors that he opens.

The ORM's statements leave none, so its cursors keep no connection (`leases.py`). Four ways lead
past that: a wrapper of `execute_wrapper()` that runs other SQL than it was given, an SQL function
in a queryset that sets something, `raw()` with something else than a query, and what a project does
with the client's own connection. All end in `leases.keep_state()`.
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

# Functions of PostgreSQL, and of MySQL, that leave something in the session. In lower case.
# And the view of settings, which may be updated.
FUNCTIONS = ("set_config", "pg_settings", "pg_advisory_lock", "pg_try_advisory_lock", "get_lock(")

_COMMENT = r"--[^\n]*(?:\n|$)|/\*.*?\*/"
_COMMENTS = re.compile(_COMMENT, re.DOTALL)
_QUERY = re.compile(
    rf"(?:\s|\(|{_COMMENT})*(?:select|with|values|table|explain|insert|update|delete|merge)\b[^;]*;?\s*",
    re.DOTALL | re.IGNORECASE,
)

_INTO = re.compile(r"\binto\b", re.IGNORECASE)
_WRITES = re.compile(r"(?:insert|merge)\s", re.IGNORECASE)

# Through these goes who opens a cursor as Django tells him to: `open_cursor()` knows of him.
OPENERS = (
    leases.__name__,
    "django_aio.db.backends.utils",
    "django_aio.db.backends.postgresql.marks",
    "django.db.backends.sqlite3.operations",  # it has SQLite quote what it logs
)
# What is on the way between a project and a connection, besides Django and us.
BETWEEN = (*OURS, "psycopg")
# Who asks a connection for Django's cursors. What stands between the two is a tracer.
BACKENDS = ("django.db.backends.postgresql.base",)


if sys.version_info >= (3, 12):
    # The module of a caller. It makes no frame objects, which cost more than all else here.
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
    """Whether code of a module is a project's; None where its caller decides."""
    if module in OPENERS:
        return False
    return None if is_below(module, BETWEEN) else True


def by_project(depth: int = 2) -> bool:
    """Whether a project's code called the running function, directly or by Django's functions.

    Not where it opened a cursor of Django's. `depth` is that of the caller's frame, as in
    `sys._getframe()`.
    """
    unknown = False  # whether the code one frame in is neither Django's nor ours
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
    return True  # it has handed the function to `run()`


def tell_chain(connection: object) -> None:
    """A project's code uses a physical connection past Django: its session may carry state."""
    for wrapper in _wrappers():
        if wrapper.connection is connection:
            leases.keep_state(wrapper)


def _wrappers() -> Iterator[Any]:
    """The connection objects that the running task or thread may use: its chain's, and joined."""
    yield from connections.all(initialized_only=True)
    yield from (session.wrapper for session in sessions.known.get().values())
    block = innermost.get()
    while block is not None:
        yield block.wrapper
        block = block.parent


def leaves_state(sql: object) -> bool:
    """Whether a statement of the ORM calls a function that leaves something in the session."""
    return isinstance(sql, str) and _calls_one(sql)


@functools.lru_cache(maxsize=1024)  # most are asked again and again
def _calls_one(sql: str) -> bool:
    lower = sql.lower()
    return any(function in lower for function in FUNCTIONS)


def is_query(sql: object) -> bool:
    """Whether SQL that a project has written is one query, and nothing else."""
    if not isinstance(sql, str) or _QUERY.fullmatch(sql) is None:
        return False
    return not _INTO.search(sql) or _WRITES.match(_bare(sql)) is not None


def look_at_raw(cursor: CursorWrapper, wrapper: Wrapper) -> None:
    """Look at what `raw()` is about to run on a cursor of its own."""
    execute = cursor.execute

    def look_and_execute(sql: Sql, params: Params = None) -> Any:
        if not is_query(sql):
            leases.keep_state(wrapper)
        return execute(sql, params)

    cursor.execute = look_and_execute  # type: ignore[method-assign]


# An attribute of a cursor: what watches its statements is running.
_WATCHED = "_aio_watched"


def look_at(cursor: CursorWrapper, sql: object, executor: Callable[..., Any]) -> Callable[..., Any]:
    """Look at a statement before it runs. Returns what to run it by; call `looked_at()` afterwards.

    Whoever watches statements (`execute_wrapper()`) may run others, on this cursor or by the
    function that he is given; a comment that he adds is not another statement.
    """
    wrapper = cursor.db
    if leaves_state(sql) or _WATCHED in vars(cursor):
        leases.keep_state(wrapper)
    elif wrapper.execute_wrappers:
        vars(cursor)[_WATCHED] = sql
        return functools.partial(_look_and_execute, cursor, executor)
    return executor


def looked_at(cursor: CursorWrapper) -> None:
    """The statement that `look_at()` has looked at has ended."""
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
