"""What statements of the ORM see of the session that they run in: for tests."""

from testapp.models import Author

from django_aio import run


def seen(look):
    """What a statement of the ORM sees, in synchronous code."""
    [author] = Author.objects.raw(f"SELECT 1 AS id, {look} AS name, 1 AS born")
    return author.name


async def aseen(look):
    return await run(seen, look)
