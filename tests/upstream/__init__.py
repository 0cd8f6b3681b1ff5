"""Django's own test suite, run from the sdist of the installed Django.

`tests/runtests.py --upstream` is the command (`command.py`). It fetches the suite (`sdist.py`),
divides it among processes (`plan.py`) and adds up what they write (`outcomes.py`, `summary.py`). A
process (`worker.py`) runs Django's `runtests` module as it is, in one of three modes:

- stock: Django without us.
- plain: the series applied, nothing else. Synchronous code must not notice.
- native: everything runs inside one `run()` on one loop. A wait that blocks the loop, or a
  statement that Django sends to a thread, fails the test that made it (`detector.py`).
"""
