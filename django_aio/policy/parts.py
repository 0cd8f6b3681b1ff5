"""The parts of a callable: all that a call would run, as far as can be seen from outside.

The policy asks about each part: a function and what it wraps, by `functools.wraps` or in a closure;
a method and its class; a class-based view, its handlers and their decorators; the bases of a class;
the function of a partial and functions among its arguments. Nothing is called or evaluated.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ContextDecorator, suppress
from types import FunctionType, MethodType
from typing import Any

MARK = "_aio_cooperative"
# The id of the marked function: `functools.wraps` copies the mark to wrappers, which have another.
MARKED = "_aio_marked"


def own_mark(thing: object) -> bool | None:
    """The mark of `thing` itself. A method without a mark has that of its object or class."""
    if isinstance(thing, MethodType):
        marks = map(own_mark, (thing.__func__, thing.__self__, type(thing.__self__)))
        return next((mark for mark in marks if mark is not None), None)
    attributes = getattr(thing, "__dict__", {})
    if isinstance(thing, FunctionType) and attributes.get(MARKED) != id(thing):
        return None
    mark: bool | None = attributes.get(MARK)
    return mark


def unbound(upstream: classmethod[Any, Any, Any]) -> Callable[..., Any]:
    """Return the function of a class method, which takes the class first.

    If a tracer has replaced the class method by a proxy, the function calls the proxy.
    """
    function: Callable[..., Any] = upstream.__func__
    if issubclass(type(upstream), classmethod):
        return function

    @functools.wraps(function)
    def call(cls: type, /, *args: Any, **kwargs: Any) -> Any:
        return upstream.__get__(None, cls)(*args, **kwargs)

    return call


def modules(thing: object, wraps: bool) -> Iterator[str]:
    """The modules whose code `thing` itself is, as opposed to what is inside it."""
    if isinstance(thing, FunctionType):
        # A function that functools.wraps() or as_view() made carries the name of another module.
        disguised = hasattr(thing, "__wrapped__") or view_class_of(thing) is not None
        code = thing.__globals__.get("__name__") or module_of(thing)
        names = [code] if disguised else [code, module_of(thing)]
        # Skip decorators of the standard library, such as contextlib's: what they wrap counts.
        yield from (name for name in names if not (wraps and _is_standard(name)))
    elif isinstance(thing, type):
        yield thing.__module__
        if thing.__module__.startswith("django.") and not leads_to(thing):
            functions = (f for f in vars(thing).values() if isinstance(f, FunctionType))
            yield from {f.__globals__.get("__name__") or module_of(f): None for f in functions}
    elif not wraps:
        yield module_of(thing)


def leads_to(cls: type) -> bool:
    """Whether the module and name of a class lead to that class.

    A class that `type()` makes with a metaclass of Django, such as that of forms and of the admin,
    is in the metaclass's module unless it says otherwise. Only its functions tell who wrote it.
    """
    return getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is cls


def inside(thing: object) -> Iterator[Any]:
    """The things that a call of `thing` would run besides its own code."""
    if isinstance(thing, functools.partial):
        yield thing.func
        yield from _functions([*thing.args, *thing.keywords.values()])
    elif isinstance(thing, MethodType):
        owner = thing.__self__
        yield from _method(owner if isinstance(owner, type) else type(owner), _name(thing), thing)
        yield owner
    elif isinstance(thing, type):
        # A base of the standard library, such as `object`, is not a project's code.
        yield from (base for base in thing.__bases__ if not _is_standard(base.__module__))
    elif isinstance(thing, FunctionType):
        yield from _inside_function(thing)
    else:
        # An object, including one that functools.cache made. Built-in functions have no parts.
        wrapped = getattr(thing, "__dict__", {}).get("__wrapped__")
        if wrapped is not None:
            yield wrapped
        if not _is_standard(type(thing).__module__):
            yield type(thing)


def _inside_function(func: FunctionType) -> Iterator[Any]:
    wrapped = getattr(func, "__wrapped__", None)
    if wrapped is not None:
        yield wrapped
    for cell in func.__closure__ or ():
        with suppress(ValueError):  # not bound yet
            content = cell.cell_contents
            yield from _functions(content if type(content) in (list, tuple) else [content])
    view_class = view_class_of(func)
    if view_class is not None:
        yield view_class
        # Each may have decorators and a mark of its own, and any of them may be called.
        actions = (getattr(func, "actions", None) or {}).values()  # REST framework's viewsets
        for name in ("dispatch", *view_class.http_method_names, *actions):
            if isinstance(method := getattr(view_class, name, None), FunctionType):
                yield from _method(view_class, name, method)


def view_class_of(func: object) -> Any:
    """The class whose `as_view()` made the function, or None. In REST framework it is `cls`."""
    found = getattr(func, "view_class", None) or getattr(func, "cls", None)
    return found if hasattr(found, "http_method_names") else None


def _functions(things: Iterable[Any]) -> Iterator[Any]:
    kinds = (FunctionType, MethodType, functools.partial, ContextDecorator)
    # isinstance() would evaluate Django's lazy objects.
    return (thing for thing in things if issubclass(type(thing), kinds))


def _method(cls: type, name: str, method: object) -> Iterator[Any]:
    """The function of a method, unless a mark on the class that defines it vouches for it."""
    func = getattr(method, "__func__", method)
    definer = next((base for base in cls.__mro__ if name in vars(base)), cls)
    if own_mark(definer) is not True or own_mark(func) is False:
        yield func


def name_of(func: object) -> str:
    """The dotted name of what a callable runs: for a view its class, for a partial its function."""
    while isinstance(func, functools.partial):
        func = func.func
    named: Any = view_class_of(func) or func
    if isinstance(named, MethodType) and not isinstance(named.__self__, type):
        return f"{name_of(type(named.__self__))}.{_name(named)}"
    if not hasattr(named, "__qualname__"):
        named = type(named)
    return f"{named.__module__}.{named.__qualname__}"


def _name(method: MethodType) -> str:
    return getattr(method, "__name__", "__call__")


def module_of(thing: object) -> str:
    """The module that defines a function or class, or the class of an object."""
    found = getattr(thing, "__module__", None) or type(thing).__module__
    return str(found)


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names
