"""Authentication: each call with its twin, and requests through the default middleware."""

import pytest
from django.contrib import auth
from django.contrib.auth import hashers
from django.contrib.auth.decorators import login_required, permission_required, user_passes_test
from django.contrib.auth.mixins import (
    LoginRequiredMixin,
    PermissionRequiredMixin,
    UserPassesTestMixin,
)
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import HttpResponse
from django.test import override_settings
from django.views import View

from django_aio import cooperative, run

from .tables import (
    CHEAP,
    DEFAULT,
    assert_same,
    documented,
    hops_of,
    hops_of_page,
)

# Authentication: each call with its twin.


def auth_calls(state):
    """{row: (what is called in the bridge, what is awaited)}."""
    password = {"password": "secret"}
    login = {"backend": "django.contrib.auth.backends.ModelBackend"}
    permission = "testapp.add_author"

    async def auser():
        return (await state.request.auser()).pk

    def pairs(owner, name, *arguments, **named):
        async def awaited():
            return await getattr(owner(), f"a{name}")(*arguments, **named)

        return lambda: getattr(owner(), name)(*arguments, **named), awaited

    def module(name, *arguments, **named):
        """A function whose arguments are known when it is called."""

        async def awaited():
            return await getattr(auth, f"a{name}")(*[each() for each in arguments], **named)

        return lambda: getattr(auth, name)(*[each() for each in arguments], **named), awaited

    def create(name):
        async def awaited():
            await getattr(User.objects, f"a{name}")(state.name, **password)

        return lambda: getattr(User.objects, name)(state.name, **password), awaited

    user, request = lambda: state.user, lambda: state.request
    return {
        "`authenticate()`": module("authenticate", request, username="reader", **password),
        "`authenticate()`, no such user": module(
            "authenticate", request, username="nobody", **password
        ),
        "`check_password()`": pairs(user, "check_password", "secret"),
        "`create_user()`": create("create_user"),
        "`create_superuser()`": create("create_superuser"),
        "`make_password()`": (lambda: hashers.make_password("secret"), None),
        "`login()`": module("login", lambda: state.nobody, user, **login),
        "`logout()`": module("logout", request),
        "`get_user()`": module("get_user", request),
        "`request.user`, `request.auser()`": (lambda: state.request.user.pk, auser),
        "`update_session_auth_hash()`": module("update_session_auth_hash", request, user),
        "`has_perm()`": pairs(user, "has_perm", permission),
        "`has_perms()`": pairs(user, "has_perms", [permission]),
        "`has_module_perms()`": pairs(user, "has_module_perms", "testapp"),
        "`get_user_permissions()`": pairs(user, "get_user_permissions"),
        "`get_group_permissions()`": pairs(user, "get_group_permissions"),
        "`get_all_permissions()`": pairs(user, "get_all_permissions"),
        "`get_by_natural_key()`": pairs(lambda: User.objects, "get_by_natural_key", "reader"),
    }


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_authentication(colour, state):
    expected = {name: row[0] for name, row in documented("hops-auth").items()}
    calls = auth_calls(state)
    assert list(expected) == list(calls)
    found = {}
    with override_settings(PASSWORD_HASHERS=[CHEAP]):
        for name, call in calls.items():
            if call[colour] is not None:
                found[name] = await hops_of(state.prepare, call[colour])
    assert_same(expected, found)


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_hashing(colour, state, monkeypatch):
    # Where it is done is counted, not how long it takes.
    monkeypatch.setattr(hashers.PBKDF2PasswordHasher, "iterations", 10)
    expected = {name: row[1] for name, row in documented("hops-auth").items()}
    found = {}
    with override_settings(PASSWORD_HASHERS=[DEFAULT, CHEAP]):
        await run(state.stored.set_password, "secret")
        await state.stored.asave()
        for name, call in auth_calls(state).items():
            if call[colour] is not None:
                found[name] = await hops_of(state.prepare, call[colour])
    assert_same(expected, found)


# Pages: a request through the default middleware, with a view of either colour.


@cooperative
def page(request):
    return HttpResponse("page")


async def apage(request):
    return HttpResponse("page")


@cooperative
def passes(user):
    return user.is_authenticated


@cooperative
class Page(View):
    def get(self, request):
        return page(request)


@cooperative
class CoroutinePage(View):
    async def get(self, request):
        return page(request)


def behind(mixin, **attributes):
    """A class-based view of either colour with the mixin before it."""
    return tuple(
        cooperative(type("Page", (mixin, base), attributes)).as_view()
        for base in (Page, CoroutinePage)
    )


def decorated(decorator):
    return decorator(page), decorator(apage)


permission = "testapp.add_author"
PAGES = {
    "`login_required`": decorated(login_required),
    "`user_passes_test`": decorated(user_passes_test(passes)),
    "`permission_required`": decorated(permission_required(permission)),
    "`LoginRequiredMixin`": behind(LoginRequiredMixin),
    "`PermissionRequiredMixin`": behind(PermissionRequiredMixin, permission_required=permission),
    "`UserPassesTestMixin`": behind(
        UserPassesTestMixin, test_func=cooperative(lambda self: self.request.user.is_active)
    ),
    "the login page": (LoginView.as_view(template_name="form.html"), None),
}


@pytest.mark.parametrize("colour", [0, 1], ids=["bridge", "awaited"])
async def test_pages(colour, state):
    expected = {name: row[colour] for name, row in documented("hops-pages").items()}
    assert list(expected) == list(PAGES)
    found = {
        name: views[colour] and await hops_of_page(state, views[colour])
        for name, views in PAGES.items()
    }
    assert_same(expected, found)
