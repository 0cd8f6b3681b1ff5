"""Forms: awaitable twins, coroutine functions in the place of methods, where each may be called."""

import asyncio

import pytest
from asgiref.sync import markcoroutinefunction
from django import forms
from django.core.exceptions import ValidationError
from staying import on_the_loop
from testapp.models import Author

from django_aio import BridgeError, run

pytestmark = pytest.mark.usefixtures("trusted")


async def pause():
    await asyncio.sleep(0)


class CleanField(forms.Form):
    name = forms.CharField()

    async def clean_name(self):
        await pause()
        if self.cleaned_data["name"] == "taken":
            raise ValidationError("This name is taken.", code="taken")
        return self.cleaned_data["name"].upper()


class Clean(forms.Form):
    name = forms.CharField()

    async def clean(self):
        cleaned = super().clean()
        await pause()
        if cleaned.get("name") == "taken":
            raise ValidationError("This name is taken.", code="taken")
        return {**cleaned, "name": cleaned.get("name", "").upper()}


class Mixed(CleanField):
    """Of both colours."""

    born = forms.IntegerField()

    def clean_born(self):
        return -self.cleaned_data["born"]

    async def clean(self):
        await pause()
        self.cleaned_data["both"] = (self.cleaned_data["name"], self.cleaned_data["born"])


class Mixin:
    """No form by itself."""

    async def clean_name(self):
        await pause()
        return self.cleaned_data["name"].upper()


class WithMixin(Mixin, forms.Form):
    name = forms.CharField()


class Initial(forms.Form):
    name = forms.CharField()

    async def get_initial_for_field(self, field, field_name):
        await pause()
        return f"initial {field_name}"


class Overridden(forms.Form):
    name = forms.CharField()

    async def full_clean(self):
        await pause()
        await run(super().full_clean)
        if self.cleaned_data.get("name"):
            self.cleaned_data["name"] = self.cleaned_data["name"].upper()


VALID = {"name": "ursula", "born": "1929"}
FORMS = [CleanField, Clean, Mixed, WithMixin, Overridden]


@pytest.mark.parametrize("form_class", FORMS)
async def test_awaited(form_class):
    form = form_class(VALID)
    with on_the_loop():
        assert await form.ais_valid() is True
    assert form.cleaned_data["name"] == "URSULA"
    assert form.is_valid()  # nothing is left to wait for
    assert await form.aerrors() == form.errors == {}


@pytest.mark.parametrize("form_class", FORMS)
async def test_in_the_bridge(form_class):
    form = form_class(VALID)
    assert await run(form.is_valid)
    assert form.cleaned_data["name"] == "URSULA"


@pytest.mark.parametrize("form_class", FORMS)
def test_in_plain_synchronous_code(form_class):
    form = form_class(VALID)
    assert form.is_valid()
    assert form.cleaned_data["name"] == "URSULA"


@pytest.mark.parametrize("form_class", FORMS)
async def test_in_a_thread(form_class):
    form = form_class(VALID)
    assert await asyncio.to_thread(form.is_valid)
    assert form.cleaned_data["name"] == "URSULA"


@pytest.mark.parametrize("form_class", FORMS)
async def test_called_directly_by_a_coroutine(form_class):
    form = form_class(VALID)
    with pytest.raises(
        BridgeError, match=r"\.(clean\w*|full_clean)\(\).*await form\.ais_valid\(\)"
    ):
        form.is_valid()
    with pytest.raises(BridgeError):  # it has not become valid by that
        form.is_valid()
    assert await form.ais_valid()


@pytest.mark.parametrize(("form_class", "name"), [(CleanField, "name"), (Clean, "__all__")])
async def test_errors(form_class, name):
    form = form_class({"name": "taken"})
    errors = await form.aerrors()
    assert errors.as_data()[name][0].code == "taken"
    assert not await form.ais_valid()


async def test_an_unbound_form_is_not_valid():
    form = Clean()
    assert not await form.ais_valid()
    assert await form.aerrors() == {}
    await form.afull_clean()


async def test_has_changed():
    assert await CleanField(VALID, initial={"name": "other"}).ahas_changed()
    assert not await CleanField(VALID, initial={"name": "ursula"}).ahas_changed()


async def test_initial_values():
    form = Initial()
    html = await form.arender()
    assert 'value="initial name"' in html
    with pytest.raises(BridgeError, match="get_initial_for_field"):
        str(Initial())


async def initial_name():
    await pause()
    return "from afar"


async def letters():
    await pause()
    return [("a", "Letter A"), ("b", "Letter B")]


class Callables(forms.Form):
    name = forms.CharField(initial=initial_name)
    letter = forms.ChoiceField(choices=letters)


async def test_callables_that_are_coroutine_functions():
    html = await Callables().arender()
    assert "from afar" in html
    assert "Letter B" in html
    assert await Callables({"name": "x", "letter": "b"}).ais_valid()
    assert "letter" in await Callables({"name": "x", "letter": "c"}).aerrors()
    with pytest.raises(BridgeError, match=r"initial of Callables\.name"):
        str(Callables())


def test_callables_in_plain_synchronous_code():
    assert "from afar" in str(Callables())
    assert Callables({"name": "x", "letter": "b"}).is_valid()


class Stopping(forms.Form):
    name = forms.CharField()

    async def clean(self):
        self.reached.set()
        await asyncio.Event().wait()


async def test_a_form_whose_validation_was_cancelled_is_not_valid():
    form = Stopping(VALID)
    form.reached = asyncio.Event()
    task = asyncio.create_task(form.ais_valid())
    await form.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert form._errors is None
    with pytest.raises(BridgeError):
        form.is_valid()


def decorated(method):
    """Hides that what it decorates is a coroutine function."""
    return lambda self: method(self)


async def check(self):
    raise ValidationError("never")


@pytest.mark.parametrize("name", ["clean", "clean_name"])
async def test_a_check_that_nobody_awaits_does_not_pass(name):
    attributes = {"name": forms.CharField(), name: decorated(check)}
    form = type("F", (forms.Form,), attributes)(VALID)
    for _ in range(2):
        with pytest.raises(BridgeError, match=rf"F\.{name}\(\) returned a coroutine"):
            await form.ais_valid()
    attributes = {"name": forms.CharField(), name: markcoroutinefunction(decorated(check))}
    assert not await type("F", (forms.Form,), attributes)(VALID).ais_valid()


async def test_the_loop_goes_on_while_a_form_waits():
    """Two forms that wait for each other."""
    barrier = asyncio.Barrier(2)

    class Waiting(forms.Form):
        async def clean(self):
            await barrier.wait()

    assert await asyncio.gather(Waiting({}).ais_valid(), Waiting({}).ais_valid()) == [True, True]


class Querying(forms.Form):
    name = forms.CharField()

    async def clean_name(self):
        name = self.cleaned_data["name"]
        if await Author.objects.filter(name=name).aexists():
            raise ValidationError("taken")
        return name


async def test_a_query(author):
    with on_the_loop():
        assert not await Querying({"name": "Ursula"}).ais_valid()
        assert await Querying({"name": "Octavia"}).ais_valid()


def test_a_query_in_plain_synchronous_code(author):
    assert not Querying({"name": "Ursula"}).is_valid()


# Classes.


def test_a_coroutine_that_calls_a_hook_gets_a_coroutine():
    form = CleanField(VALID)
    form.cleaned_data = {"name": "x"}

    async def call():
        return await form.clean_name()

    assert asyncio.run(call()) == "X"


def test_synchronous_methods_stay_as_they_are():
    def clean(self):
        return self.cleaned_data

    cls = type("F", (forms.Form,), {"clean": clean})
    assert vars(cls)["clean"] is clean


def test_a_class_made_by_hand():
    async def clean(self):
        return {"made": "by hand"}

    form = type("F", (forms.Form,), {"clean": clean})({})
    assert form.is_valid()
    assert form.cleaned_data == {"made": "by hand"}


def test_subclasses_may_take_arguments():
    class Takes(forms.CharField):
        def __init_subclass__(cls, *, suffix, **kwargs):
            super().__init_subclass__(**kwargs)
            cls.suffix = suffix

    class Given(Takes, suffix="!"):
        async def clean(self, value):
            return super().clean(value) + self.suffix

    assert Given().clean("x") == "x!"
