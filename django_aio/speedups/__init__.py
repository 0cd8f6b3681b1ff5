"""What makes Django do less work, and has nothing to do with waiting.

Each of these patches changes how fast something is worked out, never what: they reach synchronous
sites and management commands too. `AIO = {"SPEEDUPS": False}` leaves all of them out. Nothing else
of the package imports from here; they are applied last, from `table.py`, and where another package
has put something of its own that is left alone.
"""
