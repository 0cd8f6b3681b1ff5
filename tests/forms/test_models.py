"""Model forms and formsets: uniqueness, choices, saving, many-to-many, inlines, files."""

import asyncio

import pytest
from django import forms
from django.core.exceptions import SynchronousOnlyOperation, ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.forms.formsets import aall_valid
from staying import on_the_loop
from testapp.models import Author, Book

from django_aio import BridgeError, run

pytestmark = pytest.mark.usefixtures("trusted", "_templates")


class AuthorForm(forms.ModelForm):
    class Meta:
        model = Author
        fields = ("name", "born")


class BookForm(forms.ModelForm):
    class Meta:
        model = Book
        fields = ("title", "author", "readers", "pages")

    async def clean_title(self):
        await asyncio.sleep(0)
        return self.cleaned_data["title"].title()


class AsyncSaveForm(AuthorForm):
    async def save(self, commit=True):
        assert await self.ais_valid()
        self.instance.born += 1
        return await run(super().save, commit)


async def test_saving(author):
    form = AuthorForm({"name": "Octavia", "born": "1947"})
    with on_the_loop():
        assert await form.ais_valid()
        octavia = await form.asave()
        assert await Author.objects.aget(name="Octavia") == octavia


async def test_uniqueness(author):
    form = AuthorForm({"name": "Ursula", "born": "1929"})
    with on_the_loop():
        assert not await form.ais_valid()
    assert form.errors.as_data()["name"][0].code == "unique"
    with pytest.raises(ValueError, match="could not be created because the data didn't validate"):
        await form.asave()


async def test_choices_and_many_to_many(author):
    data = {"title": "the dispossessed", "author": author.pk, "readers": [author.pk], "pages": "9"}
    form = BookForm(data)
    with on_the_loop():
        assert await form.ais_valid()
        book = await form.asave()
    assert book.title == "The Dispossessed"
    assert [reader async for reader in book.readers.all()] == [author]
    assert not await BookForm({**data, "author": "0"}).ais_valid()
    assert not await BookForm({**data, "readers": ["0"]}).ais_valid()


async def test_saving_without_committing(author):
    form = BookForm({"title": "x", "author": author.pk, "readers": [author.pk], "pages": "9"})
    with pytest.raises(AttributeError, match="save_m2m"):
        await form.asave_m2m()
    book = await form.asave(commit=False)
    assert book.pk is None
    await book.asave()
    with on_the_loop():
        await form.asave_m2m()
    assert await book.readers.acount() == 1


async def test_a_coroutine_makes_a_form_of_an_instance(author):
    """Who reads the book takes a query, which waits until it is needed."""
    book = await Book.objects.acreate(title="x", author=author)
    await book.readers.aadd(author)
    data = {"title": "X", "author": author.pk, "readers": [author.pk], "pages": book.pages}
    with on_the_loop():
        form = BookForm(data, instance=book)
        assert await form.ahas_changed()
        assert form.changed_data == ["title"]
        assert await form.ais_valid()
        html = await BookForm(instance=book).arender()
    assert f'<option value="{author.pk}" selected>Ursula</option>' in html.split("readers")[-1]


async def test_the_initial_data_of_such_a_form(author):
    book = await Book.objects.acreate(title="x", author=author)
    await book.readers.aadd(author)

    class Fewer(BookForm):
        class Meta(BookForm.Meta):
            fields = ("title",)

    class Excluding(BookForm):
        class Meta:
            model = Book
            exclude = ("readers",)

    assert "readers" not in Fewer(instance=book).initial
    assert "readers" not in Excluding(instance=book).initial
    assert await run(BookForm(instance=book).initial["readers"]) == [author]
    assert (await run(BookForm, instance=book)).initial["readers"] == [author]


async def test_rendering_the_choices(author):
    with on_the_loop():
        html = await BookForm().arender()
    assert html.count("Ursula") == 2
    with pytest.raises(SynchronousOnlyOperation):
        str(BookForm())
    assert "Ursula" in await run(str, BookForm())
    assert "Ursula" in await BookForm()["author"].arender()


async def test_an_asynchronous_save(author):
    octavia = await AsyncSaveForm({"name": "Octavia", "born": "1946"}).asave()
    assert octavia.born == 1947
    ursula = await run(AsyncSaveForm({"name": "Ursula", "born": "1928"}, instance=author).save)
    assert (await Author.objects.aget(pk=ursula.pk)).born == 1929


def test_an_asynchronous_save_in_plain_synchronous_code(author):
    AsyncSaveForm({"name": "Octavia", "born": "1946"}).save()
    assert Author.objects.get(name="Octavia").born == 1947


# Formsets.


def posted(prefix, *rows, initial=0):
    data = {f"{prefix}-TOTAL_FORMS": str(len(rows)), f"{prefix}-INITIAL_FORMS": str(initial)}
    for number, row in enumerate(rows):
        data |= {f"{prefix}-{number}-{name}": str(value) for name, value in row.items()}
    return data


async def test_a_formset():
    class FormSet(forms.BaseFormSet):
        async def clean(self):
            await asyncio.sleep(0)
            if len({form.cleaned_data.get("name") for form in self.forms}) < len(self.forms):
                raise ValidationError("Twice the same.", code="same")

        async def add_fields(self, form, index):
            super().add_fields(form, index)
            await asyncio.sleep(0)
            form.fields["added"] = forms.CharField(required=False, initial=f"added {index}")

    class NameForm(forms.Form):
        name = forms.CharField()

    formset_class = forms.formset_factory(NameForm, formset=FormSet)
    with on_the_loop():
        formset = formset_class(posted("form", {"name": "a"}, {"name": "b"}))
        assert await formset.ais_valid()
        assert await formset.ahas_changed()
        same = formset_class(posted("form", {"name": "a"}, {"name": "a"}))
        assert not await same.ais_valid()
    assert same.non_form_errors().as_data()[0].code == "same"
    assert await same.aerrors() == [{}, {}]
    assert "added 0" in await formset_class().arender()
    assert not await formset_class().ais_valid()
    direct = formset_class(posted("form", {"name": "a"}))
    for _ in range(2):
        with pytest.raises(BridgeError, match=r"FormSet\.\w+\(\) is a coroutine function"):
            direct.is_valid()
    assert await run(formset_class(posted("form", {"name": "a"})).is_valid)
    assert await aall_valid([formset])
    assert not await forms.aall_valid([formset, same])


def test_a_formset_in_plain_synchronous_code():
    class FormSet(forms.BaseFormSet):
        async def clean(self):
            raise ValidationError("never")

    formset_class = forms.formset_factory(AuthorForm, formset=FormSet)
    assert not formset_class(posted("form")).is_valid()


async def test_a_model_formset(author):
    formset_class = forms.modelformset_factory(Author, form=AuthorForm, can_delete=True)
    octavia = await Author.objects.acreate(name="Octavia")
    data = posted(
        "form",
        {"id": octavia.pk, "name": "Octavia B.", "born": 1947},
        {"id": author.pk, "name": "Ursula", "born": 1900, "DELETE": "on"},
        {"name": "Joanna", "born": 1937},
        initial=2,
    )
    queryset = Author.objects.order_by("name")
    with on_the_loop():
        formset = formset_class(data, queryset=queryset)
        assert await formset.ais_valid()
        saved = await formset.asave()
        names = [author.name async for author in queryset.all()]
    assert sorted(map(str, saved)) == ["Joanna", "Octavia B."]
    assert names == ["Joanna", "Octavia B."]
    with on_the_loop():
        assert "Octavia B." in await formset_class(queryset=queryset).arender()


async def test_a_model_formset_without_committing(author):
    formset_class = forms.modelformset_factory(Book, form=BookForm)
    data = posted("form", {"title": "x", "author": author.pk, "pages": 1})
    data["form-0-readers"] = [author.pk]
    formset = formset_class(data, queryset=Book.objects.none())
    assert await formset.ais_valid()
    (book,) = await formset.asave(commit=False)
    await book.asave()
    await formset.asave_m2m()
    assert await book.readers.acount() == 1


async def test_the_hooks_of_a_model_formset(author):
    class FormSet(forms.BaseModelFormSet):
        async def save_new(self, form, commit=True):
            form.instance.born = 1937
            return await run(super().save_new, form, commit)

        async def save_existing(self, form, obj, commit=True):
            obj.born = 1929
            return await run(super().save_existing, form, obj, commit)

        async def delete_existing(self, obj, commit=True):
            obj.born = 0
            await obj.asave()

    formset_class = forms.modelformset_factory(
        Author, fields=["name"], formset=FormSet, can_delete=True
    )
    octavia = await Author.objects.acreate(name="Octavia")
    rows = [
        {"id": author.pk, "name": "Ursula K."},
        {"id": octavia.pk, "name": "Octavia", "DELETE": "on"},
        {"name": "Joanna"},
    ]
    formset = formset_class(
        posted("form", *rows, initial=2), queryset=Author.objects.order_by("pk")
    )
    await formset.asave()
    born = {author.name: author.born async for author in Author.objects.all()}
    assert born == {"Ursula K.": 1929, "Octavia": 0, "Joanna": 1937}
    assert (await formset.asave_existing(formset.forms[0], author)).name == "Ursula K."
    await formset.adelete_existing(author)
    assert (await Author.objects.aget(pk=author.pk)).born == 0
    joanna = await formset.asave_new(formset.forms[2], commit=False)
    assert joanna.born == 1937


async def test_an_inline_formset(author):
    formset_class = forms.inlineformset_factory(Author, Book, fields=["title", "pages"])
    data = posted("books", {"title": "One", "pages": 1}, {"title": "Two", "pages": 2})
    with on_the_loop():
        formset = formset_class(data, instance=author)
        assert await formset.ais_valid()
        books = await formset.asave()
    assert [book.author for book in books] == [author, author]
    with on_the_loop():
        assert "Two" in await formset_class(instance=author).arender()


async def test_duplicates_in_a_model_formset(db):
    formset_class = forms.modelformset_factory(Author, form=AuthorForm)
    row = {"name": "Same", "born": 1900}
    formset = formset_class(posted("form", row, row), queryset=Author.objects.none())
    assert not await formset.ais_valid()
    assert "duplicate" in formset.non_form_errors()[0]


# Files.


class UploadForm(forms.Form):
    file = forms.FileField()

    async def clean_file(self):
        await asyncio.sleep(0)
        return self.cleaned_data["file"]


async def test_an_upload():
    uploaded = SimpleUploadedFile("a.txt", b"content")
    form = UploadForm({}, {"file": uploaded})
    with on_the_loop():
        assert await form.ais_valid()
    assert form.cleaned_data["file"] is uploaded
    assert not await UploadForm({}, {"file": SimpleUploadedFile("a.txt", b"")}).ais_valid()
