"""Packages that need to know of chains: each patched when it is imported, and only then."""
