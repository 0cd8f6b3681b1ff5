"""Every method of every generic view as a coroutine function, wherever the view may run."""

import asyncio
from types import FunctionType

import pytest
from asgi import Client
from django import forms
from django.contrib.auth import views as auth_views
from django.contrib.auth.models import User
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import path
from django.utils import timezone
from django.views import View, generic
from django.views.decorators.csrf import csrf_exempt
from staying import urlconf
from testapp.models import Author

TOKEN = "t" * 32
HERE = {__name__, "test_hooks", "tests.views.generic.test_hooks"}
PAGE = """{{ object }}|{{ object_list|length }}|{{ page_obj.number }}|{{ date_list|length }}|
{{ form.errors.as_text }}|{% for each in object_list %}{{ each }},{% endfor %}"""
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [("django.template.loaders.locmem.Loader", {"page.html": PAGE})],
            "context_processors": ["django.template.context_processors.request"],
        },
    }
]


class NameForm(forms.Form):
    name = forms.CharField(max_length=5)


authors = {"model": Author, "template_name": "page.html"}
edited = {**authors, "fields": ["name", "born"], "success_url": "/done/"}
dated = {
    "queryset": User.objects.order_by("pk"),
    "date_field": "date_joined",
    "template_name": "page.html",
    "allow_future": True,
}
monthly = {**dated, "month_format": "%m"}
now = timezone.now()
day = {"year": now.year, "month": now.month, "day": now.day}
GOOD, BAD = {"name": "Emma", "born": "1815"}, {"name": "", "born": "x"}
# name: (class, attributes, arguments of the URL, what is posted)
VIEWS = {
    "template": (generic.TemplateView, {"template_name": "page.html"}, {}, None),
    "redirect": (generic.RedirectView, {"url": "/done/"}, {}, {}),
    "list": (generic.ListView, {**authors, "paginate_by": 1, "ordering": "pk"}, {}, None),
    "empty list": (generic.ListView, {**authors, "allow_empty": False, "ordering": "pk"}, {}, None),
    "detail": (generic.DetailView, authors, {"pk": 1}, None),
    "form": (
        generic.FormView,
        {"form_class": NameForm, "template_name": "page.html", "success_url": "/done/"},
        {},
        GOOD,
    ),
    "create": (generic.CreateView, edited, {}, GOOD),
    "create, invalid": (generic.CreateView, edited, {}, BAD),
    "update": (generic.UpdateView, edited, {"pk": 1}, GOOD),
    "update, invalid": (generic.UpdateView, edited, {"pk": 1}, BAD),
    "delete": (generic.DeleteView, {**authors, "success_url": "/done/"}, {"pk": 1}, {}),
    "archive": (generic.ArchiveIndexView, dated, {}, None),
    "year": (generic.YearArchiveView, {**dated, "make_object_list": True}, day, None),
    "month": (generic.MonthArchiveView, monthly, day, None),
    "week": (generic.WeekArchiveView, dated, {"year": now.year, "week": 1}, None),
    "day": (generic.DayArchiveView, monthly, day, None),
    "today": (generic.TodayArchiveView, monthly, {}, None),
    "date": (generic.DateDetailView, monthly, {**day, "pk": 1}, None),
    "log in": (
        auth_views.LoginView,
        {"template_name": "page.html", "next_page": "/done/"},
        {},
        {"username": "reader", "password": "secret"},
    ),
    "log in, wrong": (
        auth_views.LoginView,
        {"template_name": "page.html"},
        {},
        {"username": "reader", "password": "wrong"},
    ),
    "log out": (auth_views.LogoutView, {"next_page": "/done/"}, {}, {}),
}


def hooks_of(cls):
    """The public methods that a view's own code calls."""
    return sorted(
        {
            name
            for base in cls.__mro__
            for name, value in vars(base).items()
            if isinstance(value, FunctionType)
            and name[0] != "_"
            and name not in set(View.http_method_names) - {"options"}
        }
    )


def asynchronous(cls, attributes, names, seen):
    """A subclass that overrides the methods by coroutine functions, which await something."""

    def override(name):
        async def method(self, *args, **kwargs):
            await asyncio.sleep(0)
            seen.append(name)
            return getattr(super(made, self), name)(*args, **kwargs)

        return method

    made = type("V", (cls,), {**attributes, **{name: override(name) for name in names}})
    return made


def everything(cls, attributes, seen):
    return asynchronous(cls, attributes, hooks_of(cls), seen)


@pytest.fixture(autouse=True)
def _data(db):
    User.objects.create_user("reader", password="secret")
    for number in range(1, 4):
        Author.objects.create(name=f"author {number}")


def described(response):
    """What tells two responses apart, of the test client of either kind."""
    status = getattr(response, "status", None) or response.status_code
    body = getattr(response, "body", None)
    text = (response.content if body is None else body).decode()
    return status, response.headers.get("location", response.headers.get("Location")), text


def answers_of(cls, attributes, route, posted):
    """A function that asks a page of the view, and what it answers without coroutine functions."""
    view = csrf_exempt(cls.as_view(**({} if cls.__module__ == __name__ else attributes)))
    patterns = urlconf(path("", view, route))
    settings = {"ROOT_URLCONF": patterns, "TEMPLATES": TEMPLATES}

    def ask(method):
        with override_settings(**settings):
            client = DjangoClient()
            return described(getattr(client, method)("/", posted if method == "post" else None))

    async def aask(method, **more):
        with override_settings(**settings, **more):
            client = Client()
            client.cookies["csrftoken"] = TOKEN
            if method == "post":
                return described(await client.post("/", posted or {}))
            return described(
                await client.request(method.upper(), "/", headers={"x-csrftoken": TOKEN})
            )

    return ask, aask


def methods(posted):
    return ["get", "options", "head", "put"] + ["post"] * (posted is not None)


def restored(ask, method, **more):
    """Ask a page, and undo what it changed."""
    answer = ask(method, **more)
    Author.objects.exclude(pk__in=[1, 2, 3]).delete()
    Author.objects.get_or_create(pk=1)
    Author.objects.filter(pk=1).update(name="author 1", born=1900)
    return answer


@pytest.mark.parametrize("name", VIEWS)
def test_all_at_once(name):
    """In a thread as under WSGI, on the loop, and in a thread that the loop waits for."""
    cls, attributes, route, posted = VIEWS[name]
    seen = []
    plain, _ = answers_of(cls, attributes, route, posted)
    ask, aask = answers_of(everything(cls, attributes, seen), attributes, route, posted)
    for method in methods(posted):
        expected = restored(plain, method)
        assert restored(ask, method) == expected, method
        for listed in ([], list(HERE)):
            given = {"AIO": {"COOPERATIVE": listed}}
            answer = restored(lambda m, **k: asyncio.run(aask(m, **k)), method, **given)
            if method == "head":
                answer = (*answer[:2], expected[2])  # a server leaves the body out, not the view
            assert answer == expected, (method, listed)
    assert {"setup", "dispatch", "options"} <= set(seen)


def test_the_methods_were_called():
    """The test above awaits nearly all of them; here are those that no page of it reaches."""
    reached, known = set(), set()
    for cls, attributes, route, posted in VIEWS.values():
        seen = []
        ask, _ = answers_of(everything(cls, attributes, seen), attributes, route, posted)
        for method in [*methods(posted), "trace"]:
            restored(ask, method)
        reached |= set(seen)
        known |= set(hooks_of(cls))
    unreached = known - reached
    # Django's own code calls these in pages with a slug, and never.
    assert unreached == {"get_slug_field", "get_next_week", "get_previous_week"}
