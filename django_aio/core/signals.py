"""Signals of the server: `startup` and `shutdown`, sent by the ASGI lifespan protocol.

    from django.core.signals import shutdown, startup

    @receiver(startup)
    async def open_client(state, **kwargs):
        state["client"] = await connect()

Receivers are coroutine functions, or synchronous functions, which run where the policy says. They
get `scope`, the scope of the lifespan, and `state`, its dictionary, whose entries the server copies
into the scope of every request and websocket (`request.scope["state"]`). If the server offers no
state, `state` is an empty dictionary that nobody reads.

An error in a receiver of `startup` ends the start-up: the server says why and stops. All receivers
of `shutdown` are called, whatever they raise. Servers without the lifespan protocol, WSGI and
management commands send neither signal.

(ASGI 3.0, "Lifespan" and "Lifespan State"; Django documentation, "Signals".)
"""

from django.dispatch import Signal

__all__ = ["shutdown", "startup"]

startup = Signal()
shutdown = Signal()
