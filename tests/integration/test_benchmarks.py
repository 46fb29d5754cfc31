"""The load generator and the paced upstream of benchmarks/, run as the benchmark runs them."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need Linux (timerfd, /proc)")


@pytest.fixture
async def upstream() -> AsyncIterator[int]:
    """A paced upstream; gives its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BENCHMARKS / "upstream.py"),
        "--interval-ms",
        "2",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.terminate()
        await process.communicate()


@pytest.fixture
def body(tmp_path: Path) -> Any:
    def write(**more: object) -> str:
        path = tmp_path / "body.json"
        path.write_text(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}))
        return str(path)

    return write


async def load(port: int, *options: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BENCHMARKS / "load.py"),
        *("--port", str(port), "--warmup", "0.1", "--seconds", "0.4", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    result: dict[str, Any] = json.loads(output)
    return result


async def stats(port: int) -> dict[str, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    result: dict[str, int] = json.loads(await reader.readuntil(b"}"))
    writer.close()
    await writer.wait_closed()
    return result


async def serve_answer(answer: bytes) -> asyncio.Server:
    """Serve one fixed answer to everything that is sent."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


async def test_every_streamed_event_that_was_sent_is_counted(upstream: int, body: Any) -> None:
    result = await load(upstream, "--stream", "--connections", "8", "--body", body(stream=True))

    sent = await stats(upstream)
    assert result["errors"] == {}
    assert result["answered"] == sent["streams"] >= 8
    assert result["events_per_answer"] == {"101": sent["streams"]}
    assert sent["events"] == 101 * sent["streams"]
    assert 0 < result["events"] <= sent["events"]


async def test_a_stream_with_usage_has_one_event_more(upstream: int, body: Any) -> None:
    asked = body(stream=True, stream_options={"include_usage": True})
    result = await load(upstream, "--stream", "--connections", "2", "--body", asked)

    assert set(result["events_per_answer"]) == {"102"}


async def test_the_open_loop_sends_what_its_rate_says(upstream: int, body: Any) -> None:
    result = await load(upstream, "--rate", "500", "--connections", "4", "--body", body())

    assert result["errors"] == {}
    assert result["requests"] == pytest.approx(200, rel=0.25)
    assert result["requests"] < result["answered"]
    assert result["p50_us"] <= result["p99_us"]


async def test_the_closed_loop_checks_every_answer(upstream: int, body: Any) -> None:
    result = await load(upstream, "--connections", "4", "--body", body())

    assert result["errors"] == {}
    assert result["requests"] > 100


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops", "status 500"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "not the upstream's"),
        (b"not HTTP at all\r\n\r\n", "malformed response"),
    ],
)
async def test_a_wrong_answer_is_an_error_and_never_an_answer(answer: bytes, fault: str, body: Any) -> None:
    server = await serve_answer(answer)
    async with server:
        result = await load(server.sockets[0].getsockname()[1], "--connections", "1", "--body", body())

    assert result["answered"] == 0
    assert any(fault in error for error in result["errors"])


async def test_a_stream_that_lost_an_event_is_an_error(body: Any) -> None:
    events = b'data: {"choices":[{"delta":{"content":" token1"}}]}\n\ndata: [DONE]\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(events)
    server = await serve_answer(head + events)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await load(port, "--stream", "--connections", "1", "--body", body(stream=True))

    assert result["answered"] == 0
    assert set(result["errors"]) == {"1 of 98 tokens and 1 [DONE]"}
