"""Wrong passwords lock a user out, at Django's LoginView and at a coroutine that signs in."""

import asyncio

import site_of

site_of.configure(
    INSTALLED_APPS=["axes"],
    MIDDLEWARE=[*site_of.MIDDLEWARE, "axes.middleware.AxesMiddleware"],
    AUTHENTICATION_BACKENDS=[
        "axes.backends.AxesStandaloneBackend",
        "django.contrib.auth.backends.ModelBackend",
    ],
    AXES_FAILURE_LIMIT=3,
    AXES_LOCKOUT_PARAMETERS=["username"],
    AXES_RESET_ON_SUCCESS=True,
    LOGIN_REDIRECT_URL="/",
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "loggers": {"axes": {"level": "CRITICAL"}},
    },
)

from asgiref.sync import sync_to_async  # noqa: E402
from axes.models import AccessAttempt, AccessLog  # noqa: E402
from axes.signals import user_locked_out  # noqa: E402
from axes.utils import reset  # noqa: E402
from django.contrib.auth import alogin, authenticate  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.auth.views import LoginView, LogoutView  # noqa: E402
from django.dispatch import receiver  # noqa: E402
from django.forms import Form  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402
from shop.models import Author  # noqa: E402


class Page(LoginView):
    def render_to_response(self, context):
        assert isinstance(context["form"], Form)
        return HttpResponse("; ".join(context["form"].non_field_errors()))


async def sign_in(request):
    name, password = request.POST["username"], request.POST["password"]
    user = await sync_to_async(authenticate)(request, username=name, password=password)
    if user is None:
        if "crash" in request.POST:
            raise ValueError("after the failure was counted")
        return HttpResponse("wrong", status=401)
    await alogin(request, user)
    return HttpResponse("welcome", status=302)


async def who(request):
    return HttpResponse((await request.auser()).username)


@receiver(user_locked_out)
def note(request, username, **kwargs):
    """Each lock-out leaves a row."""
    Author.objects.create(name=f"{username} at {request.path}")


urlpatterns = [
    path("", who),
    path("page/", Page.as_view()),
    path("coroutine/", sign_in),
    path("logout/", LogoutView.as_view(next_page="/")),
]

WRONG = {"/page/": 200, "/coroutine/": 401}


async def attempt(client, url, name, password="wrong", **more):
    response = await client.post(url, {"username": name, "password": password, **more})
    return response.status_code


async def locked_out():
    for number, (url, wrong) in enumerate(WRONG.items()):
        ada, bob = f"ada{number}", f"bob{number}"
        for name in (ada, bob):
            await User.objects.acreate_user(name, password=name)
        client = AsyncClient()
        assert [await attempt(client, url, ada) for _ in range(2)] == [wrong] * 2
        assert (await AccessAttempt.objects.aget(username=ada)).failures_since_start == 2
        assert await attempt(client, url, ada, ada) == 302  # which forgives
        assert not await AccessAttempt.objects.filter(username=ada).aexists()

        assert [await attempt(client, url, ada) for _ in range(4)] == [wrong, wrong, 429, 429]
        response = await client.post(url, {"username": ada, "password": ada})
        assert response.status_code == 429
        assert b"Account locked" in response.content
        assert [author.name async for author in Author.objects.filter(name__startswith=ada)] == [
            f"{ada} at {url}"
        ] * 3
        assert await attempt(AsyncClient(), url, bob, bob) == 302  # from the same address

        assert await sync_to_async(reset)(username=ada) == 1
        assert await attempt(client, url, ada, ada) == 302
        assert (await client.get("/")).content.decode() == ada


async def log_of_visits():
    await User.objects.acreate_user("ada", password="right")
    for url in WRONG:
        client = AsyncClient()
        assert await attempt(client, url, "ada", "right") == 302
        visit = await AccessLog.objects.alatest("id")
        assert (visit.username, visit.path_info, visit.logout_time) == ("ada", url, None)
        assert (await client.post("/logout/")).status_code == 302
        await visit.arefresh_from_db()
        assert visit.logout_time is not None
        assert (await client.get("/")).content == b""


async def many_at_once():
    """Each failure is counted, and nobody else is locked out."""
    names = [f"user{number}" for number in range(4)]
    for name in (*names, "victim"):
        await User.objects.acreate_user(name, password=name)
    clients = {(url, name): AsyncClient() for url in WRONG for name in names}
    attacks = [attempt(AsyncClient(), url, "victim") for url in WRONG for _ in range(4)]
    visits = [attempt(client, url, name, name) for (url, name), client in clients.items()]
    answers = await asyncio.gather(*attacks, *visits)
    assert answers[8:] == [302] * 8
    assert answers[:8].count(429) >= 6  # which of them come first is not known
    assert (await AccessAttempt.objects.aget()).failures_since_start == 8
    assert await AccessLog.objects.acount() == 8
    for (_, name), client in clients.items():
        assert (await client.get("/")).content.decode() == name
    assert await attempt(AsyncClient(), "/page/", "victim", "victim") == 429


async def failure_in_a_view_that_crashes():
    client = AsyncClient(raise_request_exception=False)
    for _ in range(2):
        assert await attempt(client, "/coroutine/", "nobody", crash="yes") == 500
    assert (await AccessAttempt.objects.aget(username="nobody")).failures_since_start == 2
    assert await attempt(client, "/page/", "nobody") == 429


site_of.run(locked_out, log_of_visits, many_at_once, failure_in_a_view_that_crashes)
