"""Requests and websockets as no client should send them: any order, any bytes, any end.

Whatever comes, there is a whole response or a clean end; no task and no connection is left; and
there is at most one log record.
"""

import asyncio
import logging

import pytest
from asgi import Client
from connections import Connection, Socket
from django.core.handlers.asgi import ASGIHandler
from django.test import override_settings
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from testapp import protocols

from django_aio.db import chains

pytestmark = pytest.mark.usefixtures("db")

EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

PATHS = [
    "/json/",
    "/app/",
    "/app/echo",
    "/exempt/echo",
    "/exempt/headers",
    "/app/query",
    "/app/user",
    "/exempt/silent",
    "/bare",
    "/ws/echo/",
    "/nowhere",
    "/inner/x/",
]
SOCKETS = ["/ws/echo/", "/ws/querying/", "/ws/room/1/", "/ws/app/1/", "/json/", "/nowhere", "/ws/x"]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", "BREW", ""]
TYPES = [
    b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=b",
    b"multipart/form-data",
    b"text/plain; charset=nonsense",
    b"\xff/\xff",
    b";;;=",
    b"",
]

# What a server lets through in a header's value: anything but line ends and NUL.
value = st.binary(max_size=30).map(lambda raw: raw.translate(None, b"\r\n\x00"))
name = st.sampled_from(
    [
        b"cookie",
        b"content-length",
        b"transfer-encoding",
        b"origin",
        b"referer",
        b"x-forwarded-for",
        b"accept-language",
        b"x_y",
        b"range",
        b"",
        b"expect",
    ]
)
headers = st.lists(
    st.one_of(
        st.tuples(name, value),
        st.tuples(st.just(b"content-type"), st.sampled_from(TYPES)),
        st.tuples(st.just(b"cookie"), st.just(b"sessionid=x; csrftoken=" + b"a" * 32)),
    ),
    max_size=6,
)
query = st.one_of(st.just(b""), st.just(b"a=%ff&b=%zz"), st.binary(max_size=5))
body = st.one_of(
    st.binary(max_size=200),
    st.just(b"csrfmiddlewaretoken=" + b"a" * 32),
    st.just(b'--b\r\nContent-Disposition: form-data; name="f"; filename="\xff"\r\n\r\nx\r\n--b--'),
    st.just(b"x" * 5000),
)
strange = st.text(max_size=10).map(lambda text: f"/{text}")
often = st.sampled_from([True, True, True, False])


def paths(known):
    return often.flatmap(lambda known_one: st.sampled_from(known) if known_one else strange)


def heads():
    """Headers with a host that is allowed, mostly."""
    host = [(b"host", b"testserver")]
    return often.flatmap(lambda allowed: headers.map(lambda found: host * allowed + found))


@st.composite
def requests(draw):
    """An HTTP scope and the messages of its request, perhaps truncated or too many."""
    scope = Client().scope("GET", "/", {})
    scope |= {
        "method": draw(st.sampled_from(METHODS)),
        "path": draw(paths(PATHS)),
        "query_string": draw(query),
        "root_path": draw(st.sampled_from(["", "", "/site", "/app", "/"])),
        "headers": draw(heads()),
        "client": draw(st.sampled_from([None, ("127.0.0.1", 1), ("::1", 0)])),
        "server": draw(st.sampled_from([None, ("testserver", 80), ("/run/socket", None)])),
    }
    chunks = draw(st.lists(body, max_size=4))
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if messages and draw(st.booleans()):
        del messages[0]["body"]
    end = draw(st.sampled_from(["whole", "whole", "aborted"]))
    if end == "whole":
        messages.append({"type": "http.request", "body": draw(body)})
    messages.append({"type": "http.disconnect"})
    # Whether the disconnect comes while the request is answered, or after it.
    return scope, messages, end, draw(st.booleans())


@st.composite
def sockets(draw):
    """A websocket scope and what its client sends, in any order."""
    scope = Socket("/").scope
    scope |= {
        "path": draw(paths(SOCKETS)),
        "query_string": draw(query),
        "headers": draw(heads()),
        "extensions": draw(st.sampled_from([None, {}, {"websocket.http.response": {}}])),
        "subprotocols": draw(st.sampled_from([None, [], ["a"]])),
    }
    message = st.one_of(
        st.builds(lambda text: {"type": "websocket.receive", "text": text}, st.text(max_size=20)),
        st.builds(lambda raw: {"type": "websocket.receive", "bytes": raw}, st.binary(max_size=20)),
        st.just({"type": "websocket.receive", "text": '{"a": [1', "bytes": None}),
        st.just({"type": "websocket.connect"}),
    )
    messages = draw(st.lists(message, max_size=4))
    if draw(st.integers(0, 9)):
        messages.insert(0, {"type": "websocket.connect"})
    end = draw(st.sampled_from([{}, {"code": 1001}, {"code": None, "reason": None}]))
    return scope, [*messages, {"type": "websocket.disconnect", **end}], draw(st.booleans())


class Records(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.records = []

    def emit(self, record):
        self.records.append(record)


def drive(scope, messages, wait_for):
    """Run one connection on a loop of its own. Return what was sent and what was logged.

    The client leaves at once, after the first message, or after the "end".
    """
    records = Records()
    logging.getLogger("django").addHandler(records)
    try:
        sent = asyncio.run(_drive(scope, messages, wait_for))
    finally:
        logging.getLogger("django").removeHandler(records)
    return sent, records.records


async def _drive(scope, messages, wait_for):
    protocols.events = {key: asyncio.Event() for key in ("started", "cancelled", "done")}
    connection = Connection(dict(scope), ASGIHandler())
    for message in messages[:-1] if wait_for else messages:
        connection.incoming.put_nowait(dict(message))
    async with connection:
        if wait_for == "end":
            await connection.ended()
        elif wait_for:
            if messages[0]["type"] == "websocket.connect":
                await connection.get()
            connection.incoming.put_nowait(dict(messages[-1]))
        async with asyncio.timeout(5):
            await connection.task
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:  # such as one that closes a connection which was being opened
        _, others = await asyncio.wait(others, timeout=5)
    assert not others
    assert not chains.tasks
    return connection.sent


@EXAMPLES
@given(requests())
@override_settings(
    ROOT_URLCONF="testapp.protocols",
    DATA_UPLOAD_MAX_MEMORY_SIZE=4000,
    FILE_UPLOAD_MAX_MEMORY_SIZE=1000,
)
def test_http(request):
    scope, messages, end, patient = request
    sent, records = drive(scope, messages, "end" if patient and end == "whole" else "")
    event(f"status {sent[0]['status'] if sent else 'none'}")
    # Beside what the security log says of suspicious ones.
    problems = [record for record in records if record.name.startswith("django.request")]
    assert len(problems) <= 1
    # A 500 is an application's, or Django's: the 404 page reads the form for its CSRF token, and
    # fails if that is malformed.
    malformed = any(value.startswith(b"multipart") for _, value in scope["headers"])
    if not malformed and not scope["path"].endswith("silent"):
        assert not [record for record in problems if record.levelno >= logging.ERROR]
    if not sent:
        assert end == "aborted" or not patient
        return
    assert sent[0]["type"] == "http.response.start"
    assert 200 <= sent[0]["status"] < 600
    assert {message["type"] for message in sent[1:]} <= {"http.response.body"}
    if patient and end == "whole":
        assert not sent[-1].get("more_body")


@EXAMPLES
@given(sockets())
@override_settings(ROOT_URLCONF="testapp.protocols")
def test_websocket(handshake):
    scope, messages, patient = handshake
    sent, records = drive(scope, messages, "message" if patient else "")
    event(sent[0]["type"] if sent else "none")
    assert len([record for record in records if record.name == "django.request"]) <= 1
    kinds = [message["type"] for message in sent]
    assert kinds.count("websocket.accept") <= 1
    assert kinds.count("websocket.close") <= 1
    if kinds and kinds[0] != "websocket.accept":
        extension = "websocket.http.response" in (scope["extensions"] or {})
        assert kinds[0] == ("websocket.http.response.start" if extension else "websocket.close")
        assert "websocket.send" not in kinds
