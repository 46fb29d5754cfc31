"""The gateway as any ASGI server carries it: without what its own server offers beside ASGI."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.app import App
from holdfast.config import parse
from holdfast.gateway.serving.asgi import Gateway

CONFIG = """
[gateway]
max_body = "1KiB"
max_headers = "1KiB"
[models.echo]
provider = "simulated"
name = "sim-echo"
[models.silent]
provider = "simulated"
name = "sim-stall"
"""
HOST = (b"host", b"localhost")


@pytest.fixture
async def gateway(tmp_path) -> AsyncIterator[Gateway]:
    async with App(parse({"holdfast.toml": CONFIG}, base=tmp_path)) as app:
        yield app.asgi()[0]


def ask(model: str = "echo", **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "ping"}], **more}).encode()


class Answer:
    """What an app sent."""

    def __init__(self, messages: list[Any]) -> None:
        start, *rest = messages
        assert start["type"] == "http.response.start"
        assert not rest[-1].get("more_body", False)
        self.status = start["status"]
        self.headers = dict(start["headers"])
        self.pieces = [message["body"] for message in rest]
        self.body = b"".join(self.pieces)


async def talk(
    gateway: Gateway, *pieces: bytes, headers: tuple[Any, ...] = (HOST,), method: str = "POST", version: str = "1.1"
) -> Answer:
    scope = {
        "type": "http",
        "http_version": version,
        "method": method,
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": list(headers),
    }
    waiting, sent = list(pieces), []

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    await gateway(scope, receive, send)
    return Answer(sent)


async def test_a_call_is_answered_whole(gateway):
    answer = await talk(gateway, ask())
    assert answer.status == 200
    assert answer.headers[b"content-type"] == b"application/json"
    assert answer.headers[b"content-length"] == b"%d" % len(answer.body)
    assert answer.headers[b"x-holdfast-outcome"] == b"answered"
    assert answer.headers[b"x-holdfast-model"] == b"echo"
    assert json.loads(answer.body)["choices"]


async def test_a_stream_comes_in_pieces(gateway):
    answer = await talk(gateway, ask(stream=True))
    assert answer.headers[b"content-type"].startswith(b"text/event-stream")
    assert b"content-length" not in answer.headers
    assert len(answer.pieces) > 1
    assert b"data: [DONE]" in answer.body


async def test_a_body_is_read_from_its_pieces(gateway):
    body = ask()
    assert (await talk(gateway, body[:9], body[9:10], b"", body[10:])).status == 200


@pytest.mark.parametrize("pieces", [(b" " * 1025,), (b" " * 1000, b" " * 25)])
async def test_a_body_beyond_the_limit_is_refused(gateway, pieces):
    assert (await talk(gateway, *pieces)).status == 413


async def test_a_length_beyond_the_limit_is_refused_before_the_body_comes(gateway):
    assert (await talk(gateway, headers=(HOST, (b"content-length", b"1025")))).status == 413


async def test_headers_beyond_the_limit_are_refused(gateway):
    assert (await talk(gateway, ask(), headers=(HOST, (b"x-padding", b"x" * 1024)))).status == 431


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (HOST, HOST),
        (HOST, (b"host", b"example.com")),
        (HOST, (b"origin", b"http://localhost"), (b"origin", b"http://example.com")),
        (HOST, (b"content-length", b"1"), (b"content-length", b"1")),
    ],
)
async def test_what_must_stand_once_is_refused_otherwise(gateway, headers):
    answer = await talk(gateway, ask(), headers=headers)
    assert answer.status == 400
    assert b"A request has one" in answer.body


async def test_only_http_1_0_goes_without_a_host(gateway):
    assert (await talk(gateway, ask(), headers=(), version="1.0")).status == 200


@pytest.mark.parametrize("header", [(b"host", b"example.com"), (b"origin", b"https://example.com")])
async def test_web_pages_elsewhere_are_refused(gateway, header):
    headers = (header,) if header[0] == b"host" else (HOST, header)
    assert (await talk(gateway, ask(), headers=headers)).status == 403


async def test_hints_are_taken_from_the_headers(gateway):
    answer = await talk(gateway, ask(), headers=(HOST, (b"accept", b"*/*"), (b"x-holdfast-deadline-ms", b"soon")))
    assert answer.status == 400
    assert b"deadline_ms" in answer.body


async def test_the_name_of_a_hint_elsewhere_than_in_a_name_is_none(gateway):
    assert (await talk(gateway, ask(), headers=(HOST, (b"via", b"x-holdfast-deadline-ms")))).status == 200


async def test_a_refused_method_names_those_taken(gateway):
    answer = await talk(gateway, method="PUT")
    assert answer.status == 405
    assert answer.headers[b"allow"] == b"POST"


async def test_what_is_no_http_is_a_mistake_of_the_server(gateway):
    with pytest.raises(RuntimeError, match="websocket"):
        await gateway({"type": "websocket"}, None, None)


async def test_a_call_ends_when_its_caller_hangs_up(gateway):
    begun = asyncio.Event()
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [HOST],
    }

    async def receive() -> dict[str, Any]:
        if begun.is_set():
            return {"type": "http.disconnect"}
        begun.set()
        return {"type": "http.request", "body": ask("silent")}

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there")

    async with asyncio.timeout(5):
        await gateway(scope, receive, send)
