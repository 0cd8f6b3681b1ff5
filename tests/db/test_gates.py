"""The gate of a transaction by itself: who is let in, and who is told that nothing will come."""

from types import SimpleNamespace

import pytest
from django.db.transaction import TransactionManagementError

from django_aio.db.gates import Block, Gate


def block_of(gate, parent=None):
    wrapper = SimpleNamespace(savepoint_ids=[], atomic_blocks=[], alias="default")
    block = Block(wrapper, gate, parent)
    gate.push(block)
    return block


def test_nobody_waits_for_a_block_that_has_ended():
    """Its turn would never come. One that asks for the block round it is let in."""
    gate = Gate()
    outer = block_of(gate)
    inner = block_of(gate, outer)
    gate.pop(inner)
    with pytest.raises(TransactionManagementError, match="has ended"):
        gate.ask("a", inner)
    assert gate.ask("a", outer) is None


def test_who_waits_for_a_block_that_ends_is_told_so():
    gate = Gate()
    outer = block_of(gate)
    assert gate.ask("a", outer) is None
    turn = gate.ask("b", outer)
    gate.pop(outer)
    gate.release("a")
    assert isinstance(turn.exception(0), TransactionManagementError)
