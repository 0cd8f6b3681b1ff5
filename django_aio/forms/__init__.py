"""Forms whose fields, validators and methods may be coroutine functions."""
