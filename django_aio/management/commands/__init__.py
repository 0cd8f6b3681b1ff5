"""The command `aio`."""
