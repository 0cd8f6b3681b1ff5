"""The two tables: many small rows to pick from, and a few lines of text to render."""

from django.db import models


class World(models.Model):
    """One of many rows that a page fetches by primary key."""

    number = models.IntegerField()

    def as_json(self) -> dict[str, int]:
        """The row as the pages send it."""
        return {"id": self.pk, "number": self.number}


class Fortune(models.Model):
    """One line of the fortunes page."""

    message = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.message
