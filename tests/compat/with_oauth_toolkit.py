"""Codes, tokens, refreshing, revocation, introspection, and what a token protects."""

import asyncio
import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import site_of

BACKEND = "django.contrib.auth.backends.ModelBackend"
site_of.configure(
    INSTALLED_APPS=["oauth2_provider"],
    AUTHENTICATION_BACKENDS=["oauth2_provider.backends.OAuth2Backend", BACKEND],
    MIDDLEWARE=[*site_of.MIDDLEWARE, "oauth2_provider.middleware.OAuth2TokenMiddleware"],
    LOGIN_URL="/login/",
    OAUTH2_PROVIDER={"SCOPES": {"read": "Read", "write": "Write", "introspection": "Ask"}},
)

from django.contrib.auth.models import User  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.decorators import protected_resource  # noqa: E402
from oauth2_provider.models import AccessToken, Application  # noqa: E402
from oauth2_provider.signals import app_authorized  # noqa: E402
from oauth2_provider.views.generic import ReadWriteScopedResourceView  # noqa: E402
from shop.models import Author  # noqa: E402

VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode()
BACK = "https://client.example/back"
NAMES = [f"user{number}" for number in range(6)]
authorized = []


def remember(token, **kwargs):
    kept = AccessToken.objects.get(pk=token.pk)
    authorized.append(str(kept.user or kept.application))


app_authorized.connect(remember)


class Authors(ReadWriteScopedResourceView):
    def get(self, request):
        names = list(Author.objects.order_by("pk").values_list("name", flat=True))
        return JsonResponse({"user": request.resource_owner.username, "names": names})

    def post(self, request):
        with transaction.atomic():
            Author.objects.create(name=f"of {request.resource_owner.username}")
            return self.get(request)


@protected_resource(scopes=["write"])
def secret(request):
    return JsonResponse({"user": request.resource_owner.username})


async def mine(request):
    """The user is one that the middleware has found by the token."""
    if not request.user.is_authenticated:
        return JsonResponse({}, status=401)
    scopes = [token.scope async for token in AccessToken.objects.filter(user=request.user)]
    return JsonResponse({"user": request.user.username, "scopes": scopes})


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("authors/", Authors.as_view()),
    path("secret/", secret),
    path("mine/", mine),
]


async def fill(*users):
    """Users, an application that they use, and one that is nobody's."""
    authorized.clear()
    for name in users:
        await User.objects.acreate_user(name)
    for name, grant in (("web", "authorization-code"), ("machine", "client-credentials")):
        await Application.objects.acreate(
            name=name,
            client_id=name,
            client_secret=name,
            client_type="confidential",
            authorization_grant_type=grant,
            redirect_uris=BACK,
        )


async def token(app="web", **data):
    """Ask for a token. Returns the status and the answer."""
    basic = base64.b64encode(f"{app}:{app}".encode()).decode()
    headers = {"authorization": f"Basic {basic}"}
    answer = await AsyncClient().post("/o/token/", data, headers=headers)
    return answer.status_code, answer.json()


async def code(name, scope="read write"):
    """What a browser does: log in, see the page, allow, and be sent back with a code."""
    client = AsyncClient()
    query = {
        "client_id": "web",
        "response_type": "code",
        "redirect_uri": BACK,
        "scope": scope,
        "state": name,
        "code_challenge": CHALLENGE.rstrip("="),
        "code_challenge_method": "S256",
    }
    sent = await client.get("/o/authorize/", query)
    assert sent["location"].startswith("/login/?next=")
    user = await User.objects.aget(username=name)
    await client.aforce_login(user, BACKEND)
    page = (await client.get("/o/authorize/", query)).content.decode()
    assert "Authorize web?" in page, page
    sent = await client.post("/o/authorize/", {**query, "allow": "Authorize"})
    found = parse_qs(urlsplit(sent["location"]).query)
    assert found["state"] == [name]
    return found["code"][0]


async def user_token(name, scope="read write"):
    """What the application makes of the code: the answer, and headers with the token."""
    given = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": VERIFIER}
    received = await code(name, scope)
    status, answer = await token(code=received, **given)
    assert (status, answer["scope"]) == (200, scope)
    assert await token(code=received, **given) == (400, {"error": "invalid_grant"})
    return answer, bearer(answer)


def bearer(answer):
    return {"authorization": f"Bearer {answer['access_token']}"}


async def status_of(url, headers, method="get"):
    return (await getattr(AsyncClient(), method)(url, headers=headers)).status_code


async def protected():
    await fill("ann")
    _, reads = await user_token("ann", "read")
    _, both = await user_token("ann")
    for headers, *expected in (
        (both, 200, 200, 200, 200),
        (reads, 200, 403, 403, 200),
        ({"authorization": "Bearer wrong"}, 403, 403, 403, 401),
        ({}, 403, 403, 403, 401),
    ):
        found = [await status_of("/authors/", headers)]
        found.append(await status_of("/authors/", headers, "post"))
        found += [await status_of(url, headers) for url in ("/secret/", "/mine/")]
        assert found == expected, (headers, found)
    answer = await AsyncClient().get("/mine/", headers=both)
    assert answer.json() == {"user": "ann", "scopes": ["read", "read write"]}
    assert "Authorization" in answer["vary"]
    await AccessToken.objects.aupdate(expires="2020-01-01T00:00Z")
    assert await status_of("/authors/", both) == 403


async def many_users():
    """All the way from the login to the resource, all at once."""
    await fill(*NAMES)
    tokens = await asyncio.gather(*(user_token(name) for name in NAMES))
    assert sorted(authorized) == NAMES
    client = AsyncClient()
    await asyncio.gather(*(client.post("/authors/", headers=headers) for _, headers in tokens))
    found = Author.objects.order_by("name").values_list("name", flat=True)
    assert [name async for name in found] == [f"of {name}" for name in NAMES]
    for url in ("/authors/", "/secret/", "/mine/"):
        answers = await asyncio.gather(*(client.get(url, headers=each) for _, each in tokens))
        assert [answer.json()["user"] for answer in answers] == NAMES


async def refreshed():
    """New tokens for old ones; an old one is worth nothing, nor is a revoked one."""
    await fill(*NAMES)
    old = await asyncio.gather(*(user_token(name) for name in NAMES))
    ways = [{"grant_type": "refresh_token", "refresh_token": a["refresh_token"]} for a, _ in old]
    new = [answer for _, answer in await asyncio.gather(*(token(**way) for way in ways))]
    said = [(await AsyncClient().get("/mine/", headers=bearer(each))).json() for each in new]
    assert [each["user"] for each in said] == NAMES
    assert {await status_of("/mine/", headers) for _, headers in old} == {401}
    again = await asyncio.gather(*(token(**way) for way in ways))
    assert again == [(400, {"error": "invalid_grant"})] * len(NAMES)
    gone = {"token": new[0]["access_token"], "client_id": "web", "client_secret": "web"}
    assert (await AsyncClient().post("/o/revoke_token/", gone)).status_code == 200
    assert [await status_of("/secret/", bearer(each)) for each in new[:2]] == [403, 200]


async def introspected():
    await fill("ann")
    answer, headers = await user_token("ann")
    _, machine = await token("machine", grant_type="client_credentials", scope="introspection")
    asked, client = {"token": answer["access_token"]}, AsyncClient()
    told = (await client.post("/o/introspect/", asked, headers=bearer(machine))).json()
    assert (told["active"], told["username"], told["client_id"]) == (True, "ann", "web")
    told = await client.post("/o/introspect/", {"token": "x"}, headers=bearer(machine))
    assert told.json() == {"active": False}
    assert (await client.post("/o/introspect/", asked, headers=headers)).status_code == 403
    refused = await token("nobody", grant_type="client_credentials")
    assert refused == (401, {"error": "invalid_client"})


site_of.run(protected, many_users, refreshed, introspected)
