"""What tests of the bridge run in it."""

import asyncio
import gc

from django_aio.bridge import run


async def later(value=None):
    await asyncio.sleep(0)
    return value


def start_and_close(func):
    """Close a run() while its function waits."""
    started = run(func)
    started.send(None)
    started.close()
    gc.collect()
