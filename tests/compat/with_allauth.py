"""Sign-up with a confirmed address, login, logout; its middleware round views of both colours."""

import asyncio
import re

import site_of

site_of.configure(
    INSTALLED_APPS=["allauth", "allauth.account"],
    MIDDLEWARE=[*site_of.MIDDLEWARE, "allauth.account.middleware.AccountMiddleware"],
    AUTHENTICATION_BACKENDS=[
        "django.contrib.auth.backends.ModelBackend",
        "allauth.account.auth_backends.AuthenticationBackend",
    ],
    ACCOUNT_EMAIL_VERIFICATION="mandatory",
    ACCOUNT_LOGIN_METHODS={"username", "email"},
    ACCOUNT_RATE_LIMITS={"signup": None, "login": None, "login_failed": "5/5m/key"},
    LOGIN_REDIRECT_URL="/co/",
)

from allauth.account.decorators import reauthentication_required  # noqa: E402
from allauth.account.models import EmailAddress  # noqa: E402
from allauth.account.signals import user_signed_up  # noqa: E402
from allauth.core import context  # noqa: E402
from allauth.core.exceptions import ImmediateHttpResponse, ReauthenticationRequired  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core import mail  # noqa: E402
from django.dispatch import receiver  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import include, path  # noqa: E402
from shop.models import Author  # noqa: E402

together = {}
PASSWORD = "a correct horse"


def sync_who(request):
    email = EmailAddress.objects.filter(user_id=request.user.pk).first()
    assert context.request is request
    return JsonResponse({"user": request.user.username, "email": email and email.email})


async def who(request):
    user = await request.auser()
    if "all" in together:
        await together["all"].wait()
    email = await EmailAddress.objects.filter(user_id=user.pk).afirst()
    assert context.request is request
    return JsonResponse({"user": user.username, "email": email and email.email})


def sync_stop(request):
    raise ImmediateHttpResponse(HttpResponse("stop", status=409))


async def stop(request):
    await Author.objects.acount()
    raise ImmediateHttpResponse(HttpResponse("stop", status=409))


@reauthentication_required
def sync_secret(request):
    return HttpResponse("secret")


async def secret(request):
    raise ReauthenticationRequired


@receiver(user_signed_up)
def welcome(request, user, **kwargs):
    assert context.request is request
    Author.objects.create(name=user.username)


urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("sync/", sync_who),
    path("co/", who),
    path("sync/stop/", sync_stop),
    path("co/stop/", stop),
    path("sync/secret/", sync_secret),
    path("co/secret/", secret),
]


async def log_in(client, login, password=PASSWORD):
    return await client.post("/accounts/login/", {"login": login, "password": password})


async def sign_up(name):
    """Sign up, follow the link in the mail, log in."""
    client = AsyncClient(raise_request_exception=False)
    data = {"username": name, "email": f"{name}@example.org", "password1": PASSWORD}
    response = await client.post("/accounts/signup/", {**data, "password2": PASSWORD})
    assert response.url == "/accounts/confirm-email/", response.content.decode()
    assert (await client.get("/co/")).json()["user"] == ""

    (letter,) = (letter for letter in mail.outbox if letter.to == [f"{name}@example.org"])
    link = re.search(r"http://testserver(/accounts/confirm-email/\S+/)", letter.body)[1]
    assert f"{name}@example.org" in (await client.get(link)).content.decode()
    assert (await client.post(link)).status_code == 302
    assert (await log_in(client, name)).url == "/co/"
    return client


async def from_sign_up_to_logout():
    ada = await sign_up("ada")
    for url in ("/sync/", "/co/"):
        assert (await ada.get(url)).json() == {"user": "ada", "email": "ada@example.org"}
    assert [author.name async for author in Author.objects.all()] == ["ada"]
    assert (await ada.get("/accounts/")).url == "/accounts/email/"
    assert (await AsyncClient().get("/accounts/")).url == "/accounts/login/"
    assert "ada@example.org" in (await ada.get("/accounts/email/")).content.decode()

    assert (await ada.post("/accounts/logout/")).url == "/"
    assert (await ada.get("/co/")).json() == {"user": "", "email": None}
    assert (await log_in(ada, "ada@example.org")).url == "/co/"


async def many_at_once():
    names = [f"user{number}" for number in range(6)]
    clients = await asyncio.gather(*(sign_up(name) for name in names))
    assert await User.objects.acount() == 6
    for url in ("/sync/", "/co/"):
        together["all"] = asyncio.Barrier(6)  # all are in the view before one of them goes on
        answers = await asyncio.gather(*(client.get(url) for client in clients))
        assert [answer.json() for answer in answers] == [
            {"user": name, "email": f"{name}@example.org"} for name in names
        ]
        del together["all"]
    assert context.request is None


async def refused():
    bob = await sign_up("bob")
    await User.objects.acreate_user("idle", password=PASSWORD, is_active=False)
    await User.objects.acreate_user("new", "new@example.org", PASSWORD)
    idle, new, wrong, right = await asyncio.gather(
        log_in(AsyncClient(), "idle"),
        log_in(AsyncClient(), "new"),
        log_in(AsyncClient(), "bob", "wrong"),
        log_in(AsyncClient(), "bob"),
    )
    assert (idle.url, new.url) == ("/accounts/inactive/", "/accounts/confirm-email/")
    assert "not correct" in wrong.content.decode()
    assert right.url == "/co/"
    taken = await AsyncClient().post("/accounts/signup/", {"username": "bob"})
    assert "already exists" in taken.content.decode()
    for _ in range(4):
        assert "not correct" in (await log_in(AsyncClient(), "bob", "wrong")).content.decode()
    assert "Too many failed" in (await log_in(AsyncClient(), "bob")).content.decode()
    assert (await bob.get("/co/")).json()["user"] == "bob"


async def exceptions_that_answer():
    eve = await sign_up("eve")
    for kind in ("sync", "co"):
        response = await eve.get(f"/{kind}/stop/")
        assert (response.status_code, response.content) == (409, b"stop")
        stranger = await AsyncClient().get(f"/{kind}/secret/")
        assert stranger.url.startswith("/accounts/login/"), kind
        again = (await eve.get(f"/{kind}/secret/")).url
        assert again.startswith("/accounts/reauthenticate/"), kind
    assert "Incorrect password" in (await eve.post(again, {"password": "no"})).content.decode()
    assert (await eve.post(again, {"password": PASSWORD})).url == "/co/secret/"
    assert (await eve.get("/sync/secret/")).content == b"secret"


site_of.run(from_sign_up_to_logout, many_at_once, refused, exceptions_that_answer)
