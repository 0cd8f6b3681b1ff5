from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self):
        return self.name


class Book(models.Model):
    title = models.CharField(max_length=100)
    stock = models.IntegerField(default=0)
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")

    def __str__(self):
        return self.title
