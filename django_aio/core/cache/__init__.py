"""Caches on the event loop."""
