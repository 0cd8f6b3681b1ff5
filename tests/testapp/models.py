from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Tag(models.Model):
    name = models.CharField(max_length=50)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    target = GenericForeignKey()


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)
    born = models.IntegerField(default=1900)
    tags = GenericRelation(Tag)

    def __str__(self):
        return self.name


class ShoutingManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(title__endswith="!")

    def shout(self, title, **fields):
        """A custom manager method that needs several statements."""
        book, _ = self.model.objects.get_or_create(title=f"{title.upper()}!", defaults=fields)
        return self.get(pk=book.pk)


class Book(models.Model):
    title = models.CharField(max_length=100)
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    readers = models.ManyToManyField(Author, related_name="read")
    pages = models.IntegerField(default=100)

    objects = models.Manager()
    shouting = ShoutingManager()

    def __str__(self):
        return self.title

    def save(self, *args, **kwargs):
        """An overridden save() that queries."""
        self.pages += type(self).objects.filter(title=self.title).count()
        super().save(*args, **kwargs)
