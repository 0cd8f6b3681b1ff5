"""Class-based views whose methods and handlers are of both colours, mixed."""

import asyncio
import functools
import threading

import pytest
from asgi import Client
from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.contrib.auth.mixins import AccessMixin, PermissionRequiredMixin, UserPassesTestMixin
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import transaction
from django.http import HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, RequestFactory, override_settings
from django.test import Client as DjangoClient
from django.urls import path
from django.utils.decorators import classonlymethod, method_decorator
from django.views import View, generic
from django.views.decorators.csrf import csrf_exempt
from staying import on_the_loop, urlconf
from testapp.models import Author

from django_aio import BridgeError, blocking, cooperative, run

LOOP, THREAD = "on the loop", "in a thread"


def place():
    return LOOP if threading.current_thread() is threading.main_thread() else THREAD


def request_of(method="get", **attributes):
    request = getattr(RequestFactory(), method)("/")
    vars(request).update(attributes)
    return request


async def ask(cls, method="get", **overridden):
    """One request to the view, whose module is not on the list."""
    patterns = urlconf(path("", csrf_exempt(cls.as_view())))
    with override_settings(ROOT_URLCONF=patterns, **overridden):
        return await Client().request(method.upper(), "/")


class AsyncContext:
    """A mixin that is no view."""

    async def get_context_data(self, **kwargs):
        await asyncio.sleep(0)
        return {**super().get_context_data(**kwargs), "place": place()}


class Shown:
    def render_to_response(self, context, **kwargs):
        return HttpResponse(f"{context['place']}, {place()}")


class Mixed(Shown, AsyncContext, generic.TemplateView):
    template_name = "none.html"


# Hooks.


async def test_a_hook_of_an_unlisted_view_is_awaited_from_its_thread():
    assert (await ask(Mixed)).text == f"{LOOP}, {THREAD}"
    assert (await ask(cooperative(type("V", (Mixed,), {})))).text == f"{LOOP}, {LOOP}"


def test_a_hook_is_awaited_where_no_loop_runs():
    assert Mixed.as_view()(request_of()).content


async def test_in_a_thread_that_a_coroutine_waits_for():
    assert (await sync_to_async(Mixed.as_view())(request_of())).content


async def test_a_coroutine_that_calls_the_view_directly_is_told_what_to_do():
    view = Mixed.as_view()
    with pytest.raises(BridgeError, match=r"get_context_data\(\) is a coroutine.*run\(view, req"):
        view(request_of())
    assert (await run(view, request_of())).content


async def test_a_coroutine_awaits_a_hook():
    view = Mixed()
    view.setup(request_of())
    assert (await view.get_context_data())["view"] is view
    assert (await run(view.get_context_data))["view"] is view


async def test_hooks_of_hooks(db):
    class Base(generic.ListView):
        async def get_queryset(self):
            assert await Author.objects.acreate(name="a")
            return Author.objects.filter(name="a")

        def get_template_names(self):
            return ["books.html"]

    class Derived(Base):
        async def get_queryset(self):
            return (await super().get_queryset()).order_by("pk")

        async def get_context_data(self, **kwargs):
            context = super().get_context_data(**kwargs)  # synchronous, and calls get_queryset()
            return {**context, "count": await context["object_list"].acount()}

    class Last(Derived):
        def get_context_data(self, **kwargs):
            return {"names": str(super().get_context_data(**kwargs)["count"])}

        def render_to_response(self, context, **kwargs):
            return HttpResponse(context["names"])

    assert (await ask(Last)).text == "1"


async def test_errors_of_hooks_reach_the_view():
    class Refusing(generic.TemplateView):
        async def get_context_data(self, **kwargs):
            await asyncio.sleep(0)
            raise PermissionDenied

        def get(self, request):
            try:
                return super().get(request)
            except PermissionDenied:
                return HttpResponse("refused", status=403)

    assert (await ask(Refusing)).text == "refused"


def test_what_overrides_nothing_stays_a_coroutine_function():
    class Own(View):
        async def load(self):
            return "loaded"

        def get(self, request):
            return HttpResponse(asyncio.run(self.load()))

    assert Own.as_view()(request_of()).content == b"loaded"


def test_methods_that_are_decorated_later():
    """A class decorator is called when the class has been made."""

    @method_decorator(transaction.atomic, name="get_context_data")
    class Decorated(Mixed):
        async def get_context_data(self, **kwargs):
            return await super().get_context_data(**kwargs)

    class Derived(Decorated):
        pass

    for cls in (Decorated, Derived):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transaction, "atomic", None)
            cls.as_view()
    assert iscoroutinefunction(Decorated.get_context_data)


# dispatch() and setup().


class Waiting:
    async def dispatch(self, request, *args, **kwargs):
        await asyncio.sleep(0)
        response = super().dispatch(request, *args, **kwargs)
        response = await response if asyncio.iscoroutine(response) else response
        response["X-Dispatched"] = place()
        return response


class Sync(View):
    def get(self, request):
        return HttpResponse(place())


class Async(View):
    async def get(self, request):
        return HttpResponse(place())


@pytest.mark.parametrize("handler", [Sync, Async])
@pytest.mark.parametrize("listed", [True, False])
async def test_dispatch_as_a_coroutine_function(handler, listed):
    """A synchronous handler runs where the policy says, even if a coroutine calls it."""
    cls = type("V", (Waiting, handler), {})
    response = await ask(cls, AIO={"COOPERATIVE": [__name__]} if listed else {})
    assert response.headers["x-dispatched"] == LOOP
    assert response.text == (THREAD if handler is Sync and not listed else LOOP)
    assert iscoroutinefunction(cls.as_view()) is (handler is Async)


def test_dispatch_as_a_coroutine_function_under_wsgi():
    patterns = urlconf(
        *(path(f"{c.__name__}/", type("V", (Waiting, c), {}).as_view()) for c in (Sync, Async))
    )
    with override_settings(ROOT_URLCONF=patterns):
        for name in ("Sync", "Async"):
            assert DjangoClient().get(f"/{name}/").headers["X-Dispatched"]


class Marked(Waiting, Sync):
    """Its view is marked, as packages do that wrote `async def dispatch()` before Django 4.1."""

    @classonlymethod
    def as_view(cls, **options):
        return markcoroutinefunction(super().as_view(**options))


async def test_a_marked_view_is_awaited():
    marked = Marked.as_view()

    async def around(request):
        return await marked(request)

    request = AsyncRequestFactory().get("/")
    assert (await marked(request)).headers["X-Dispatched"]
    with override_settings(ROOT_URLCONF=urlconf(path("a/", marked), path("b/", around))):
        for url in ("/a/", "/b/"):
            assert (await AsyncClient().get(url)).headers["X-Dispatched"]
            response = await sync_to_async(DjangoClient().get)(url)
            assert response.headers["X-Dispatched"]


def test_a_marked_view_is_awaited_under_wsgi():
    with override_settings(ROOT_URLCONF=urlconf(path("a/", Marked.as_view()))):
        assert DjangoClient().get("/a/").headers["X-Dispatched"]


def test_attributes_of_dispatch_reach_the_view():
    class Exempt(View):
        @method_decorator(csrf_exempt)
        async def dispatch(self, request, *args, **kwargs):
            return super().dispatch(request, *args, **kwargs)

        def post(self, request):
            return HttpResponse("posted")

    view = Exempt.as_view()
    assert view.csrf_exempt
    assert not iscoroutinefunction(view)
    assert view(request_of("post")).content == b"posted"


async def test_setup_as_a_coroutine_function(db):
    class Prepared(View):
        async def setup(self, request, *args, **kwargs):
            super().setup(request, *args, **kwargs)
            self.authors = await Author.objects.acount()

        def get(self, request):
            return HttpResponse(self.authors)

    class AsyncPrepared(Prepared):
        async def get(self, request):
            return HttpResponse(self.authors)

    assert (await ask(Prepared)).text == (await ask(AsyncPrepared)).text == "0"


async def test_options_as_a_coroutine_function():
    for base in (Sync, Async):

        class Optional(base):
            async def options(self, request, *args, **kwargs):
                await asyncio.sleep(0)
                return HttpResponse("options")

        assert (await ask(Optional, "options")).text == "options"
        assert (await ask(Optional, "put")).status == 405


# Handlers.


class Posting(generic.UpdateView):
    """Its own handler is asynchronous, and it inherits get() and put() from Django."""

    model = Author
    fields = ("name",)
    success_url = "/"

    def get_object(self):
        return Author(name=place())

    def render_to_response(self, context, **kwargs):
        return HttpResponse(context["object"].name)

    async def post(self, request, *args, **kwargs):
        return HttpResponse("posted")


async def test_asynchronous_handlers_next_to_those_of_django():
    assert Posting.view_is_async
    assert iscoroutinefunction(Posting.as_view())
    assert (await ask(Posting, "post")).text == "posted"
    assert (await ask(Posting)).text == THREAD
    assert (await ask(Posting, "put")).text == "posted"  # Django's put() calls post()
    assert (await ask(Posting, "head")).status == (await ask(Posting, "options")).status == 200
    assert (await ask(Posting, "delete")).status == 405
    listed = cooperative(type("V", (Posting,), {}))
    assert (await ask(listed)).text == LOOP


def test_asynchronous_handlers_next_to_those_of_django_under_wsgi():
    with override_settings(ROOT_URLCONF=urlconf(path("", Posting.as_view()))):
        assert DjangoClient().post("/").content == b"posted"
        assert DjangoClient().get("/").content


async def test_the_inherited_handler_can_be_called():
    class Super(Posting):
        async def post(self, request, *args, **kwargs):
            return await run(super().get, request, *args, **kwargs)

    assert (await ask(Super, "post")).text == LOOP


def timed(func):
    def call(*args, **kwargs):
        return func(*args, **kwargs)

    return call


async def test_an_asynchronous_handler_calls_hooks_by_run():
    class Called(Mixed):
        async def get(self, request):
            helpers = timed, functools.partial, lambda func: lambda: func()
            for helper in helpers:  # gets the coroutine and hands it on
                assert (await helper(self.get_context_data)())["place"] == LOOP
            assert (await asyncio.ensure_future(timed(self.get_context_data)()))["place"] == LOOP
            return HttpResponse(await run(self.get_described))

        def get_described(self):
            return self.get_context_data()["place"]

    assert (await ask(Called)).text == LOOP


@pytest.mark.parametrize("order", [1, -1])
def test_handlers_of_a_project_may_not_be_mixed(order):
    class SyncPost(View):
        def post(self, request):
            """A project's own."""

    bases = (SyncPost, Async)[::order]
    with pytest.raises(ImproperlyConfigured, match="must either be all sync or all async"):
        type("V", bases, {}).as_view()
    with pytest.raises(ImproperlyConfigured):
        type("V", (Sync, Posting), {}).as_view()


def test_views_of_django_are_what_they_were():
    for cls in (View, generic.UpdateView, Sync):
        assert cls.view_is_async is False


async def test_blocking_wins():
    class Blocked(Posting):
        @blocking
        def get(self, request, *args, **kwargs):
            return super().get(request, *args, **kwargs)

    with pytest.raises(ImproperlyConfigured):
        Blocked.as_view()
    marked = blocking(type("V", (Posting,), {}))
    assert (await ask(marked, AIO={"COOPERATIVE": [__name__]})).text == THREAD


# What the access mixins ask.


class Refused(AccessMixin):
    async def handle_no_permission(self):
        await asyncio.sleep(0)
        return super().handle_no_permission()

    async def get_login_url(self):
        await asyncio.sleep(0)
        return "/enter/"


class Tested(Refused, UserPassesTestMixin):
    async def test_func(self):
        await asyncio.sleep(0)
        return False


class Permitted(Refused, PermissionRequiredMixin):
    async def get_permission_required(self):
        await asyncio.sleep(0)
        return ["testapp.add_author"]


class Inherited(Tested):
    def test_func(self):
        return not super().test_func()


@pytest.mark.parametrize("handler", [Sync, Async])
async def test_access_mixins(handler):
    async def answered(mixin):
        view = type("V", (mixin, handler), {}).as_view()
        response = await run(view, request_of(user=AnonymousUser()))
        return await response if asyncio.iscoroutine(response) else response

    for mixin in (Tested, Permitted):
        response = await answered(mixin)
        assert (response.status_code, response["Location"]) == (302, "/enter/?next=/")
    # A synchronous method that asks the one it overrides does not take a coroutine for a yes.
    assert (await answered(Inherited)).status_code == 200


async def test_hooks_cost_no_hop(db):
    @cooperative
    class Awaited(Waiting, Mixed):
        async def get_template_names(self):
            return ["books.html"]

    client = Client()
    with override_settings(ROOT_URLCONF=urlconf(path("", Awaited.as_view()))):
        await client.get("/")
        with on_the_loop():
            assert (await client.get("/")).text == f"{LOOP}, {LOOP}"
