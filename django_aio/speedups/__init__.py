"""Speed-ups: Django does less work. They have nothing to do with waiting.

A speed-up changes how fast Django computes a result, and never the result. It works in synchronous
sites and management commands too. `AIO = {"SPEEDUPS": False}` leaves all speed-ups out. No other
module of the package imports from here. `series/speedups.py` applies these patches last, and skips
each whose target another package has patched.
"""
