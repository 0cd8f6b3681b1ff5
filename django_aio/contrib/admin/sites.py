"""`AdminSite`: any method may be a coroutine function, and so may the views that it guards.

`admin_view()` calls `has_permission()` and the view, synchronously. A view that is a coroutine
function is awaited there, on the loop or in a thread.

The index and the list of applications on every page ask all registered admin classes what their
user may do, and autocomplete fields search them. If one of the registered classes answers by code
that the policy does not trust, all are asked in a thread.

Called by the code that serves the admin, in any thread. (Django documentation, "AdminSite
objects".)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.contrib.admin.sites import AdminSite

from django_aio.bridge import in_bridge
from django_aio.conf import listed
from django_aio.contrib.admin.options import adopt_class
from django_aio.core.handlers.base import as_coroutine, as_sync
from django_aio.hooks import MARKS, adopting, attributes_of
from django_aio.policy import in_thread
from django_aio.policy.classes import blocking_methods

if TYPE_CHECKING:
    from django.contrib.admin.views.autocomplete import AutocompleteJsonView as UpstreamView

    class AutocompleteJsonView(UpstreamView):
        """Django's view, as `AdminSite` calls it."""

        admin_site: AdminSite


View = Callable[..., Any]


# `AdminSite.__init_subclass__`: see adopting().
init_subclass = adopting(AdminSite, functools.partial(adopt_class, prefixes=("has_",)))


def admin_view(upstream: Callable[..., View]) -> Callable[..., View]:
    """`AdminSite.admin_view`: a view that is a coroutine function is awaited."""

    @functools.wraps(upstream)
    def admin_view(self: AdminSite, view: View, *args: Any, **kwargs: Any) -> View:
        if not iscoroutinefunction(view):
            return upstream(self, view, *args, **kwargs)
        guarded = upstream(self, _copied(as_sync(view), view), *args, **kwargs)
        # Decorators of the project copy a mark, but not the keyword `async`.
        marked = any(mark in view.__dict__ for mark in MARKS)
        return _copied(as_coroutine(guarded), guarded) if marked else guarded

    return admin_view


def _copied(wrapper: View, view: View) -> View:
    """Copy to the wrapper the attributes that say how Django treats the view. Return it."""
    vars(wrapper).update({**attributes_of(view), "__wrapped__": view})
    return wrapper


PERMISSIONS = (
    *(f"has_{what}_permission" for what in ("module", "add", "change", "delete", "view")),
    "get_model_perms",
)
SEARCH = (*PERMISSIONS, "get_queryset", "get_search_", "get_paginator", "get_ordering", "to_field")


def build_app_dict(upstream: View) -> View:
    """`AdminSite._build_app_dict`: ask for permissions where the policy says."""

    @functools.wraps(upstream)
    def _build_app_dict(self: AdminSite, *args: Any, **kwargs: Any) -> Any:
        return where_trusted(upstream, self, PERMISSIONS)(self, *args, **kwargs)

    return _build_app_dict


def autocomplete(upstream: View) -> View:
    """`AutocompleteJsonView.get`: the admin classes are searched where the policy says."""

    @functools.wraps(upstream)
    def get(self: AutocompleteJsonView, *args: Any, **kwargs: Any) -> Any:
        return where_trusted(upstream, self.admin_site, SEARCH)(self, *args, **kwargs)

    return get


def where_trusted(func: View, site: AdminSite, names: tuple[str, ...]) -> View:
    """Return the function, in a thread if a registered class is not trusted.

    Only those of the class's methods count whose names start with one of `names`.
    """
    if in_bridge():
        on_list = listed()
        for model_admin in site._registry.values():
            cls = type(model_admin)
            if _may_block(cls, names, on_list):
                return in_thread(func, "methods of the admin class", of=cls)
    return func


@functools.lru_cache(maxsize=4096)
def _may_block(cls: type, names: tuple[str, ...], on_list: tuple[str, ...]) -> bool:
    """Whether the class has such a method that is not trusted. `on_list` is here for the cache."""
    return any(name.startswith(names) for name in blocking_methods(cls))
