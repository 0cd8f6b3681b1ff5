"""The app of the compatibility tests: two models."""
