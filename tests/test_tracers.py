"""Tracers that put something round Django before us, or after us: each call is seen once."""

import json
import subprocess
import sys

import pytest

SITE = """
import asyncio, functools, json, sys

import asgiref.sync
seen = []


def note(name):
    seen.append(name)


TRACER
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django_aio"], ROOT_URLCONF="__main__", SECRET_KEY="a", ALLOWED_HOSTS=["*"]
)
import django

django.setup()
AFTERWARDS
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import path
from django.views import View

from django_aio import series


class Page(View):
    async def get(self, request):
        return HttpResponse()


urlpatterns = [path("", Page.as_view())]
response = asyncio.run(AsyncClient().get("/"))
print(json.dumps([response.status_code, seen, [patch.target for patch in series.conflicts()]]))
"""

RESPONSES = """
from django.core.handlers.base import BaseHandler

def trace(when, get_response=BaseHandler.get_response):
    sync, coroutine = BaseHandler.get_response, BaseHandler.get_response_async

    def get_response(self, request):
        note(f"{when} get_response")
        return sync(self, request)

    async def get_response_async(self, request):
        note(f"{when} get_response_async")
        return await coroutine(self, request)

    BaseHandler.get_response, BaseHandler.get_response_async = get_response, get_response_async

trace("before")
"""

PROXY = """
import wrapt

def trace(wrapped, instance, args, kwargs):
    note("as_view")
    return wrapped(*args, **kwargs)

wrapt.wrap_function_wrapper("django.views", "View.as_view", trace)
"""

CROSSING = """
def trace(upstream):
    def sync_to_async(*args, **kwargs):
        return upstream(*args, **kwargs)
    return sync_to_async

asgiref.sync.sync_to_async = trace(asgiref.sync.sync_to_async)
"""


def visited(tracer, afterwards=""):
    """What a tracer has seen of one request to a site of its own."""
    code = SITE.replace("TRACER", tracer).replace("AFTERWARDS", afterwards)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    status, seen, conflicts = json.loads(done.stdout)
    assert (status, conflicts) == (200, [])
    return seen


def test_a_request_is_one_call_for_those_before_and_after_us():
    seen = visited(RESPONSES, 'trace("after")')
    assert seen == ["after get_response_async", "before get_response_async"]


def test_a_proxy_of_a_class_method_is_called():
    assert visited(PROXY) == ["as_view"]


def test_who_replaces_sync_to_async_in_asgiref_is_not_in_the_way():
    """Django's modules have it from there: nobody has bound their names anew."""
    assert visited(CROSSING) == []


@pytest.mark.parametrize("tracer", [RESPONSES, PROXY, CROSSING])
def test_the_tracers_see_the_same_in_stock_django(tracer):
    code = SITE.replace("TRACER", tracer).replace("AFTERWARDS", "")
    code = code.replace('["django_aio"]', "[]").replace("from django_aio import series", "")
    code = code.replace("[patch.target for patch in series.conflicts()]", "[]")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)[1] == visited(tracer)
