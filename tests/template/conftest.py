"""What the tests of templates share."""

import pytest
from django.template import Context, Engine

LOCMEM = "django.template.loaders.locmem.Loader"


def engine_of(templates=None, library=None, **options):
    """An engine whose templates are in memory, with the tags and filters of a library."""
    engine = Engine(loaders=[(LOCMEM, templates or {})], **options)
    if library is not None:
        engine.template_builtins.append(library)
    return engine


@pytest.fixture
def compiled():
    """Makes a template of a string."""

    def compile(text, library=None, **templates):
        named = {f"{name}.html": source for name, source in templates.items()}
        return engine_of(named, library).from_string(text)

    return compile


@pytest.fixture
def arendered(compiled):
    """Renders a string by `arender()`."""

    async def render(text, library=None, templates=(), **names):
        return await compiled(text, library, **dict(templates)).arender(Context(names))

    return render
