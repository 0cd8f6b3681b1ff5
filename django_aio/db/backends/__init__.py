"""The drivers: where Django's database backends wait, and how each waits on the loop.

Engines stay Django's own. An engine that derives from Django's PostgreSQL or SQLite backend is
cooperative through the patches of its base class; any other works in a thread.
"""
