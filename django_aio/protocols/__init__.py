"""The ASGI protocols: messages, requests that other applications answer, websockets, lifespan."""
