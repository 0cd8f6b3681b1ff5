"""Jinja2: awaitables in templates, streams, environments with `enable_async`."""

import asyncio

import pytest
from django.http import HttpRequest
from django.template import TemplateDoesNotExist, engines
from django.test import override_settings
from hops import count_hops
from testapp.models import Author, Book

from django_aio import BridgeError, in_bridge, run

jinja2 = pytest.importorskip("jinja2")


async def pause():
    await asyncio.sleep(0)
    return "<paused>"


class Person:
    def __init__(self, name):
        self.name = name

    async def friend(self):
        await asyncio.sleep(0)
        return Person(f"{self.name}+")

    @property
    async def home(self):
        await asyncio.sleep(0)
        return "house"

    async def letters(self):
        for letter in "abc":
            await asyncio.sleep(0)
            yield letter


TEMPLATES = {
    "base.html": "head {% block body %}{% endblock %} tail",
    "part.html": "<{{ again }}>",
    "macro.html": "{% macro m(x) %}({{ x }}{{ caller() if caller }}){% endmacro %}",
}


async def processor(request):
    await asyncio.sleep(0)
    return {"processed": "processed"}


def environment(**options):
    return jinja2.Environment(**{**options, "loader": jinja2.DictLoader(TEMPLATES)})


@pytest.fixture(params=[False, True], ids=["sync", "enable_async"])
def engine(request):
    with settings_with(enable_async=request.param):
        yield engines["jinja2"]


def settings_with(**options):
    options |= {
        "environment": f"{__name__}.environment",
        "context_processors": [f"{__name__}.processor"],
    }
    backend = "django.template.backends.jinja2.Jinja2"
    return override_settings(TEMPLATES=[{"BACKEND": backend, "OPTIONS": options}])


def names():
    return {"ann": Person("Ann"), "pause": pause, "again": pause(), "items": {"x": pause()}}


LANGUAGE = {
    "{{ pause() }}": "&lt;paused&gt;",
    "{{ again }}{{ again }}{% include 'part.html' %}": "&lt;paused&gt;" * 2 + "<&lt;paused&gt;>",
    "{{ ann.friend().name }}": "Ann+",
    "{{ ann.home }} {{ ann['home'] }}": "house house",
    "{{ items.x }}{{ items['x'] }}": "&lt;paused&gt;&lt;paused&gt;",
    "{{ pause()|upper }}": "&lt;PAUSED&gt;",
    "{% if pause() == '<paused>' %}yes{% endif %}": "yes",
    "{% set p = pause() %}{{ p }}": "&lt;paused&gt;",
    "{% for letter in ann.letters() %}{{ letter }}{% endfor %}": "abc",
    "{% from 'macro.html' import m %}{{ m(pause()) }}": "(&lt;paused&gt;)",
    "{% from 'macro.html' import m %}{% call m(ann.home) %}{{ pause() }}{% endcall %}": (
        "(house&lt;paused&gt;)"
    ),
    "{% extends 'base.html' %}{% block body %}{{ pause() }}{% endblock %}": (
        "head &lt;paused&gt; tail"
    ),
    "{{ ann.nope }}{{ nope }}": "",
}


def close(context):
    """What was not reached would be a warning, which is an error."""
    for coroutine in (context["again"], context["items"]["x"]):
        coroutine.close()


@pytest.mark.parametrize("text", LANGUAGE)
async def test_in_the_bridge(text, engine):
    context = names()
    with count_hops() as hops:
        assert await engine.from_string(text).arender(context) == LANGUAGE[text]
    assert not hops
    close(context)


@pytest.mark.parametrize("text", LANGUAGE)
async def test_streamed(text, engine):
    context = names()
    pieces = [piece async for piece in engine.from_string(text).astream(context)]
    assert "".join(pieces) == LANGUAGE[text]
    close(context)


@pytest.mark.parametrize("text", LANGUAGE)
def test_in_a_thread_without_a_loop(text):
    with settings_with():
        context = names()
        assert engines["jinja2"].from_string(text).render(context) == LANGUAGE[text]
        close(context)


def test_with_enable_async_a_thread_has_jinja2_s_own_loop():
    with settings_with(enable_async=True):
        assert engines["jinja2"].from_string("{{ pause() }}").render({"pause": pause})


async def test_a_coroutine_called_render_directly():
    with settings_with():
        template = engines["jinja2"].from_string("{{ pause() }}")
        with pytest.raises(BridgeError, match=r"'pause' is awaitable.*await template\.arender"):
            template.render({"pause": pause})


async def test_jinja2_s_own_api_is_as_ever():
    """An environment with `enable_async` awaits by itself, outside the bridge."""
    with settings_with(enable_async=True):
        template = engines["jinja2"].env.from_string("{{ pause() }}{{ (ann.friend()).name }}")
        context = {"pause": pause, "ann": Person("Ann")}
        assert await template.render_async(context) == "&lt;paused&gt;Ann+"


async def test_requests(engine):
    text = "{{ processed }} {{ request.method }}"
    request = HttpRequest()
    request.method = "GET"
    assert await engine.from_string(text).arender({}, request) == "processed GET"
    assert [piece async for piece in engine.from_string(text).astream({}, request)] == [
        "processed GET"
    ]


async def test_the_head_leaves_before_the_query(db, engine):
    author = await Author.objects.acreate(name="Ann")
    await Book.objects.acreate(title="One", author=author)
    text = "head{% for book in books() %}{{ book.title }}:{{ book.author.name }}{% endfor %}"

    def books():
        assert in_bridge()
        return Book.objects.all()

    pieces = [piece async for piece in engine.from_string(text).astream({"books": books})]
    assert (pieces[0], "".join(pieces)) == ("head", "headOne:Ann")


async def test_errors_are_the_backend_s(engine):
    def broken():
        raise ValueError("broken")

    for method in ("arender", "render"):
        with pytest.raises(ValueError, match="broken"):
            template = engine.from_string("{{ broken() }}")
            call = getattr(template, method)
            await (
                call({"broken": broken}) if method == "arender" else run(call, {"broken": broken})
            )
    with pytest.raises(TemplateDoesNotExist):
        engine.get_template("nowhere.html")


def test_the_environment_keeps_its_class():
    with settings_with():
        env = engines["jinja2"].env
        assert isinstance(env, jinja2.Environment)
        assert (type(env).__name__, type(env).__module__) == ("Environment", "jinja2.environment")
        assert type(env.overlay()) is type(env)


def test_the_sandbox_is_kept():
    sandbox = "jinja2.sandbox.SandboxedEnvironment"
    backend = "django.template.backends.jinja2.Jinja2"
    entry = {"BACKEND": backend, "OPTIONS": {"environment": sandbox}}
    with override_settings(TEMPLATES=[entry]):
        template = engines["jinja2"].from_string("{{ ''.__class__.__mro__ }}{{ pause() }}")
        with pytest.raises(Exception, match="unsafe"):
            template.render({"pause": pause})
        template = engines["jinja2"].from_string("{{ pause() }}{{ ann.home }}")
        assert template.render({"pause": pause, "ann": Person("a")}) == "&lt;paused&gt;house"
