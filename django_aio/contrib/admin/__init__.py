"""The admin on the loop, and with coroutine functions in the place of its methods."""
