"""Session engines."""
