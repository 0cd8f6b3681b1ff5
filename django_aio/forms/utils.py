"""`arender()` of what forms are rendered from: forms, formsets, bound fields, lists of errors.

Queries of the choices, and coroutine functions of widgets, wait on the loop. (Django documentation,
"Outputting forms as HTML".)
"""

from django_aio.db.models import twin

arender = twin("render")
