"""How long the gateway waits for a caller, and what it says when it can't go on: in process, with shorter waits."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from holdfast.app import App
from holdfast.config import parse
from holdfast.gateway.serving import asgi, connection, server
from holdfast.gateway.serving.server import Server
from holdfast.providers.openai import OpenAISurface

CONFIG = """
[models.echo]
provider = "simulated"
name = "sim-echo"
"""
BODY = b'{"model":"echo","messages":[{"role":"user","content":"ping"}]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)

Talk = Callable[..., Awaitable[bytes]]


@pytest.fixture
async def talk(tmp_path) -> AsyncIterator[Talk]:
    """Send pieces to a gateway, waiting between them, and return everything it says until it closes the connection."""
    async with App(parse({"holdfast.toml": CONFIG}, base=tmp_path)) as app:
        gateway, _ = app.asgi()
        running = Server(gateway, lambda: app.configuration.config.gateway, gateway.refusal)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        serving = asyncio.create_task(running.serve(listener))

        async def talk(*pieces: bytes, pause: float = 0.0) -> bytes:
            async with _connection(port) as (reader, writer):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(pause)
                return await asyncio.wait_for(reader.read(), 5)

        yield talk
        running.stop()
        await serving


@asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("sent", [b"", BODY[:1], BODY[:-1]])
async def test_a_body_that_does_not_come_is_a_bad_request(talk, monkeypatch, sent):
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.05)
    answer = await talk(HEAD, sent)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"did not arrive within 0.05 s" in answer
    assert b'"call":"' in answer


async def test_a_body_that_comes_in_time_is_read_however_it_comes(talk):
    request = HEAD.replace(b"Host", b"Connection: close\r\nHost") + BODY
    answer = await talk(*[request[at : at + 20] for at in range(0, len(request), 20)], pause=0.001)
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", HEAD[:1], HEAD[:-2]])
async def test_a_connection_whose_head_does_not_come_is_closed(talk, monkeypatch, sent):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.01)
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.01)
    await talk()  # the sweep that is under way takes its time
    assert await talk(sent) == b""


@pytest.mark.parametrize("error", [RuntimeError("a bug"), RecursionError("a bug"), AssertionError("a bug")])
async def test_a_bug_while_reading_a_call_is_told_as_one_with_the_calls_id(talk, monkeypatch, caplog, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(OpenAISurface, "decode", fail)
    answer = await talk(HEAD.replace(b"Host", b"Connection: close\r\nHost") + BODY)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b'"code":"internal_error"' in answer
    assert b"a bug" not in answer
    assert "a bug" in caplog.text
