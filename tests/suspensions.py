"""Do something to an operation at its n-th suspension."""

import asyncio
import contextvars


class _Stepped:
    """Awaits a coroutine and calls `act` when it suspends for a time that is in `times`."""

    def __init__(self, coroutine, times, act):
        self.coroutine, self.times, self.act = coroutine, times, act
        self.suspended = 0

    def __await__(self):
        steps = self.coroutine.__await__()
        send = None
        while True:
            try:
                failed = isinstance(send, BaseException)
                future = steps.throw(send) if failed else steps.send(send)
            except StopIteration as done:
                return done.value
            self.suspended += 1
            if self.suspended in self.times:
                self.act()
            try:
                send = yield future
            except BaseException as error:
                send = error


async def cancelled_at(operation, n, instead=None, again=()):
    """Run `operation()` in a task and cancel it at its n-th suspension.

    And once more at those in `again` (a range, say), such as those of its clean-up. With `instead`,
    a coroutine function, that is run to its end at this moment. Returns False if the operation
    ended before.
    """
    acted = []

    async def drive():
        return await _Stepped(operation(), {n, *again}, act)

    def act():
        if instead is None:
            acted.append(None)
            task.cancel()
        else:
            # In a context of its own, or it would join the operation's transaction.
            loop = asyncio.get_running_loop()
            acted.append(loop.create_task(instead(), context=contextvars.Context()))

    task = asyncio.ensure_future(drive())
    try:
        await task
    except asyncio.CancelledError:
        assert acted
        assert set(acted) == {None}
    finally:
        for other in acted:
            if other is not None:
                await other
    return bool(acted)
