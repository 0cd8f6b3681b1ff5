"""Model instances made of rows, without asking for each of them what is the same for all.

`Model.from_db()` calls the class, and `Model.__init__()` is for every way to make an instance:
defaults, keywords, related objects, two signals. A row has a value for each field that was asked
for. Where a class adds nothing of its own to being made, and nobody listens, what is left is to set
these attributes, which goes by the descriptors of the fields as ever.

Called by any thread. (Django documentation, "Customizing model loading".)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import DEFERRED, Model
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init
from django.dispatch.dispatcher import NO_RECEIVERS

# Where the options of a model keep what its rows are made into.
LOADING = "_aio_loading"
# Django's own, whatever somebody puts in its place later.
INIT = Model.__init__


class Loading:
    """Which attributes the rows of a model set, as long as its fields are `fields`."""

    __slots__ = ("fields", "last", "names", "plain")

    def __init__(self, cls: type[Model]) -> None:
        self.fields = cls._meta.concrete_fields
        self.plain = _is_plain(cls)
        self.names = tuple(field.attname for field in self.fields)
        # The list that the last query with deferred fields asked with, and what is in its rows.
        # Together: another thread may load instances too.
        self.last: tuple[Any, tuple[str, ...]] = (None, ())

    def some(self, asked: Any) -> tuple[str, ...]:
        """The attributes that a row of a query with deferred fields sets, in its order."""
        before, names = self.last
        if before is not asked:
            names = tuple(name for name in self.names if name in asked)
            if type(asked) is list:  # Django's own, which nobody changes
                self.last = (asked, names)
        return names


def _is_plain(cls: type[Model]) -> bool:
    """Whether instances of a class are made as those of any model, and only `__init__()` acts."""
    own = cls.__mro__[cls.__mro__.index(Model) :]
    return (
        own == Model.__mro__  # nothing else is initialised after it
        and cls.__new__ is object.__new__
        and type(cls).__call__ is type.__call__
        and not cls._meta.abstract
    )


def from_db(upstream: Any) -> Any:
    """`Model.from_db`: an instance of a row, at once where making one is only that."""
    if not issubclass(type(upstream), classmethod):
        return upstream  # who traces it is to see each call
    load: Callable[..., Any] = upstream.__func__
    has_fetch_mode = "fetch_mode" in inspect.signature(load).parameters  # new in Django 6.1

    @functools.wraps(load)
    def from_db(
        cls: Any, db: str | None, field_names: Any, values: Sequence[Any], *, fetch_mode: Any = None
    ) -> Any:
        names = _names(cls, field_names, len(values))
        if names is None or not (has_fetch_mode or fetch_mode is None):
            options = {} if fetch_mode is None else {"fetch_mode": fetch_mode}
            return load(cls, db, field_names, values, **options)
        made = object.__new__(cls)
        made._state = state = ModelState()
        for name, value in zip(names, values):  # noqa: B905 - they are as many
            if value is not DEFERRED:
                setattr(made, name, value)
        state.adding = False
        state.db = db
        if fetch_mode is not None:
            state.fetch_mode = fetch_mode
        return made

    return classmethod(from_db)


def _names(cls: Any, field_names: Any, count: int) -> tuple[str, ...] | None:
    """The attributes that a row of `count` values sets, or None: then Django makes the instance."""
    if cls.__init__ is not INIT or (
        (pre_init.receivers or post_init.receivers) and _is_awaited(cls)
    ):
        return None
    meta = cls._meta
    loading: Loading | None = meta.__dict__.get(LOADING)
    if loading is None or loading.fields is not meta.concrete_fields:
        loading = meta.__dict__[LOADING] = Loading(cls)
    if not loading.plain:
        return None
    if count == len(loading.names):
        return loading.names
    names = loading.some(field_names)
    return names if count == len(names) else None


def _is_awaited(cls: type) -> bool:
    """Whether somebody may listen for instances of a class. Django notes whom nobody listens to."""
    return any(
        signal.receivers and signal.sender_receivers_cache.get(cls) is not NO_RECEIVERS
        for signal in (pre_init, post_init)
    )
