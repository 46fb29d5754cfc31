"""What every transport must do, byte by byte, against a real server."""

import asyncio
import gc
import gzip
import random
import ssl
import zlib

import pytest

from holdfast.errors import BadRequest, ConnectionFailed, MalformedResponse, PhaseTimeout
from holdfast.http.base import HttpRequest, HttpResponse, Transport
from integration.http.conftest import Make
from integration.http.raw_server import CHUNKED, Peer, RawServer, chunk, ok, serving

LONG = 20.0
SHORT = 0.08
LIMIT = 2**20


async def post(transport: Transport, server: RawServer, body: bytes = b"{}", **options: float) -> HttpResponse:
    request = HttpRequest("POST", server.url, ((b"content-type", b"application/json"),), body)
    return await transport.send(request, **{"connect": LONG, "headers": LONG, **options})


async def ask(transport: Transport, server: RawServer, limit: int = LIMIT) -> bytes:
    response = await post(transport, server)
    try:
        return await response.read(limit, LONG)
    finally:
        response.close()


async def collect(response: HttpResponse, first: float = LONG, idle: float = LONG) -> list[bytes]:
    return [piece async for piece in response.pieces(first, idle)]


def replies(*answers: bytes):
    """Answer each request of a connection with the next of `answers`, then wait for the end."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)
        await peer.gone()

    return script


async def endless(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(ok())


# --- what is sent and what comes back ---------------------------------------------------------------------------------


async def test_a_request_arrives_as_it_was_meant(transport: Transport) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(ok(b"{}", b"X-One: 1", b"x-one: 2", b"Empty:", b"Spaced:  a b \t"))
        await peer.gone()

    async with serving(script) as server:
        headers = ((b"authorization", b"Bearer k"), (b"content-length", b"99"))
        request = HttpRequest("POST", server.url + "?a=b%20c&d", headers, b'{"x":1}')
        response = await transport.send(request, connect=LONG, headers=LONG)
        assert await response.read(LIMIT, LONG) == b"{}"
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat?a=b%20c&d HTTP/1.1"
    fields = sorted([line.lower() for line in lines[1:]])
    assert [field for field in fields if not field.startswith(b"user-agent")] == sorted(
        [
            b"accept-encoding: identity",
            b"authorization: bearer k",
            b"content-length: 7",
            f"host: 127.0.0.1:{server.port}".encode(),
        ]
    )
    assert any(field.startswith(b"user-agent: holdfast/") for field in fields)
    assert body == b'{"x":1}'
    assert response.status == 200
    assert response.header(b"x-one") == b"1"
    assert response.header(b"nothing") is None
    assert response.headers[:4] == ((b"x-one", b"1"), (b"x-one", b"2"), (b"empty", b""), (b"spaced", b"a b"))


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_without_a_body_has_no_body(transport: Transport, method: str) -> None:
    async def script(peer: Peer) -> None:
        head = await peer.request()
        assert (b"content-length: 0" in head.lower()) is (method == "POST")
        await peer.send(ok())
        await peer.gone()

    async with serving(script) as server:
        response = await transport.send(HttpRequest(method, server.url), connect=LONG, headers=LONG)
        assert await response.read(LIMIT, LONG) == b"hello"


@pytest.mark.parametrize(
    ("method", "url", "headers"),
    [
        ("POST\r\nx: y", "http://127.0.0.1:1/", ()),
        ("POST", "http://127.0.0.1:1/a\r\nx: y", ()),
        ("POST", "http://127.0.0.1:1/a b", ()),
        ("POST", "ftp://127.0.0.1/", ()),
        ("POST", "127.0.0.1/", ()),
        ("POST", "http:///path", ()),
        ("POST", "http://127.0.0.1:99999/", ()),
        ("POST", "http://a..b/", ()),
        ("POST", "http://user:secret@127.0.0.1/", ()),
        ("POST", "http://127.0.0.1:1/", ((b"x\r\ny", b"z"),)),
        ("POST", "http://127.0.0.1:1/", ((b"x", b"y\r\nz: 1"),)),
        ("POST", "http://127.0.0.1:1/", ((b"x", b"y\0"),)),
        ("POST", "http://127.0.0.1:1/", ((b"", b"y"),)),
        ("POST", "http://127.0.0.1:1/", ((b"Transfer-Encoding", b"chunked"),)),
    ],
)
async def test_what_can_not_be_sent_is_refused_before_anything_is(
    transport: Transport, method: str, url: str, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    with pytest.raises(BadRequest, match="can't be sent") as caught:
        await transport.send(HttpRequest(method, url, headers), connect=LONG, headers=LONG)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_status_without_a_body_ends_at_its_headers(transport: Transport, status: bytes) -> None:
    async with serving(replies(b"HTTP/1.1 " + status + b"\r\n\r\n", ok())) as server:
        assert await ask(transport, server) == b""
        assert await ask(transport, server) == b"hello"
        assert len(server.peers) == 1


async def test_the_response_to_head_has_no_body_whatever_its_length(transport: Transport) -> None:
    async with serving(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", ok())) as server:
        response = await transport.send(HttpRequest("HEAD", server.url), connect=LONG, headers=LONG)
        assert await response.read(LIMIT, LONG) == b""
        assert response.header(b"content-length") == b"10"
        assert await ask(transport, server) == b"hello"


@pytest.mark.parametrize("first", [b"100 Continue", b"103 Early Hints", b"102 Processing"])
async def test_informational_responses_are_passed_over(transport: Transport, first: bytes) -> None:
    hints = b"HTTP/1.1 " + first + b"\r\nLink: </x>\r\n\r\n"
    async with serving(replies(hints + hints + ok(b"a"), ok(b"b"))) as server:
        response = await post(transport, server)
        assert (response.status, response.header(b"link")) == (200, None)
        assert await response.read(LIMIT, LONG) == b"a"
        assert await ask(transport, server) == b"b"


async def test_a_redirect_is_not_followed(transport: Transport) -> None:
    async with serving(replies(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")) as server:
        assert (await post(transport, server)).status == 302


async def test_pieces_come_as_they_arrive(transport: Transport) -> None:
    released = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, chunk(b"one"))
        await released.wait()
        await peer.send(chunk(b"two"), b"0\r\n\r\n")
        await peer.gone()

    async with serving(script) as server:
        response = await post(transport, server)
        pieces = aiter(response.pieces(LONG, LONG))
        assert await anext(pieces) == b"one"
        released.set()
        assert await anext(pieces) == b"two"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


@pytest.mark.parametrize(
    "answer",
    [ok(b"hello"), CHUNKED + chunk(b"he") + chunk(b"llo") + b"0\r\nX-Trailer: y\r\n\r\n"],
    ids=["length", "chunked"],
)
async def test_a_response_in_single_bytes_is_the_same_response(transport: Transport, answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            await peer.send(*[answer[at : at + 1] for at in range(len(answer))])
        await peer.gone()

    async with serving(script) as server:
        assert await ask(transport, server) == b"hello"
        response = await post(transport, server)
        assert b"".join(await collect(response)) == b"hello"
        assert all(len(header) == 2 and header[0] != b"x-trailer" for header in response.headers)
        assert len(server.peers) == 1


async def test_a_body_framed_by_the_end_of_the_connection_ends_there(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"hel", b"lo")

    async with serving(script) as server:
        assert await ask(transport, server) == b"hello"
        assert b"".join(await collect(await post(transport, server))) == b"hello"
        assert len(server.peers) == 2


async def test_a_response_that_has_ended_can_be_asked_again(transport: Transport) -> None:
    async with serving(endless) as server:
        response = await post(transport, server)
        assert await response.read(LIMIT, LONG) == b"hello"
        response.close()
        response.close()
        assert await response.read(LIMIT, LONG) == b"hello"
        assert await collect(response) == []
        assert await ask(transport, server) == b"hello"
        assert len(server.peers) == 1


async def test_a_response_closed_before_its_end_never_looks_complete(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, chunk(b"part"))
        await peer.gone()

    async with serving(script) as server:
        response = await post(transport, server)
        response.close()
        with pytest.raises(ConnectionFailed):
            await response.read(LIMIT, LONG)


# --- content codings --------------------------------------------------------------------------------------------------

TEXT = bytes(random.Random(1).choices(b"abc ", k=300_000))
RAW_DEFLATE = zlib.compress(TEXT)[2:-4]
CODED = {
    "gzip": (b"gzip", gzip.compress(TEXT)),
    "two gzip members": (b"x-gzip", gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:])),
    "deflate": (b"Deflate", zlib.compress(TEXT)),
    "deflate without a wrapper": (b"deflate", RAW_DEFLATE),
    "identity": (b"identity", TEXT),
}


@pytest.mark.parametrize("name", CODED)
async def test_content_codings_are_decoded(transport: Transport, name: str) -> None:
    coding, body = CODED[name]
    answer = ok(body, b"Content-Encoding: " + coding)
    async with serving(replies(answer, answer)) as server:
        assert await ask(transport, server) == TEXT
        assert b"".join(await collect(await post(transport, server))) == TEXT


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(TEXT)[:-9]),
        (b"gzip", b"not gzip at all"),
        (b"gzip", gzip.compress(TEXT) + b"garbage"),
        (b"deflate", RAW_DEFLATE[:-1000]),
        (b"deflate", zlib.compress(TEXT) + b"more"),
        (b"br", b"anything"),
    ],
)
async def test_a_body_that_its_coding_does_not_fit_is_malformed(
    transport: Transport, coding: bytes, body: bytes
) -> None:
    answer = ok(body, b"Content-Encoding: " + coding)
    async with serving(replies(answer, answer)) as server:
        with pytest.raises(MalformedResponse):
            await ask(transport, server)
        response = await post(transport, server)
        with pytest.raises(MalformedResponse):
            await collect(response)


async def test_an_empty_coded_body_is_empty(transport: Transport) -> None:
    answer = ok(b"", b"Content-Encoding: gzip")
    async with serving(replies(answer, answer)) as server:
        assert await ask(transport, server) == b""
        assert await collect(await post(transport, server)) == []


async def test_a_small_body_that_unfolds_into_a_huge_one_is_refused_within_bounds(transport: Transport) -> None:
    bomb = ok(gzip.compress(b"\0" * (32 * 2**20)), b"Content-Encoding: gzip")
    async with serving(replies(bomb, bomb)) as server:
        with pytest.raises(MalformedResponse, match=f"longer than {LIMIT} bytes"):
            await ask(transport, server)
        pieces = await collect(await post(transport, server))
        assert max([len(piece) for piece in pieces]) <= 256 * 2**10
        assert sum([len(piece) for piece in pieces]) == 32 * 2**20


# --- keeping connections ----------------------------------------------------------------------------------------------


async def test_connections_are_reused(transport: Transport) -> None:
    async with serving(endless) as server:
        for _ in range(20):
            assert await ask(transport, server) == b"hello"
        assert len(server.peers) == 1


async def test_a_connection_that_the_server_closes_with_its_answer_is_not_reused(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"a", b"Connection: close"))

    async with serving(script) as server:
        for _ in range(3):
            assert await ask(transport, server) == b"a"
        assert len(server.peers) == 3


async def test_a_connection_closed_between_requests_is_noticed(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())

    async with serving(script) as server:
        for number in range(1, 4):
            assert await ask(transport, server) == b"hello"
            assert len(server.peers) == number
            while server._tasks:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_kept_connection_that_dies_under_a_request_is_told_apart(transport: Transport, how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await peer.request()
        getattr(peer, how)()

    async with serving(script) as server:
        assert await ask(transport, server) == b"hello"
        with pytest.raises(ConnectionFailed) as caught:
            await ask(transport, server)
        assert (caught.value.reused, caught.value.before_headers) == (True, True)
        assert await ask(transport, server) == b"hello"


@pytest.mark.parametrize("stray", [b"x", ok(b"smuggled"), b"HTTP/1.1 20"])
async def test_a_connection_with_stray_bytes_is_not_reused(transport: Transport, stray: bytes, kind: str) -> None:
    if kind == "aiohttp" and not stray.startswith(b"HTTP/1.1 200"):
        pytest.skip("aiohttp takes stray bytes for a part of an answer")

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"%d" % peer.number) + stray)
        await peer.gone()

    async with serving(script) as server:
        assert await ask(transport, server) == b"0"
        assert await ask(transport, server) == b"1"


async def test_idle_connections_are_closed_after_their_time(make: Make) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await peer.gone()
        gone.set()

    transport = make(keep_alive=SHORT)
    async with serving(script) as server:
        assert await ask(transport, server) == b"hello"
        async with asyncio.timeout(LONG):
            await gone.wait()
        assert await ask(transport, server) == b"hello"
        assert len(server.peers) == 2


async def test_closing_the_transport_closes_its_connections(transport: Transport) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await peer.gone()
        gone.set()

    async with serving(script) as server:
        await ask(transport, server)
        await transport.aclose()
        async with asyncio.timeout(LONG):
            await gone.wait()
        with pytest.raises(ConnectionFailed, match="transport is closed"):
            await ask(transport, server)


async def test_connections_are_limited_and_waiting_for_one_is_part_of_connecting(make: Make) -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            await peer.send(ok())

    transport = make(limit=2)
    async with serving(script) as server:
        busy = [asyncio.create_task(ask(transport, server)) for _ in range(2)]
        while len(server.peers) < 2:
            await asyncio.sleep(0)
        with pytest.raises(PhaseTimeout) as caught:
            await post(transport, server, connect=SHORT)
        assert caught.value.phase == "connect"
        waiting = [asyncio.create_task(ask(transport, server)) for _ in range(10)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        release.set()
        results = await asyncio.gather(*busy, *waiting, return_exceptions=True)
        assert results.count(b"hello") == 11
        assert len(server.peers) == 2


async def test_a_place_is_free_again_after_a_failure(make: Make) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number < 3:
            peer.reset()
        else:
            await peer.send(ok())
            await peer.gone()

    transport = make(limit=1)
    async with serving(script) as server:
        results = await asyncio.gather(*[ask(transport, server) for _ in range(4)], return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionFailed] * 3 + [bytes]


async def test_two_hundred_requests_at_once(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            body = (await peer.request()).partition(b"\r\n\r\n")[2]
            await peer.send(CHUNKED, chunk(body), b"0\r\n\r\n")

    async def one(server: RawServer, number: int) -> bool:
        body = b"%d" % number * 50
        response = await post(transport, server, body)
        return b"".join(await collect(response)) == body

    async with serving(script) as server:
        for _ in range(2):
            assert all(await asyncio.gather(*[one(server, number) for number in range(200)]))
        assert len(server.peers) <= 200


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_a_refused_connection(transport: Transport) -> None:
    async with serving(endless) as server:
        pass
    with pytest.raises(ConnectionFailed, match="refused") as caught:
        await ask(transport, server)
    assert (caught.value.reused, caught.value.before_headers) == (False, True)
    assert f"127.0.0.1:{server.port}" in caught.value.message


async def test_a_name_that_does_not_resolve(transport: Transport) -> None:
    with pytest.raises(ConnectionFailed, match=r"holdfast\.invalid:80"):
        await transport.send(HttpRequest("GET", "http://holdfast.invalid/"), connect=LONG, headers=LONG)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_connection_that_ends_before_the_headers(transport: Transport, start: bytes, how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        getattr(peer, how)()

    async with serving(script) as server:
        with pytest.raises(ConnectionFailed) as caught:
            await ask(transport, server)
        assert (caught.value.reused, caught.value.before_headers) == (False, True)


CUTS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    "chunk": CHUNKED + b"a\r\nhello",
    "between chunks": CHUNKED + chunk(b"hello"),
    "last chunk": CHUNKED + chunk(b"hello") + b"0\r\n",
    "no body": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
}


@pytest.mark.parametrize("where", CUTS)
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("mode", ["read", "pieces"])
async def test_a_body_that_is_cut_never_looks_complete(transport: Transport, where: str, how: str, mode: str) -> None:
    taken = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CUTS[where])
        await taken.wait()
        getattr(peer, how)()

    async with serving(script) as server:
        response = await post(transport, server)
        taken.set()
        with pytest.raises(ConnectionFailed) as caught:
            await (response.read(LIMIT, LONG) if mode == "read" else collect(response))
        assert caught.value.before_headers is False
        with pytest.raises(ConnectionFailed):
            await response.read(LIMIT, LONG)


GARBAGE = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "binary": bytes(range(256)),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "bare header": b"HTTP/1.1 200 OK\r\nnothing here\r\n\r\n",
    "huge header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X-Header: yyyyyyyyyyyy\r\n" * 10_000 + b"\r\n",
    "protocol switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_what_is_not_http_is_malformed(transport: Transport, name: str) -> None:
    async with serving(replies(GARBAGE[name], ok())) as server:
        with pytest.raises(MalformedResponse):
            await ask(transport, server)


@pytest.mark.parametrize("mode", ["read", "pieces"])
async def test_chunks_that_are_malformed(transport: Transport, mode: str, kind: str) -> None:
    released = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + chunk(b"hello"))
        await released.wait()
        await peer.send(b"xyz\r\n")
        await peer.gone()

    async with serving(script) as server:
        response = await post(transport, server)
        released.set()
        late = kind == "aiohttp"  # which forgets the body when it drops the connection
        with pytest.raises(PhaseTimeout if late else MalformedResponse):
            await (
                response.read(LIMIT, 3 * SHORT if late else LONG) if mode == "read" else collect(response, LONG, SHORT)
            )


async def test_a_body_above_the_limit_is_refused_without_waiting_for_its_end(transport: Transport) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        try:
            await peer.send(CHUNKED, *[chunk(b"x" * 1000)] * 20)
            await peer.gone()
        finally:
            ended.set()

    async with serving(script) as server:
        with pytest.raises(MalformedResponse, match="longer than 10000 bytes"):
            await ask(transport, server, limit=10_000)
        async with asyncio.timeout(LONG):
            await ended.wait()


async def test_a_body_exactly_at_the_limit_is_taken(transport: Transport) -> None:
    async with serving(replies(ok(b"x" * 10_000))) as server:
        assert len(await ask(transport, server, limit=10_000)) == 10_000


# --- silence ----------------------------------------------------------------------------------------------------------


async def test_silence_before_the_headers(transport: Transport) -> None:
    async with serving(replies(b"HTTP/1.1 200 OK\r\n")) as server:
        with pytest.raises(PhaseTimeout) as caught:
            await post(transport, server, headers=SHORT)
        assert caught.value.phase == "first_token"


async def test_silence_during_the_handshake(make: Make, client_tls: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    transport = make(ssl_context=client_tls)
    async with serving(script) as server:
        server.scheme = "https"
        with pytest.raises(PhaseTimeout) as caught:
            await post(transport, server, connect=SHORT)
        assert caught.value.phase == "connect"


async def test_silence_before_the_first_piece_and_between_pieces(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED if peer.number == 0 else CHUNKED + chunk(b"one"))
        await peer.gone()

    async with serving(script) as server:
        with pytest.raises(PhaseTimeout) as caught:
            await collect(await post(transport, server), first=SHORT)
        assert caught.value.phase == "first_token"
        response = await post(transport, server)
        pieces = aiter(response.pieces(LONG, SHORT))
        assert await anext(pieces) == b"one"
        with pytest.raises(PhaseTimeout) as caught:
            await anext(pieces)
        assert caught.value.phase == "idle"


async def test_an_answer_that_is_not_complete_in_time(transport: Transport) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            while True:  # a trickle keeps no answer alive
                await peer.send(b"x")
                await asyncio.sleep(SHORT / 10)
        finally:
            ended.set()

    async with serving(script) as server:
        response = await post(transport, server)
        with pytest.raises(PhaseTimeout) as caught:
            await response.read(LIMIT, SHORT)
        assert caught.value.phase == "answer"
        async with asyncio.timeout(LONG):
            await ended.wait()


async def test_a_stream_that_keeps_coming_outlives_its_idle_time(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(12):
            await asyncio.sleep(SHORT / 4)
            await peer.send(chunk(b"x"))
        await peer.send(b"0\r\n\r\n")

    async with serving(script) as server:
        response = await post(transport, server)
        assert b"".join(await collect(response, 3 * SHORT, 3 * SHORT)) == b"x" * 12


async def test_time_that_the_reader_takes_is_not_the_servers_silence(transport: Transport) -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, chunk(b"one"))
        await release.wait()
        await peer.send(chunk(b"two"), b"0\r\n\r\n")
        await peer.gone()

    async with serving(script) as server:
        response = await post(transport, server, headers=SHORT)
        pieces = aiter(response.pieces(LONG, SHORT))
        assert await anext(pieces) == b"one"
        await asyncio.sleep(2 * SHORT)
        asyncio.get_running_loop().call_soon(release.set)
        assert await anext(pieces) == b"two"


async def test_times_out_of_order_are_each_kept(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await peer.request()
        await peer.gone()

    async with serving(script) as server:
        response = await post(transport, server, headers=60)
        await response.read(LIMIT, 60)
        with pytest.raises(PhaseTimeout):
            async with asyncio.timeout(LONG / 2):
                await post(transport, server, headers=SHORT)


# --- cancellation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["headers", "read", "pieces"])
async def test_cancelling_closes_the_connection_at_once(make: Make, where: str) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if where != "headers":
            await peer.send(CHUNKED)
        asked.set()
        await peer.gone()
        gone.set()

    async def call(server: RawServer) -> None:
        response = await post(transport, server)
        await (response.read(LIMIT, LONG) if where == "read" else collect(response))

    transport = make(limit=1)
    async with serving(script) as server:
        for _ in range(2):
            task = asyncio.create_task(call(server))
            async with asyncio.timeout(LONG):
                await asked.wait()
                for _ in range(5):
                    await asyncio.sleep(0)
                task.cancel()
                await gone.wait()
            with pytest.raises(asyncio.CancelledError):
                await task
            asked.clear()
            gone.clear()


async def test_closing_before_the_end_closes_the_connection(transport: Transport) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, chunk(b"part"))
        await peer.gone()
        gone.set()

    async with serving(script) as server:
        (await post(transport, server)).close()
        async with asyncio.timeout(LONG):
            await gone.wait()


async def test_closing_the_transport_fails_what_is_under_way(transport: Transport) -> None:
    async with serving(replies(CHUNKED + chunk(b"part"))) as server:
        response = await post(transport, server)
        reading = asyncio.create_task(response.read(LIMIT, LONG))
        await asyncio.sleep(0)
        await transport.aclose()
        with pytest.raises(ConnectionFailed):
            await reading


async def test_cancelling_at_any_moment_leaves_the_pool_whole(make: Make) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(CHUNKED, chunk(b"a"), chunk(b"b"), b"0\r\n\r\n")

    async def call(server: RawServer) -> bytes:
        response = await post(transport, server)
        try:
            return await response.read(LIMIT, LONG)
        finally:
            response.close()

    transport, chance = make(limit=3), random.Random(7)
    async with serving(script) as server:
        for _ in range(60):
            tasks = [asyncio.create_task(call(server)) for _ in range(8)]
            for _ in range(chance.randrange(25)):
                await asyncio.sleep(0)
            for task in chance.sample(tasks, 4):
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [r for r in results if r != b"ab" and not isinstance(r, asyncio.CancelledError)] == []
        assert await asyncio.gather(*[call(server) for _ in range(8)]) == [b"ab"] * 8


# --- back-pressure ----------------------------------------------------------------------------------------------------

BIG = 64 * 2**20


async def _standstill(peer: Peer) -> int:
    """Return how much the server could send, once it can't send any more."""
    before = -1
    while peer.sent != before:
        before = peer.sent
        await asyncio.sleep(0.1)
    return peer.sent


async def test_a_slow_reader_slows_the_server_down(transport: Transport) -> None:
    piece = b"x" * 65536

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
        for _ in range(BIG // len(piece)):
            await peer.send(piece)
        await peer.gone()

    async with serving(script) as server:
        response = await post(transport, server)
        assert await _standstill(server.peers[0]) < BIG / 4
        pieces = aiter(response.pieces(LONG, LONG))
        size = len(await anext(pieces))
        assert await _standstill(server.peers[0]) < BIG / 4
        async for data in pieces:
            size += len(data)
        assert size == BIG


async def test_a_whole_body_is_read_although_reading_was_paused(transport: Transport) -> None:
    async with serving(replies(ok(b"x" * 8 * 2**20))) as server:
        response = await post(transport, server)
        await _standstill(server.peers[0])
        assert len(await response.read(BIG, LONG)) == 8 * 2**20


async def test_a_large_request_waits_for_a_slow_server(transport: Transport) -> None:
    body = random.Random(3).randbytes(8 * 2**20)
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await release.wait()
        assert await peer.read(len(body)) == body
        await peer.send(ok(b"done"))
        await peer.request()
        await peer.send(ok(b"again"))
        await peer.gone()

    async with serving(script) as server:
        task = asyncio.create_task(post(transport, server, body))
        await asyncio.sleep(SHORT)
        assert not task.done()
        release.set()
        assert await (await task).read(LIMIT, LONG) == b"done"
        assert await ask(transport, server) == b"again"


async def test_an_answer_before_the_end_of_a_large_request_is_taken(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nlong")
        await peer.gone()

    async with serving(script) as server:
        response = await post(transport, server, b"x" * BIG)
        assert response.status == 413
        assert await response.read(LIMIT, LONG) == b"long"
        response.close()


# --- TLS, names and addresses -----------------------------------------------------------------------------------------


async def test_tls_with_a_private_authority(make: Make, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    transport = make(ssl_context=client_tls)
    async with serving(endless, tls=server_tls) as server:
        server.host = "localhost"
        for _ in range(3):
            assert await ask(transport, server) == b"hello"
        assert len(server.peers) == 1


async def test_a_certificate_of_an_unknown_authority_is_refused(make: Make, server_tls: ssl.SSLContext) -> None:
    transport = make(ssl_context=ssl.create_default_context())
    async with serving(endless, tls=server_tls) as server:
        with pytest.raises(ConnectionFailed, match="certificate is not accepted: self-signed"):
            await ask(transport, server)


async def test_a_certificate_of_another_name_is_refused(
    make: Make, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    transport = make(ssl_context=client_tls)
    async with serving(endless, tls=server_tls, host="127.0.0.2") as server:
        with pytest.raises(ConnectionFailed, match="certificate is not accepted: IP address mismatch"):
            await ask(transport, server)


async def test_tls_to_a_server_without_it_fails(make: Make, client_tls: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.gone()

    transport = make(ssl_context=client_tls)
    async with serving(script) as server:
        server.scheme = "https"
        with pytest.raises(ConnectionFailed):
            await ask(transport, server)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_cut_under_tls_never_looks_complete(
    make: Make, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, how: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CUTS["length"])
        getattr(peer, how)()

    transport = make(ssl_context=client_tls)
    async with serving(script, tls=server_tls) as server:
        response = await post(transport, server)
        with pytest.raises(ConnectionFailed) as caught:
            await response.read(LIMIT, LONG)
        assert caught.value.before_headers is False


async def test_a_body_framed_by_the_end_of_a_tls_connection(
    make: Make, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n", b"hello")

    transport = make(ssl_context=client_tls)
    async with serving(script, tls=server_tls) as server:
        assert await ask(transport, server) == b"hello"


async def test_ipv6(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        assert f"host: [::1]:{server.port}".encode() in (await peer.request()).lower()
        await peer.send(ok())
        await peer.gone()

    try:
        serving_ipv6 = serving(script, host="::1")
        server = await serving_ipv6.__aenter__()
    except OSError:
        pytest.skip("no IPv6 here")
    assert await ask(transport, server) == b"hello"
    await serving_ipv6.__aexit__(None, None, None)


# --- through an HTTP proxy -------------------------------------------------------------------------------------------


@pytest.fixture
def only_aiohttp(kind: str) -> None:
    if kind != "aiohttp":
        pytest.skip("only aiohttp goes through proxies")


@pytest.mark.usefixtures("only_aiohttp")
async def test_requests_go_through_the_proxy(make: Make) -> None:
    async def proxy(peer: Peer) -> None:
        assert (await peer.request()).startswith(b"POST http://upstream.test/v1 HTTP/1.1\r\n")
        await peer.send(ok(b"proxied"))
        await peer.gone()

    async with serving(proxy) as server:
        transport = make(proxy=f"http://{server.host}:{server.port}")
        response = await transport.send(HttpRequest("POST", "http://upstream.test/v1"), connect=LONG, headers=LONG)
        assert await response.read(LIMIT, LONG) == b"proxied"


@pytest.mark.usefixtures("only_aiohttp")
async def test_a_proxy_that_refuses_is_a_failed_connection(make: Make) -> None:
    async def proxy(peer: Peer) -> None:
        assert (await peer.request()).startswith(b"CONNECT upstream.test:443 HTTP/1.1\r\n")
        await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    async with serving(proxy) as server:
        transport = make(proxy=f"http://{server.host}:{server.port}")
        with pytest.raises(ConnectionFailed, match=r"proxy refused to connect to upstream\.test:443: 403"):
            await transport.send(HttpRequest("POST", "https://upstream.test/v1"), connect=LONG, headers=LONG)


@pytest.mark.usefixtures("only_aiohttp")
async def test_a_proxy_that_is_down_is_a_failed_connection(make: Make) -> None:
    async with serving(endless) as server:
        pass
    transport = make(proxy=f"http://{server.host}:{server.port}")
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{server.port}"):
        await transport.send(HttpRequest("POST", "https://upstream.test/v1"), connect=LONG, headers=LONG)


# --- nothing stays behind ---------------------------------------------------------------------------------------------


async def test_nothing_stays_behind(make: Make) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await (peer.send(ok()) if peer.number % 2 else peer.send(CUTS["chunk"]))
        if peer.number % 3:
            peer.reset()

    transport = make()
    tasks = asyncio.all_tasks()
    async with serving(script) as server:
        await asyncio.gather(*[ask(transport, server) for _ in range(12)], return_exceptions=True)
        await transport.aclose()
        while server._tasks:
            await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    del server, transport
    gc.collect()  # warns of what was left open
