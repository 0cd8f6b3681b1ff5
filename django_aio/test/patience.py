"""A request in a test's transaction is not cancelled before it has answered.

A browser that goes to another page aborts the requests of the last one. Normally that cancels the
request and the statement that it waits for. In a transaction that the test shares, a cancelled
statement would leave the test in a transaction that the database has aborted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from django_aio.protocols.messages import Message, Receive, Send


def patient(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Wrap both so that the request learns of a disconnect only once it has begun to send its body.

    While it still receives a body it learns of it at once: the body will never be complete. Used by
    one request.
    """
    sending = asyncio.Event()
    received = False

    async def patient_receive() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.disconnect" and received:
            await sending.wait()
        received = received or not message.get("more_body", False)
        return message

    async def noting_send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            sending.set()
        await send(message)

    return patient_receive, noting_send
