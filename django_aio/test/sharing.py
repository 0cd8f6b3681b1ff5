"""A test shares its connections with the live server that it started.

There are two ways, chosen for each alias:

- The test is in a transaction (`TestCase`): the server's requests join it (R3), one statement at a
  time, in whatever block the test is in. The test takes turns with them: its thread becomes a guest
  of a chain (R1).
- The database is SQLite's in memory, and there is no transaction: all chains of the server, and the
  test, lease the one physical connection in turn, for a statement or for a transaction.

Any other database needs no sharing: server and test have connections of their own, and commit.

A `Sharing` belongs to the thread of the test; `serve()` and `place` are the server's.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from django_aio.db import chains
from django_aio.db.blocks import Block, innermost
from django_aio.db.guests import Guest
from django_aio.db.turns import Turns
from django_aio.test.cursors import WholeCursor


class SharedChain(chains.ThreadChain):
    """The connections of the test's thread, which opens it; `place` is read by the server's."""

    __slots__ = ("place",)

    def __init__(self) -> None:
        super().__init__()
        # The block that the server's requests are in: for all aliases, one inside the other.
        self.place: Block | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Let others join the transactions that the test has open. Called in its thread."""
        before = innermost.get()
        blocks = []
        for wrapper in self.wrappers.values():
            if not wrapper.in_atomic_block:
                continue
            turns = wrapper.aio.turns = TestsTurns(self)
            block = Block(wrapper, turns, innermost.get())
            turns.push(block)
            innermost.set(block)
            turns.place = self.place = Block(wrapper, turns, self.place)
            blocks += [turns.place, block]
            if wrapper.vendor == "sqlite":
                wrapper.create_cursor = functools.partial(_whole, wrapper.create_cursor)
        try:
            yield
        finally:
            for block in reversed(blocks):
                block.turns.pop(block)
                if block.wrapper.vendor == "sqlite":
                    vars(block.wrapper).pop("create_cursor", None)
            innermost.set(before)


def _whole(create_cursor: Callable[..., Any], name: str | None = None) -> WholeCursor:
    return WholeCursor(create_cursor(name))


class TestsTurns(Turns):
    """The turns of a test's transaction. Requests are inside `place`, a block that moves.

    Whatever block the test itself is in, they are in it too. In a fixed block they would have
    joined one that the test may leave at any time, or would wait for a test that waits for them.
    """

    __slots__ = ("_chain", "_own", "place")

    def __init__(self, chain: SharedChain) -> None:
        super().__init__()
        self._chain = chain
        self._own: set[Block] = set()  # the blocks of the test
        self.place: Block | None = None

    def _is_innermost(self, block: Block | None) -> bool:
        if block is not None and block is self.place:
            return not self.blocks or self.blocks[-1] in self._own
        return super()._is_innermost(block)

    def push(self, block: Block) -> None:
        """Note that a block was entered, by the test or by a request."""
        if chains.member_of(self._chain):
            self._own.add(block)
        super().push(block)

    def pop(self, block: Block) -> None:
        """Note that a block was left."""
        super().pop(block)
        self._own.discard(block)


class Sharing:
    """The connections that a test class shares with its server.

    Its methods are called in this order.
    """

    def __init__(self, in_memory: dict[str, Any]) -> None:
        self._stack = contextlib.ExitStack()
        self._chain: SharedChain | None = None
        # Requests join those that are in a transaction.
        self._in_memory = [each for each in in_memory.values() if not each.in_atomic_block]
        self._memories: list[Any] = []

    @property
    def place(self) -> Block | None:
        """The block that the server's requests are inside, or None if they do not join."""
        return None if self._chain is None else self._chain.place

    def begin(self) -> None:
        """Begin, in the test's thread, before the server starts. A test in a task has a chain."""
        if chains.acting_chain() is None:
            chain = SharedChain()
            if self._in_memory or any(each.in_atomic_block for each in chain.wrappers.values()):
                self._chain = chain
                self._stack.enter_context(chain.lent())
                self._stack.enter_context(Guest(chain).acting())
                self._stack.enter_context(chain.opened())
        if self._in_memory:
            from django_aio.test.memory import Memory  # imports aiosqlite

            for wrapper in self._in_memory:
                memory = Memory(wrapper)
                self._stack.callback(memory.take_back)
                self._memories.append(memory)

    async def serve(self) -> None:
        """Prepare the server's loop, on it, before it serves."""
        for memory in self._memories:
            await memory.serve()

    def end(self) -> None:
        """End, in the test's thread, when the server has ended."""
        self._stack.close()
