"""The admin on the loop, with coroutine functions as its methods, views and actions."""
