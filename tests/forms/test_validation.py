"""Validators and fields of both colours, widgets, and the validation of models."""

import asyncio
import contextlib
import functools
import threading

import pytest
from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator, RegexValidator, validate_ipv4_address
from django.db import models
from django.shortcuts import redirect
from django.test import override_settings
from hops import count_hops
from staying import on_the_loop
from testapp.models import Author, Tag

from django_aio import BridgeError, blocking, run

pytestmark = pytest.mark.usefixtures("trusted")


async def pause():
    await asyncio.sleep(0)


async def not_bad(value):
    await pause()
    if value == "bad":
        raise ValidationError("This is bad.", code="bad")


class NotBad:
    """Its objects are validators; neither coroutine functions nor marked as such."""

    def __call__(self, value):
        return not_bad(value)


class AsyncNotBad:
    async def __call__(self, value):
        await not_bad(value)


@functools.wraps(validate_ipv4_address)
async def disguised(value):
    """Claims to be a validator of Django's."""
    await not_bad(value)


VALIDATORS = {
    "function": not_bad,
    "object": NotBad(),
    "async-object": AsyncNotBad(),
    "lambda": lambda value: not_bad(value),
    "partial": functools.partial(lambda value: not_bad(value)),
    "disguised": disguised,
}


def form_with(*validators, field=forms.CharField):
    return type("F", (forms.Form,), {"name": field(validators=list(validators))})


@pytest.mark.parametrize("validator", VALIDATORS.values(), ids=VALIDATORS)
async def test_a_coroutine_validator_of_a_form_field(validator):
    form_class = form_with(validator)
    with on_the_loop():
        assert await form_class({"name": "good"}).ais_valid()
        errors = await form_class({"name": "bad"}).aerrors()
    assert errors.as_data()["name"][0].code == "bad"


@pytest.mark.parametrize("validator", VALIDATORS.values(), ids=VALIDATORS)
def test_in_plain_synchronous_code(validator):
    form_class = form_with(validator)
    assert form_class({"name": "good"}).is_valid()
    assert not form_class({"name": "bad"}).is_valid()


@pytest.mark.parametrize("validator", VALIDATORS.values(), ids=VALIDATORS)
async def test_called_directly_by_a_coroutine(validator):
    """Never taken for a yes. (An unawaited coroutine would be a warning, which is an error.)"""
    with pytest.raises(BridgeError, match=r"await form\.ais_valid\(\)"):
        form_with(validator)({"name": "bad"}).is_valid()


async def test_validators_of_both_colours():
    """In their order, each before the next; all errors are collected."""
    order = []

    def first(value):
        order.append("first")
        raise ValidationError("first")

    async def second(value):
        await pause()
        order.append("second")
        raise ValidationError("second")

    def third(value):
        order.append("third")

    validators = [first, second, third, MaxLengthValidator(2)]
    form = form_with(*validators)({"name": "good"})
    assert len((await form.aerrors())["name"]) == 3
    assert order == ["first", "second", "third"]
    assert form.fields["name"].validators[:4] == validators


async def test_the_error_messages_of_the_field():
    class F(forms.Form):
        name = forms.CharField(validators=[not_bad], error_messages={"bad": "Not like that."})

    assert (await F({"name": "bad"}).aerrors())["name"] == ["Not like that."]


async def test_an_empty_value_is_not_validated():
    form = form_with(not_bad, field=functools.partial(forms.CharField, required=False))
    assert await form({}).ais_valid()


@override_settings(AIO={})
async def test_a_synchronous_validator_that_is_not_on_the_list():
    """The form is Django's, as far as the policy sees."""
    threads = []

    def validator(value):
        threads.append(threading.current_thread())

    form = forms.Form({"name": "x"})
    form.fields["name"] = forms.CharField(validators=[validator, RegexValidator("x")])
    with count_hops() as hops:
        assert await form.ais_valid()
    assert len(hops.work) == 1
    assert threads[0] is not threading.current_thread()


async def test_a_blocking_validator():
    @blocking
    def validator(value):
        assert threading.current_thread() is not threading.main_thread()

    assert await form_with(validator)({"name": "x"}).ais_valid()


# Fields.


class AsyncField(forms.CharField):
    async def to_python(self, value):
        await pause()
        return (super().to_python(value) or "").strip("-")

    async def validate(self, value):
        super().validate(value)
        await not_bad(value)

    async def clean(self, value):
        return (await run(super().clean, value)).upper()

    async def has_changed(self, initial, data):
        await pause()
        return data == "changed"


async def test_an_asynchronous_field():
    form_class = type("F", (forms.Form,), {"name": AsyncField()})
    form = form_class({"name": "-x-"})
    assert await form.ais_valid()
    assert form.cleaned_data == {"name": "X"}
    assert not await form_class({"name": "bad"}).ais_valid()
    assert not await form_class({"name": ""}).ais_valid()
    assert await form_class({"name": "changed"}).ahas_changed()
    assert not await form_class({"name": "same"}).ahas_changed()


def test_an_asynchronous_field_in_plain_synchronous_code():
    assert AsyncField().clean("-x-") == "X"


async def test_an_asynchronous_field_called_by_a_coroutine():
    assert await AsyncField().clean("-x-") == "X"

    def synchronous():
        return AsyncField().clean("-x-")

    assert await synchronous() == "X"  # a helper, which hands the coroutine on


class AsyncWidget(forms.TextInput):
    async def get_context(self, name, value, attrs):
        await pause()
        return super().get_context(name, f"{value}!", attrs)

    async def value_from_datadict(self, data, files, name):
        await pause()
        return data[name].lower()


async def test_an_asynchronous_widget():
    form_class = type("F", (forms.Form,), {"name": forms.CharField(widget=AsyncWidget)})
    form = form_class({"name": "X"})
    assert 'value="x!"' in await form.arender()
    assert 'value="x!"' in await run(str, form["name"])
    assert await form.ais_valid()
    assert form.cleaned_data == {"name": "x"}


class AsyncBoundField(forms.BoundField):
    async def label_tag(self, *args, **kwargs):
        await pause()
        return "label from afar"


async def test_an_asynchronous_bound_field():
    class Field(forms.CharField):
        def get_bound_field(self, form, field_name):
            return AsyncBoundField(form, self, field_name)

    assert "label from afar" in await type("F", (forms.Form,), {"name": Field()})().arender()


# Models.


class Checked(models.Model):
    name = models.CharField(max_length=50, validators=[not_bad, AsyncNotBad()])

    class Meta:
        managed = False
        app_label = "testapp"

    async def clean(self):
        await pause()
        if await Author.objects.filter(name=self.name).aexists():
            raise ValidationError("There is an author of this name.", code="author")

    async def get_absolute_url(self):
        await pause()
        return f"/checked/{self.name}/"


CODES = {"Octavia": [], "bad": ["bad", "bad"], "Ursula": ["author"]}


@contextlib.contextmanager
def refused_if(codes):
    """With these codes, or not at all if there are none."""
    if not codes:
        yield
        return
    with pytest.raises(ValidationError) as caught:
        yield
    errors = caught.value.error_dict.values()
    assert [error.code for found in errors for error in found] == codes


@pytest.mark.parametrize("name", CODES)
async def test_a_model(name, author):
    with on_the_loop(), refused_if(CODES[name]):
        await Checked(name=name).afull_clean(validate_unique=False)


@pytest.mark.parametrize("name", CODES)
def test_a_model_in_plain_synchronous_code(name, author):
    with refused_if(CODES[name]):
        Checked(name=name).full_clean(validate_unique=False)


async def test_a_model_called_directly_by_a_coroutine():
    with pytest.raises(BridgeError, match=r"await instance\.afull_clean\(\)"):
        Checked(name="bad").full_clean()
    with pytest.raises(BridgeError, match=r"Checked\.clean\(\)"):
        Checked(name="Ursula").full_clean(exclude=["name"])


class CheckedForm(forms.ModelForm):
    class Meta:
        model = Checked
        fields = ("name",)


@pytest.mark.parametrize("name", CODES)
async def test_a_form_of_the_model(name, author):
    form = CheckedForm({"name": name})
    with on_the_loop():
        assert await form.ais_valid() is not bool(CODES[name])
    assert [e.code for found in form.errors.as_data().values() for e in found] == CODES[name]


async def test_the_twins_of_a_model(author):
    same = Author(name="Ursula")
    for twin in (same.avalidate_unique, same.afull_clean):
        with pytest.raises(ValidationError, match="already exists"):
            await twin()
    await same.aclean()
    await same.avalidate_constraints()
    with pytest.raises(ValidationError, match="blank"):
        await Author(name="").aclean_fields()
    await Tag(name="x").aclean_fields(exclude=["content_type", "object_id"])


async def test_a_redirect_to_an_object():
    response = await run(redirect, Checked(name="x"))
    assert response.url == "/checked/x/"


def test_models_of_an_abstract_base():
    class Base(models.Model):
        class Meta:
            abstract = True

        async def clean(self):
            raise ValidationError("never")

    class Derived(Base):
        class Meta:
            managed = False
            app_label = "testapp"

    with pytest.raises(ValidationError, match="never"):
        Derived().full_clean()
