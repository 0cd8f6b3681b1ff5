"""What forms are rendered from: `arender()`, and lists of errors with nothing in them.

`arender()` is that of forms, formsets, bound fields and lists of errors: queries of the choices,
and coroutine functions of widgets, wait on the loop. (Django documentation, "Outputting forms as
HTML".)
"""

from __future__ import annotations

from typing import Any

from django.forms.renderers import DjangoTemplates
from django.forms.utils import ErrorList

from django_aio.db.models import twin

arender = twin("render")

# The templates of Django's lists of errors.
TEMPLATES = frozenset(
    {ErrorList.template_name, ErrorList.template_name_text, ErrorList.template_name_ul}
)
# What each of them makes of an empty list.
_of_empty: dict[str, Any] = {}


def render_errors(
    self: Any, template_name: Any = None, context: Any = None, renderer: Any = None
) -> Any:
    """`ErrorList.render()`: what an empty list looks like is found out once.

    A form that is shown for the first time has one for each field; rendering them is 7% of the work
    of a login page. Only with the renderer that finds Django's own templates before all others; any
    other list is rendered as ever. Called by any thread.
    """
    if not self.data and context is None and renderer is None and type(self) is ErrorList:
        name = template_name or self.template_name
        if name in TEMPLATES and type(self.renderer) is DjangoTemplates:
            if name not in _of_empty:
                _of_empty[name] = super(ErrorList, self).render(name)
            return _of_empty[name]
    return super(ErrorList, self).render(template_name, context, renderer)
