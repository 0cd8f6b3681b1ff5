"""Forms that are not on the list: one hand-over to a thread for the whole form."""

import asyncio
import threading

import pytest
from django import forms
from django.contrib.auth.forms import SetPasswordForm
from django.core.exceptions import ValidationError
from django.db import transaction
from django.test import override_settings
from hops import count_hops
from staying import own
from testapp.models import Author, Book

from django_aio import blocking, cooperative, run
from django_aio.policy import is_cooperative

HERE = {"COOPERATIVE": [__name__, "testapp"]}


class Threads(list):
    def note(self):
        self.append(threading.current_thread())

    @property
    def names(self):
        here = threading.current_thread()
        return {"loop" if thread is here else "thread" for thread in self}


@pytest.fixture
def threads():
    PlainForm.threads = found = Threads()
    yield found
    del PlainForm.threads


class PlainForm(forms.Form):
    name = forms.CharField()
    title = forms.CharField(required=False)

    def clean_name(self):
        self.threads.note()
        return self.cleaned_data["name"]

    def clean(self):
        self.threads.note()


class SavingForm(forms.ModelForm):
    class Meta:
        model = Author
        fields = ("name",)

    def clean_name(self):
        PlainForm.threads.note()
        return self.cleaned_data["name"]

    def save(self, commit=True):
        PlainForm.threads.note()
        return super().save(commit)


class AsyncForm(PlainForm):
    async def clean_title(self):
        self.threads.note()
        await asyncio.sleep(0)
        return "title"


async def test_a_form_that_is_not_on_the_list(threads):
    form = PlainForm({"name": "x"})
    with count_hops() as hops:
        assert await form.ais_valid()
        assert await run(form.is_valid)
        assert form.errors == {}
    assert len(hops.work) == 1
    assert threads.names == {"thread"}


@override_settings(AIO=HERE)
async def test_a_form_that_is(threads):
    with count_hops() as hops:
        assert await PlainForm({"name": "x"}).ais_valid()
    assert not hops
    assert threads.names == {"loop"}


async def test_the_log_says_why(threads, caplog):
    logged = type("Logged", (PlainForm,), {"__module__": __name__})
    with caplog.at_level("DEBUG", "django_aio.policy"):
        assert await logged({"name": "x"}).ais_valid()
    assert caplog.messages == [
        f"The form {__name__}.Logged runs in a thread: {__name__} is not on the list "
        "AIO['COOPERATIVE']."
    ]


async def test_marks(threads):
    form_class = cooperative(type("F", (PlainForm,), {}))
    assert await form_class({"name": "x"}).ais_valid()
    assert threads.names == {"loop"}
    threads.clear()
    with override_settings(AIO=HERE):
        assert await blocking(type("F", (PlainForm,), {}))({"name": "x"}).ais_valid()
    assert threads.names == {"thread"}


async def test_hooks_of_such_a_form_are_awaited_on_the_loop(threads):
    form = AsyncForm({"name": "x"})
    assert await form.ais_valid()
    assert form.cleaned_data["title"] == "title"
    here = threading.current_thread()
    assert [thread is here for thread in threads] == [False, True, False]


async def test_a_hook_of_such_a_form_validates_another_one(threads):
    """The thread that waits for the hook is the one that the other form gets."""

    class Outer(PlainForm):
        async def clean(self):
            inner = PlainForm({"name": "inner"})
            assert await inner.ais_valid()
            return {"inner": inner.cleaned_data}

    form = Outer({"name": "outer"})
    assert await asyncio.wait_for(form.ais_valid(), 30)
    assert form.cleaned_data == {"inner": {"name": "inner", "title": ""}}
    assert len(threads) == 3
    assert threads.names == {"thread"}


async def test_what_overrides_the_rendering(threads):
    class Described(PlainForm):
        def get_context(self):
            self.threads.note()
            return super().get_context()

    assert "name" in await Described().arender()
    assert threads.names == {"thread"}


async def test_mixins_are_asked_too(threads):
    """A base that is no form: what it overrides is called in a thread."""

    class Mixin:
        def is_valid(self):
            PlainForm.threads.note()
            return super().is_valid()

    form_class = type("F", (Mixin, forms.Form), {"__module__": "django.forms"})
    assert await form_class({}).ais_valid()
    assert threads.names == {"thread"}


async def test_a_form_of_django_s(threads):
    with count_hops() as hops:
        assert await forms.Form({}).ais_valid()
    assert not hops


async def test_made_by_factories(threads):
    """What a factory makes is trusted if what it is made of is."""
    form_class = forms.modelform_factory(Author, fields=["name"])
    assert is_cooperative(form_class)
    assert is_cooperative(forms.formset_factory(form_class))
    assert not is_cooperative(forms.modelform_factory(Author, form=SavingForm))


async def test_a_formset_is_one_hand_over(threads):
    formset_class = forms.formset_factory(PlainForm)
    data = {"form-TOTAL_FORMS": "3", "form-INITIAL_FORMS": "0"}
    data |= {f"form-{i}-name": f"name {i}" for i in range(3)}
    with count_hops() as hops:
        assert await formset_class(data).ais_valid()
    assert len(hops.work) == 1
    assert threads.names == {"thread"}
    assert len(threads) == 6


async def test_saving(threads, db):
    form = SavingForm({"name": "Octavia"})
    assert await form.ais_valid()
    with count_hops() as hops:
        author = await form.asave()
    assert len(own(hops.work)) == 1
    assert threads.names == {"thread"}
    assert await Author.objects.filter(pk=author.pk).aexists()


@override_settings(AIO=HERE)
async def test_saving_on_the_loop(threads, db):
    await SavingForm({"name": "Octavia"}).asave()
    assert threads.names == {"loop"}


async def test_the_thread_is_in_the_transaction(threads, db):
    with pytest.raises(ValidationError):
        async with transaction.atomic():
            await Author.objects.acreate(name="Ursula")
            assert not await SavingForm({"name": "Ursula"}).ais_valid()
            await SavingForm({"name": "Octavia"}).asave()
            raise ValidationError("roll back")
    assert not await Author.objects.aexists()


def test_outside_of_the_bridge_nothing_changes(threads, db):
    with count_hops() as hops:
        assert PlainForm({"name": "x"}).is_valid()
        SavingForm({"name": "x"}).save()
    assert not hops
    assert threads.names == {"loop"}  # the thread that called


def test_django_s_own_methods_are_entries_once():
    for method in (forms.BaseModelForm.save, forms.BaseModelFormSet.save):
        assert not hasattr(method.__wrapped__, "__wrapped__")
    assert not hasattr(SetPasswordForm.save, "__wrapped__")


def test_overriding_methods_keep_what_django_says_of_them():
    assert SavingForm.save.alters_data
    assert SavingForm.save.__qualname__ == "SavingForm.save"
    assert SavingForm.asave.alters_data


async def test_a_formset_that_is_not_on_the_list(threads, author):
    class FormSet(forms.BaseModelFormSet):
        def clean(self):
            threads.note()

        def save_new(self, form, commit=True):
            threads.note()
            return super().save_new(form, commit)

    formset_class = forms.modelformset_factory(Book, fields=["title", "author"], formset=FormSet)
    data = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "0"}
    data |= {"form-0-title": "Always coming home", "form-0-author": str(author.pk)}
    formset = formset_class(data)
    with count_hops() as hops:
        assert await formset.ais_valid()
        await formset.asave()
    assert len(own(hops.work)) == 2
    assert threads.names == {"thread"}
    assert await Book.objects.acount() == 1
