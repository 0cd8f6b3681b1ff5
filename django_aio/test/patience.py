"""A request in a test's transaction is not cancelled before it has answered.

A browser that goes to another page breaks off what the last one still loads. Elsewhere that cancels
the request and the statement that it waits for; in a transaction that the test shares, a statement
which was cancelled would leave the test in a transaction that the database has given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from django_aio.protocols.messages import Message, Receive, Send


def patient(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """The two of a request, which learns of a disconnect when it has begun to send its body.

    Or while it is still receiving one, which cannot be completed any more. Used by one request.
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
