"""What a caller who does not take what is ready for it costs, and when it is let go."""

import asyncio
import contextlib
import gc
import socket
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from holdfast.app import App
from holdfast.config import parse
from holdfast.gateway.serving.connection import Connection
from holdfast.gateway.serving.server import Server, bind
from holdfast.gateway.settings import GatewaySettings
from holdfast.settings import Duration

CALLERS = 8
CONFIG = """
[models.fast]
provider = "openai"
base_url = "http://127.0.0.1:%d/v1"
api_key = { env = "KEY" }
name = "fast"
"""
BODY = b'{"model":"fast","stream":true,"messages":[{"role":"user","content":"hi"}]}'
CALL = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
EVENT = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"fast",'
    b'"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
)
EVENTS = b"%x\r\n%s\r\n" % (len(EVENT) * 4096, EVENT * 4096)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}
PIECE = {"type": "http.response.body", "body": b"x" * 4096, "more_body": True}


class Stream:
    """An app that streams without an end, and notes what becomes of it."""

    def __init__(self) -> None:
        self.sent = 0
        self.cancelled = asyncio.Event()

    async def __call__(self, scope, receive, send):
        await send(START)
        try:
            while True:
                await send(PIECE)
                self.sent += len(PIECE["body"])
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def whole(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9000000")]})
    await send({"type": "http.response.body", "body": b"x" * 9_000_000})


@asynccontextmanager
async def serving(app: Callable, caller_idle: float) -> AsyncIterator[Server]:
    server = Server(app, lambda: GatewaySettings(caller_idle=Duration(caller_idle)), lambda _: (400, b""))
    (listener,) = bind("127.0.0.1", 0)
    server.address = listener.getsockname()  # type: ignore[attr-defined]
    running = asyncio.create_task(server.serve(listener))
    try:
        yield server
    finally:
        server.hurry()
        await running


@asynccontextmanager
async def asked(server: Server, request: bytes = REQUEST) -> AsyncIterator[socket.socket]:
    """Connect, ask, and take one byte of the answer."""
    loop = asyncio.get_running_loop()
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.setblocking(False)
        await loop.sock_connect(caller, server.address)
        await loop.sock_sendall(caller, request)
        await loop.sock_recv(caller, 1)
        yield caller


async def blocked(server: Server) -> Connection:
    """Return the only connection, once its caller no longer keeps up."""
    (connection,) = server.connections
    async with asyncio.timeout(5):
        while connection.drained is None:
            await asyncio.sleep(0.001)
    return connection


async def gone(server: Server) -> None:
    async with asyncio.timeout(5):
        while server.connections:
            server.closed.clear()
            await server.closed.wait()


async def rest(caller: socket.socket) -> None:
    """Take everything until the end."""
    while await asyncio.get_running_loop().sock_recv(caller, 65536):
        pass


@pytest.fixture
def often(monkeypatch):
    """Sweep so often that a test need not wait for it."""
    monkeypatch.setattr("holdfast.gateway.serving.server.SWEEP_SECONDS", 0.01)


async def test_a_caller_who_takes_nothing_of_a_whole_response_is_let_go(often):
    async with serving(whole, 0.02) as server, asked(server):
        await gone(server)


async def test_a_caller_who_takes_nothing_of_a_stream_is_let_go_and_its_call_cancelled(often):
    app = Stream()
    async with serving(app, 0.02) as server, asked(server):
        await gone(server)
        await asyncio.wait_for(app.cancelled.wait(), 5)


async def test_what_was_not_taken_is_forgotten_by_the_kernel_too(often):
    async with serving(Stream(), 0.02) as server, asked(server) as caller:
        await gone(server)
        with pytest.raises(ConnectionResetError):
            await rest(caller)


async def test_a_caller_who_takes_a_stream_slowly_is_kept(often):
    app = Stream()
    loop = asyncio.get_running_loop()
    async with serving(app, 0.5) as server, asked(server) as caller:
        connection = await blocked(server)
        waiting = connection.transport.get_write_buffer_size()
        for _ in range(10):
            await asyncio.sleep(0.1)
            await loop.sock_recv(caller, 2048)
        assert connection.transport.get_write_buffer_size() == waiting  # though not a byte of it has left the process
        assert server.connections
        assert not app.cancelled.is_set()


async def test_a_caller_is_given_its_time_anew_whenever_it_has_caught_up(often):
    async def app(scope, receive, send):
        await send(START)
        await send(PIECE)
        await asyncio.sleep(0.3)  # the model is slow, and there is nothing to take
        await send({"type": "http.response.body", "body": b"the end"})

    async with serving(app, 0.05) as server, asked(server) as caller:
        taken = b""
        while not taken.endswith(b"0\r\n\r\n"):
            taken += await asyncio.get_running_loop().sock_recv(caller, 65536)
        assert b"the end" in taken


async def test_a_caller_who_takes_nothing_holds_little_memory(often):
    app = Stream()
    async with serving(app, 30) as server, asked(server):
        connection = await blocked(server)
        await asyncio.sleep(0.1)
        assert connection.transport.get_write_buffer_size() <= 80_000
        assert app.sent <= 384_000  # what the kernel holds for this caller, of both sides


def pour(listener: socket.socket) -> None:
    """Be a provider that streams to whoever comes, as fast as it is taken."""

    def one(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            time.sleep(0.02)  # no model thinks in less
            try:
                while True:
                    connection.sendall(EVENTS)
            except OSError:
                return

    try:
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],)).start()
    except OSError:
        return


@pytest.fixture
def provider():
    """The port of a provider that never stops."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=pour, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


async def test_a_call_whose_caller_stalls_holds_less_than_half_a_megabyte(provider, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "none")
    async with (
        asyncio.timeout(30),
        App(parse({"holdfast.toml": CONFIG % provider}, base=tmp_path)) as app,
        serving(app.asgi()[0], 60) as server,
        contextlib.AsyncExitStack() as callers,
    ):
        async with asked(server, CALL):  # whatever is made once, is made
            await blocked(server)
        await gone(server)
        tracemalloc.start()
        for _ in range(CALLERS):
            await callers.enter_async_context(asked(server, CALL))
        while sum(connection.drained is not None for connection in server.connections) < CALLERS:
            await asyncio.sleep(0.01)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert held < CALLERS * 448 * 2**10
