"""The turns of a transaction: who is let in, and who is told that nothing will come."""

from types import SimpleNamespace

import pytest
from django.db.transaction import TransactionManagementError

from django_aio.db.blocks import Block
from django_aio.db.turns import Turns


def block_of(turns, parent=None):
    wrapper = SimpleNamespace(savepoint_ids=[], atomic_blocks=[], alias="default")
    block = Block(wrapper, turns, parent)
    turns.push(block)
    return block


def test_nobody_waits_for_a_block_that_has_ended():
    """Its turn would never come. One that asks for the block round it is let in."""
    turns = Turns()
    outer = block_of(turns)
    inner = block_of(turns, outer)
    turns.pop(inner)
    with pytest.raises(TransactionManagementError, match="has ended"):
        turns.ask("a", inner)
    assert turns.ask("a", outer) is None


def test_who_waits_for_a_block_that_ends_is_told_so():
    turns = Turns()
    outer = block_of(turns)
    assert turns.ask("a", outer) is None
    turn = turns.ask("b", outer)
    turns.pop(outer)
    turns.release("a")
    assert isinstance(turn.exception(0), TransactionManagementError)
