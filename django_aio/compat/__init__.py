"""Patches of packages that need to know of chains, applied when such a package is imported."""
