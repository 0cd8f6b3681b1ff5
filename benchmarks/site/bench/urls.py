"""The five pages, in the spelling that the contender asks for, and those of other benchmarks.

`sse.py` has a stream and its status, `state.py` a login page and one for who is logged in,
`streaming.py` a page with slow queries.
"""

from django.conf import settings
from django.contrib.auth.views import LoginView
from django.urls import path

from . import events, slow

if settings.ASYNCHRONOUS_VIEWS:
    from . import views
else:
    from . import sync_views as views  # type: ignore[no-redef]

urlpatterns = [
    path("json", views.json),
    path("row", views.row),
    path("queries", views.queries),
    path("fortunes", views.fortunes),
    path("parallel", views.parallel),
    path("events", events.events),
    path("status", events.status),
    path("slow", slow.whole),
    path("slow/streamed", slow.streamed),
    path("account", views.account),
    path("login", LoginView.as_view(template_name="login.html")),
]
