"""R7, in the source: what ends something never looks up what it acts on."""

import ast
from pathlib import Path

import pytest

import django_aio

DB = Path(django_aio.__file__).parent / "db"

# What is called when something ends: a block, a cursor, a lease, a hold, a chain, a guest, a
# generator, a loop, a process.
ENDINGS = {
    "atomic.py": ["leave", "_left_by_its_task", "aexit"],
    "ending.py": ["end_block", "end_soon", "end_in_task", "close_undecided"],
    "leases.py": ["end_cursor", "end_hold", "end_if_unused", "end_lease", "drop_if_ended", "part"],
    "turns.py": ["release", "pop", "cut", "abandon", "withdraw"],
    "guests.py": ["leave", "spoil", "_end_own"],
    "visits.py": ["leave", "end"],
    "chains.py": ["_ended", "end", "abandon", "_begin_anew"],
    "generators.py": ["__call__"],
    "blocks.py": ["close"],
    "idle.py": ["give_back", "sever", "disown", "aclose", "abandon"],
    "../loops.py": ["disown_stores", "close", "abandon"],
    "backends/postgresql/driver.py": ["drop", "sever", "part", "interrupt", "may_stay_open"],
    "backends/postgresql/stream.py": ["close", "lose"],
    "backends/postgresql/connection.py": ["shut", "close", "interrupt", "close_forgotten"],
    "backends/postgresql/pool.py": ["putconn", "putconn_soon", "keep_at_hand", "abandon"],
    "backends/sqlite3/driver.py": ["drop", "interrupt"],
    "backends/sqlite3/calls.py": ["soon"],
    "backends/sqlite3/worker.py": ["close_soon", "interrupt"],
    "backends/threaded.py": ["soon"],
    "backends/thread_cursor.py": ["close"],
}

# What looks up the connection of whoever runs now.
LOOK_UPS = {
    *(
        "connections",
        "get_connection",
        "current_connection",
        "current_task",
        "_current_task",
        "connection_of",
    ),
    *("getitem", "chain_of_task", "acting_chain", "join_transaction", "_block_of", "joined_blocks"),
    *("own_block", "block_of", "joinable"),
}

# The child of a fork forgets all of them.
ALLOWED = {("chains.py", "joined_blocks")}


def functions(path):
    tree = ast.parse((DB / path).read_text())
    return [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def reached(path, names):
    """The endings of a module, and the functions of the same module that they call."""
    found = {}
    every = functions(path)
    pending = [f for f in every if f.name in names]
    while pending:
        function = pending.pop()
        if function in found.values():
            continue
        found[f"{function.name}:{function.lineno}"] = function
        called = {
            getattr(call.func, "attr", getattr(call.func, "id", None))
            for call in ast.walk(function)
            if isinstance(call, ast.Call)
        }
        pending += [f for f in every if f.name in called and f.name.startswith("_")]
    return found


@pytest.mark.parametrize("path", ENDINGS)
def test_no_ending_looks_up_what_it_acts_on(path):
    assert {f.name for f in functions(path)} >= set(ENDINGS[path]), "an ending was renamed"
    for name, function in reached(path, ENDINGS[path]).items():
        used = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
        used |= {n.attr for n in ast.walk(function) if isinstance(n, ast.Attribute)}
        used = {each for each in used & LOOK_UPS if (path, each) not in ALLOWED}
        assert not used, f"{path}: {name} uses {used}"


def test_an_atomic_is_left_by_what_it_was_handed_out():
    """`actor()` tells whose turn it is; it chooses only among what one object was handed out."""
    allowed = {"_take_back", "_hand_out", "end_block", "_refusal", "_take_over", "__enter__"}
    allowed |= {"_execute_with_wrappers", "take_turn", "turn", "_await_closing"}
    allowed |= {"block_further_out", "_release"}
    endings = ("atomic.py", "ending.py", "transaction.py", "leases.py", "guests.py")
    for path in (*endings, "statements.py", "turns.py"):
        for function in functions(path):
            calls = [n for n in ast.walk(function) if isinstance(n, ast.Call)]
            if any(getattr(call.func, "id", None) == "actor" for call in calls):
                inner = [f.name for f in ast.walk(function) if isinstance(f, ast.FunctionDef)]
                assert function.name in allowed or set(inner) & allowed, f"{path}: {function.name}"
