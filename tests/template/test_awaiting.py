"""Awaitables that a template reaches, in every place of Django's template language."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.core.paginator import Paginator
from django.template import Context, Variable, VariableDoesNotExist
from django.utils.functional import SimpleLazyObject
from testapp.models import Author, Book

from django_aio import BridgeError, in_bridge, run
from django_aio.template.base import MEMO


class Person:
    def __init__(self, name):
        self.name = name
        self.calls = 0

    async def friend(self):
        self.calls += 1
        await asyncio.sleep(0)
        return Person(f"{self.name}'s friend")

    async def numbers(self):
        await asyncio.sleep(0)
        return [3, 1, 2]

    async def letters(self):
        for letter in "abc":
            await asyncio.sleep(0)
            yield letter

    async def nothing(self):
        return None

    async def missing(self):
        raise Author.DoesNotExist("nobody")

    async def broken(self):
        raise ValueError("broken")

    async def wrong_arguments(self, needed):
        raise AssertionError("never called")

    async def deleted(self):
        raise AssertionError("never called")

    deleted.alters_data = True

    async def function(self):
        return lambda: "called"

    @property
    async def home(self):
        return "a house"

    def __str__(self):
        return self.name


async def greeting():
    await asyncio.sleep(0)
    return "<hello>"


LANGUAGE = {
    "{{ greeting }}": "&lt;hello&gt;",
    "{{ greeting|safe }}": "<hello>",
    "{{ ann.friend }}": "Ann&#x27;s friend",
    "{{ ann.friend.name|safe }}": "Ann's friend",
    "{{ ann.friend.friend.friend.name|length }}": "30",
    "{{ ann.numbers.0 }}{{ ann.numbers.2 }}": "32",
    "{{ ann.home }}": "a house",
    "{{ held.name }} {{ held.inner.name }}": "Task Task",
    "{{ ann.letters.1 }}": "b",
    "{{ ann.letters|join:'-' }}": "a-b-c",
    "{{ list.greeting }}": "&lt;hello&gt;",
    "{{ ann.nothing|default_if_none:'none' }}": "none",
    "{{ ann.name|add:greeting }}": "Ann&lt;hello&gt;",
    "{{ ann.name|default:greeting|add:ann.home }}": "Anna house",
    "{{ ann.missing }}": "",
    "{{ ann.missing.name }}": "",
    "{{ ann.friend.nope }}": "",
    "{{ ann.friend.nope|default:'d' }}": "d",
    "{{ ann.wrong_arguments }}{{ ann.deleted }}": "",
    "{% if greeting %}yes{% else %}no{% endif %}": "yes",
    "{% if ann.nothing %}yes{% else %}no{% endif %}": "no",
    "{% if not ann.nothing and greeting == '<hello>' %}yes{% endif %}": "yes",
    "{% if 3 in ann.numbers %}yes{% endif %}": "yes",
    "{% if ann.missing %}yes{% else %}no{% endif %}": "no",
    "{% for n in ann.numbers reversed %}{{ n }}{{ forloop.last }} {% endfor %}": (
        "2False 1False 3True "
    ),
    "{% for letter in ann.letters %}{{ letter }}{% endfor %}": "abc",
    "{% for letter in ann.letters|slice:':2' %}{{ letter }}{% endfor %}": "ab",
    "{% for n in ann.nothing %}x{% empty %}empty{% endfor %}": "empty",
    "{% for row in rows %}{{ row.friend.name|safe }};{% endfor %}": "a's friend;b's friend;",
    "{% with friend=ann.friend %}{{ friend.name }}{{ friend.name }}{% endwith %}": (
        "Ann&#x27;s friendAnn&#x27;s friend"
    ),
    "{% include template_name %}": "included",
    "{% include 'named.html' with name=ann.home %}": "(a house)",
    "{% include 'named.html' with name=ann.home only %}": "(a house)",
    "{% firstof ann.nothing greeting %}": "&lt;hello&gt;",
    "{% cycle greeting 'b' %}": "&lt;hello&gt;",
    "{% filter upper %}{{ greeting }}{% endfilter %}": "&LT;HELLO&GT;",
    "{% regroup rows by home as homes %}{% for home in homes %}{{ home.grouper }}{% endfor %}": (
        "a house"
    ),
    "{% widthratio ann.numbers.0 6 100 %}": "50",
    "{{ ann.function }}": "function",
}


class Task:
    name = "Task"

    def __init__(self):
        self.inner = asyncio.ensure_future(self.other())

    async def other(self):
        return Task


async def held():
    return Task()


async def template_name():
    return "included.html"


def names():
    return {
        "ann": Person("Ann"),
        "greeting": greeting,
        "list": {"greeting": greeting},
        "rows": [Person("a"), Person("b")],
        "template_name": template_name,
        "held": held,
    }


TEMPLATES = {"included": "included", "named": "({{ name }})"}


@pytest.mark.parametrize("text", LANGUAGE)
async def test_in_the_bridge(text, arendered):
    found = await arendered(text, None, TEMPLATES, **names())
    expected = LANGUAGE[text]
    assert expected in found if expected == "function" else found == expected


@pytest.mark.parametrize("text", LANGUAGE)
def test_in_a_thread_without_a_loop(text, compiled):
    """As under WSGI."""
    if "held" in text:
        pytest.skip("a task belongs to one loop")
    found = compiled(text, **TEMPLATES).render(Context(names()))
    expected = LANGUAGE[text]
    assert expected in found if expected == "function" else found == expected


async def test_in_a_thread_that_the_loop_waits_for(compiled):
    template = compiled("{{ ann.friend.name|safe }}{{ task }}")
    task = asyncio.ensure_future(greeting())
    context = Context({"ann": Person("Ann"), "task": task}, autoescape=False)
    assert await sync_to_async(template.render)(context) == "Ann's friend<hello>"


async def test_an_awaitable_has_one_value_however_often_it_is_reached(arendered):
    coroutine, task = greeting(), asyncio.ensure_future(greeting())
    text = "{{ x }}{{ x }}{% if x == '<hello>' %}!{% endif %}{% include 'again.html' %}"
    again = {"again": "{% with y=x %}{{ y }}{% endwith %}"}
    hello = "&lt;hello&gt;"
    assert await arendered(text, None, again, x=coroutine) == f"{hello}{hello}!{hello}"
    assert await arendered(text, None, again, x=task) == f"{hello}{hello}!{hello}"


async def test_an_asynchronous_generator_too(arendered):
    text = "{% for x in xs %}{{ x }}{% endfor %}/{% for x in xs %}{{ x }}{% endfor %}"
    assert await arendered(text, xs=Person("Ann").letters()) == "abc/abc"


async def test_a_function_is_called_each_time(arendered):
    ann = Person("Ann")
    await arendered("{{ ann.friend }}{{ ann.friend }}", ann=ann)
    assert ann.calls == 2


async def test_a_failure_is_raised_each_time(arendered):
    coroutine = Person("Ann").broken()
    text = "{% if x == 1 %}{% endif %}{{ x }}"
    with pytest.raises(ValueError, match="broken"):
        await arendered(text, x=coroutine)


async def test_results_do_not_outlive_what_was_awaited(compiled):
    context = Context({"ann": Person("Ann"), "kept": greeting()})
    await compiled("{{ kept }}{% for i in 'abc' %}{{ ann.friend }}{% endfor %}").arender(context)
    assert len(context.render_context.dicts[0][MEMO]) == 1


async def test_what_is_not_reached_is_not_awaited(arendered):
    coroutine = greeting()
    assert await arendered("{% if no %}{{ x }}{% endif %}", x=coroutine) == ""
    coroutine.close()


async def test_a_coroutine_called_render_directly(compiled):
    """And nothing is left unawaited: that would be a warning, which is an error."""
    template = compiled("{{ ann.friend.name }}")
    with pytest.raises(BridgeError, match=r"'ann\.friend\.name' is awaitable.*await template\.ar"):
        template.render(Context({"ann": Person("Ann")}))


async def test_synchronous_code_of_a_coroutine_may_wait(arendered):
    def query():
        assert in_bridge()
        return "queried"

    async def tag():
        await asyncio.sleep(0)
        return query()

    assert await arendered("{{ tag }}", tag=tag) == "queried"


async def test_lazy_objects_are_not_evaluated_by_a_look(compiled):
    lazy = SimpleLazyObject(lambda: pytest.fail("evaluated"))
    await compiled("{% with x=lazy %}{% endwith %}").arender(Context({"lazy": lazy}))


async def test_a_queryset_is_iterated_as_ever(db, arendered):
    await Author.objects.acreate(name="Ann")
    text = "{% for author in authors %}{{ author }}{% endfor %}"
    assert await arendered(text, authors=Author.objects.all()) == "Ann"


class Page:
    """Like a page of AsyncPaginator: only `async for` gets at its rows, but it has more to say."""

    number = 3

    async def __aiter__(self):
        for row in "xy":
            await asyncio.sleep(0)
            yield row


async def test_an_asynchronous_iterable_is_only_read_by_a_loop(arendered):
    text = "{% with p=page %}{% for row in p %}{{ row }}{% endfor %}{{ p.number }}{% endwith %}"
    assert await arendered(text, page=Page()) == "xy3"
    nested = "{% for a in page %}{% for b in page %}{{ a }}{{ b }} {% endfor %}{% endfor %}"
    assert await arendered(nested, page=Page()) == "xx xy yx yy "


async def test_async_paginator(db, arendered):
    try:
        from django.core.paginator import AsyncPaginator
    except ImportError:
        pytest.skip("new in Django 6.0")
    await Author.objects.abulk_create(Author(name=f"author {n}") for n in range(5))
    page = await AsyncPaginator(Author.objects.order_by("pk"), 2).apage(2)
    text = "{% for a in page %}{{ a }};{% endfor %}{{ page.number }}{{ page.ahas_next }}"
    assert await arendered(text, page=page) == "author 2;author 3;2True"


async def test_paginator_in_the_bridge(db, arendered):
    await Author.objects.abulk_create(Author(name=f"author {n}") for n in range(5))
    page = await run(Paginator(Author.objects.order_by("pk"), 2).page, 2)
    text = "{% for a in page %}{{ a }};{% endfor %}{{ page.has_next }}"
    assert await arendered(text, page=page) == "author 2;author 3;True"


async def test_foreign_keys_and_awaitable_queries(db, arendered):
    author = await Author.objects.acreate(name="Ann")
    await Book.objects.acreate(title="One", author=author)
    book = await Book.objects.aget()
    text = "{{ book.author.name }} {{ count }} {{ book.author.books.acount }} {{ first.title }}"
    first = Book.objects.afirst()
    assert await arendered(text, book=book, count=Book.objects.acount, first=first) == "Ann 1 1 One"


def test_variables_outside_of_templates():
    """`Variable.resolve()` takes any mapping."""
    assert Variable("ann.friend.name").resolve({"ann": Person("Ann")}) == "Ann's friend"
    with pytest.raises(VariableDoesNotExist, match=r"key \[nope\]"):
        Variable("ann.friend.nope").resolve({"ann": Person("Ann")})


def test_a_name_that_occurs_twice():
    async def inner():
        return {"name": "found"}

    names = {"name": {"name": inner()}}
    assert Variable("name.name.name").resolve(names) == "found"


def test_the_loop_keeps_the_interface_of_its_expression(compiled):
    (node,) = compiled("{% for x in names|slice:':1' %}{% endfor %}").nodelist
    assert str(node.sequence) == "names|slice:':1'"
    assert node.sequence.var.var == "names"
    assert "for x in names|slice" in repr(node)
