"""Speed-ups, which make Django do less work and do not concern waiting: `django_aio/speedups/`.

A target that another package has replaced is left alone.
"""

from __future__ import annotations

from typing import Any

from django_aio.patching import Patch
from django_aio.series import rows
from django_aio.series.rows import Row, replace

MARK = replace("mark_safe", "speedups.escaping:escape_text", "plain text is not lazy")
ESCAPE = replace(
    "conditional_escape",
    "speedups.escaping:conditional_escape",
    "plain text is not asked whether it is safe or lazy",
)
WRITE = replace(
    "render_value_in_context",
    "speedups.escaping:render_value",
    "plain text is neither a date nor a number",
)


def of(module: str, *its: Row, **conditions: Any) -> tuple[Patch, ...]:
    """The patches of one module."""
    return rows.of(module, *its, aside=True, **conditions)


TABLE: tuple[Patch, ...] = (
    # Escaping, as each module has imported it; variables and conditions.
    *of(
        "django.utils.html",
        replace("{}", "speedups.escaping:escape_text", MARK.why, names="escape mark_safe"),
        ESCAPE,
    ),
    *of("django.utils.numberformat", MARK),
    *of("django.forms.utils", MARK),
    *of("django.forms.widgets", MARK),
    *of("django.contrib.admin.options", MARK, on_import=True),
    *of("django.template.library", ESCAPE),
    *of("django.template.defaultfilters", ESCAPE),
    *of(
        "django.template.defaulttags",
        *(MARK, ESCAPE, WRITE),
        replace("TemplateLiteral.eval", "speedups.variables:evaluate", "plain values: one look"),
    ),
    *of(
        "django.template.base",
        *(MARK, ESCAPE, WRITE),
        replace("VariableNode.render", "speedups.variables:render", "plain values: one look"),
    ),
    # URLs.
    *of(
        "django.urls.resolvers",
        replace(
            "URLResolver._reverse_with_prefix",
            "speedups.reverse:reverse_with_prefix",
            "a URL that was made before is not made again",
        ),
    ),
    *of(
        "django.core.files.storage.filesystem",
        replace(
            "FileSystemStorage.url",
            "speedups.static_urls:url",
            "the URL of a static file that was made before is not made again",
        ),
    ),
    # State of a thread or task: asgiref's Local is read directly.
    *of(
        "django.urls.base",
        replace(
            "_urlconfs",
            "speedups.locals:direct",
            "the URLconf that is set, read directly and not by asgiref's Local",
        ),
        replace("_prefixes", "speedups.locals:direct", "the script prefix, read directly"),
    ),
    *of(
        "django.utils.translation.trans_real",
        replace("_active", "speedups.locals:direct", "the active language, read directly"),
        replace(
            "get_language",
            "speedups.locals:get_language",
            "where no language is active, one look tells that",
        ),
        on_import=True,
    ),
    *of(
        "django.core.cache",
        replace(
            "caches._connections",
            "speedups.locals:direct",
            "the caches that are used, read directly",
        ),
    ),
    *of(
        "django.utils.timezone",
        replace("_active", "speedups.locals:direct", "the active time zone, read directly"),
    ),
    # Queries.
    *of(
        "django.db.models.sql.compiler",
        replace("SQLCompiler.as_sql", "speedups.sql.compiler:as_sql", "the SQL of a shape is kept"),
        replace(
            "SQLCompiler.get_converters",
            "speedups.sql.compiler:get_converters",
            "columns that need no conversion are not asked again",
        ),
    ),
)
