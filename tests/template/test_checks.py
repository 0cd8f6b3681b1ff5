"""What `manage.py check` says about tags, filters and context processors."""

import sys
from types import ModuleType

import pytest
from django.core.checks import INFO
from django.core.management import call_command
from django.template import Library
from django.test import override_settings

from django_aio import blocking
from django_aio.checks import templates

NAME = "library_of_a_test"


def processor(request):
    return {}


async def aprocessor(request):
    return {}


@blocking
def blocking_processor(request):
    return {}


def entry(*processors, backend="django.DjangoTemplates", **options):
    options["context_processors"] = [f"{__name__}.{each.__name__}" for each in processors]
    return {"BACKEND": f"django.template.backends.{backend}", "OPTIONS": options}


@pytest.fixture
def library(monkeypatch):
    """A library whose module can be loaded by name."""
    module = ModuleType(NAME)
    module.register = Library()
    monkeypatch.setitem(sys.modules, NAME, module)
    with override_settings(TEMPLATES=[entry(libraries={"mine": NAME})]):
        yield module.register


def test_django_s_own_are_not_reported():
    assert templates.check_libraries(None) == []
    assert templates.check_context_processors(None) == []


def test_tags_and_filters_are_grouped(library):
    @library.filter
    def shout(value):
        return value.upper()

    @library.simple_tag
    def here():
        return ""

    @library.tag
    def custom(parser, token):
        return None

    @library.filter
    async def afilter(value):
        return value

    @library.simple_tag
    async def atag():
        return ""

    @library.filter
    @blocking
    def meant(value):
        return value

    (message,) = templates.check_libraries(None)
    assert (message.id, message.level, message.obj) == ("django_aio.I008", INFO, __name__)
    assert message.msg.startswith(f"3 template functions go to a thread: {__name__} is not")
    for name in ("shout", "here", "custom"):
        assert f".{name}" in message.msg
    for name in ("afilter", "atag", "meant"):
        assert name not in message.msg
    assert "add it to AIO['COOPERATIVE']" in message.hint
    assert "coroutine functions" in message.hint
    with override_settings(AIO={"COOPERATIVE": [__name__]}):
        assert templates.check_libraries(None) == []


@pytest.mark.parametrize("backend", ["django.DjangoTemplates", "jinja2.Jinja2"])
def test_context_processors(backend):
    if "jinja2" in backend:
        pytest.importorskip("jinja2")
    entries = [entry(processor, aprocessor, blocking_processor, backend=backend)]
    with override_settings(TEMPLATES=entries):
        (message,) = templates.check_context_processors(None)
    assert (message.id, message.obj) == ("django_aio.I009", f"{__name__}.processor")
    assert message.msg == (
        f"The context processor '{__name__}.processor' costs every page a thread: "
        f"{__name__} is not on the list AIO['COOPERATIVE']."
    )
    with override_settings(TEMPLATES=entries, AIO={"COOPERATIVE": [__name__]}):
        assert templates.check_context_processors(None) == []


def test_the_command_reports_them(library, capsys):
    library.filter("shout", lambda value: value)
    call_command("check", tags=["async_support"])
    assert "django_aio.I008" in "".join(capsys.readouterr())
