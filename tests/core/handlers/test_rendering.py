"""Where responses are rendered."""

import pickle

import pytest
from django.template.response import SimpleTemplateResponse
from django.utils.deprecation import MiddlewareMixin

from django_aio import cooperative

from .notes import Deferred, Rendering, note, noting, path, seen, through


async def test_a_response_may_be_rendered_by_a_coroutine():
    async def view(request):
        return Deferred()

    assert (await through([], view)).content == b"rendered"


class OwnResponse(SimpleTemplateResponse):
    """A response of this module: its code is asked, whoever returned it."""


def template_view(make=SimpleTemplateResponse, callback=None):
    def view(request):
        note("view")
        response = make(Rendering())
        if callback is not None:
            response.add_post_render_callback(callback)
        return response

    return view


def as_coroutine_view(view):
    async def coroutine_view(request):
        return view(request)

    return coroutine_view


callback = noting("callback")

RENDERINGS = {
    "sync view": (template_view(), "thread", "thread"),
    "cooperative view": (cooperative(template_view()), "loop", "loop"),
    "coroutine view": (as_coroutine_view(template_view()), "loop", "loop"),
    "response class": (as_coroutine_view(template_view(OwnResponse)), "loop", "thread"),
    "callback": (as_coroutine_view(template_view(callback=callback)), "loop", "thread"),
    "cooperative callback": (
        as_coroutine_view(template_view(callback=cooperative(noting("callback")))),
        "loop",
        "loop",
    ),
}


class Templates(MiddlewareMixin):
    @cooperative
    def process_template_response(self, request, response):
        note("templates")
        return response


@pytest.mark.parametrize("middleware", [[], [Templates]], ids=["alone", "template middleware"])
@pytest.mark.parametrize(("view", "of_view", "of_rendering"), RENDERINGS.values(), ids=RENDERINGS)
async def test_where_responses_are_rendered(view, of_view, of_rendering, middleware):
    response = await through([path(each) for each in middleware], view)
    assert response.content == b"rendered"
    places = dict(each.split() for each in seen)
    assert (places["view"], places["rendering"]) == (of_view, of_rendering)
    assert [each.split()[0] for each in seen].count("rendering") == 1
    assert ("templates" in places) is bool(middleware)


@pytest.mark.parametrize("make", [OwnResponse, Deferred])
async def test_a_rendered_response_can_be_pickled(make):
    """The cache middleware does that, in a callback after the rendering."""
    pickled = []

    async def view(request):
        response = make(Rendering()) if make is OwnResponse else make()
        if make is OwnResponse:
            response.add_post_render_callback(lambda r: pickled.append(pickle.dumps(r)))
        return response

    response = await through([], view)
    assert "render" not in vars(response)
    assert len(pickled) == (make is OwnResponse)
