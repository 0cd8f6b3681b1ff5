"""The patches that make Django do less work, in the order in which they are applied."""

from __future__ import annotations

import functools

from django_aio.patching import Patch, replace

# What another package has put there is left to it.
faster = functools.partial(replace, aside=True)

COMPILER = "django.db.models.sql.compiler:SQLCompiler"
TEMPLATE = "django.template"
BASE, TAGS = f"{TEMPLATE}.base", f"{TEMPLATE}.defaulttags"
UTILS = "django.utils"
BY = "django_aio.speedups"
ESCAPING, LOCALS, SQL = f"{BY}.escaping", f"{BY}.locals", f"{BY}.sql.compiler"
SAME = "the same, as this module imported it"
TRANSLATION = f"{UTILS}.translation.trans_real"


def _imported(name: str, by: str, *modules: str) -> tuple[Patch, ...]:
    """A function that modules have imported by name: one patch for each of them."""
    return tuple(faster(f"{module}:{name}", by, SAME) for module in modules)


TABLE: tuple[Patch, ...] = (
    # Escaping.
    faster(f"{UTILS}.html:escape", f"{ESCAPING}:plainly", "plain text is not lazy"),
    faster(f"{UTILS}.html:mark_safe", f"{ESCAPING}:plainly", "plain text is not lazy"),
    *_imported(
        "mark_safe",
        f"{ESCAPING}:plainly",
        *(BASE, TAGS, "django.forms.widgets", "django.forms.utils", f"{UTILS}.numberformat"),
    ),
    faster("django.contrib.admin.options:mark_safe", f"{ESCAPING}:plainly", SAME, on_import=True),
    faster(
        f"{UTILS}.html:conditional_escape",
        f"{ESCAPING}:conditionally",
        "nor is plain text asked whether it is safe",
    ),
    *_imported(
        "conditional_escape",
        f"{ESCAPING}:conditionally",
        *(BASE, f"{TEMPLATE}.library", f"{TEMPLATE}.defaultfilters", TAGS),
    ),
    # Variables and conditions.
    faster(
        f"{BASE}:render_value_in_context",
        f"{ESCAPING}:written",
        "plain text is neither a date nor a number",
    ),
    *_imported("render_value_in_context", f"{ESCAPING}:written", TAGS),
    faster(f"{BASE}:VariableNode.render", f"{BY}.variables:render", "plain values: one look"),
    faster(f"{TAGS}:TemplateLiteral.eval", f"{BY}.variables:evaluate", "the same in conditions"),
    # URLs.
    faster(
        "django.urls.resolvers:URLResolver._reverse_with_prefix",
        f"{BY}.reverse:reverse_with_prefix",
        "a URL that was made before is not made again",
    ),
    faster(
        "django.core.files.storage.filesystem:FileSystemStorage.url",
        f"{BY}.static_urls:url",
        "nor is the URL of a static file",
    ),
    # What is kept for a thread or task: asgiref's Local is read directly.
    faster("django.urls.base:_urlconfs", f"{LOCALS}:quick", "the URLconf that is set"),
    faster("django.urls.base:_prefixes", f"{LOCALS}:quick", "the script prefix"),
    faster(f"{TRANSLATION}:_active", f"{LOCALS}:quick", "the active language", on_import=True),
    faster(
        f"{TRANSLATION}:get_language",
        f"{LOCALS}:get_language",
        "where none is active, one look tells the language",
        on_import=True,
    ),
    faster("django.core.cache:caches._connections", f"{LOCALS}:quick", "the caches that are used"),
    faster(f"{UTILS}.timezone:_active", f"{LOCALS}:quick", "the active time zone"),
    # Queries.
    faster(f"{COMPILER}.as_sql", f"{SQL}:as_sql", "the SQL of a query is kept, by its shape"),
    faster(
        f"{COMPILER}.get_converters",
        f"{SQL}:get_converters",
        "columns that need no conversion are not asked again",
    ),
)
