"""What makes Django do less work, and has nothing to do with waiting.

Each of these patches changes how fast something is worked out, never what: they reach synchronous
sites and management commands too. `AIO = {"SPEEDUPS": False}` leaves all of them out. Nothing else
of the package imports from here. They are applied last, by `series/speedups.py`; what another
package has put in their place is left alone.
"""
