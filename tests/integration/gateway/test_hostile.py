"""Hostile HTTP against every route, with and without keys: no answer without authority, no 5xx, nobody kept waiting."""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil
import pytest

from guarded import CONFIG, served
from holdfast.gateway.serving.routes import TABLE
from integration.gateway.caller import Caller, Response, chunk, head

ROUTES = sorted(TABLE)
PRIVATE = [route for route in ROUTES if TABLE[route] is not None]
PUBLIC_PATHS = [path for (method, path), roles in TABLE.items() if roles is None and method == "GET"]
LIMITS = '\n[gateway]\nmax_headers = "8KiB"\nmax_body = "100KiB"\n'
ASK = json.dumps(
    {
        "model": "echo",
        "messages": [{"role": "user", "content": "ping"}],
        "max_tokens": 5,
        "input": "ping",
        "choices": ["a", "b"],
        "stream": False,
    }
).encode()
CREDENTIALS = ("none", "wrong", "app", "admin")
"""What a request brings: nothing, a wrong key, a key that may do little, and one that may do everything."""
EXPECTED = {200, 400, 401, 403, 404, 405, 413, 429, 431}


class Target(NamedTuple):
    url: str
    tokens: dict[str, str]
    public: frozenset[bytes]
    """The bodies that everyone may have."""

    def credentials(self, kind: str) -> list[str]:
        if kind == "none":
            return []
        token = self.tokens["app"][:-1] + "-" if kind == "wrong" else self.tokens[kind]
        return [f"Authorization: Bearer {token}"]


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Iterator[Target]:
    with served(tmp_path_factory.mktemp("hostile"), config=CONFIG + LIMITS) as (url, tokens):
        with Caller(url) as caller:
            public = frozenset(caller.get(path).body for path in PUBLIC_PATHS)
        yield Target(url, tokens, public)


def concrete(path: str) -> str:
    return path.replace("{id}", "nothing") + ("?text=x" if path.endswith("search") else "")


def everything(url: str, raw: bytes, patience: float = 3.0) -> list[Response]:
    """Send bytes, and after them a request that ends the connection; return all responses until it is closed."""
    caller = Caller(url)
    with caller:
        caller._socket.settimeout(patience)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
            caller.send(raw, head("GET /healthz HTTP/1.1", f"Host: {caller.host}", "Connection: close"))
        found = []
        while True:
            try:
                found.append(caller.response())
            except (EOFError, ConnectionResetError):
                return found


def check(target: Target, responses: list[Response], kind: str) -> None:
    """No 5xx; and whoever is not let in gets what is public, or nothing."""
    for response in responses:
        assert response.status in EXPECTED, response
        if kind in ("none", "wrong") and response.status < 300:
            assert response.body in target.public, response


def raw(target: Target, method: str, path: str, *headers: str, body: bytes = b"", kind: str = "none") -> bytes:
    host = urlsplit(target.url).netloc
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *target.credentials(kind), *headers]
    return head(*lines) + body


# --- as it should be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_plain_requests_are_answered_by_authority_alone(target, kind):
    for (method, path), roles in TABLE.items():
        body = ASK if method == "POST" else b""
        message = raw(target, method, concrete(path), f"Content-Length: {len(body)}", body=body, kind=kind)
        responses = everything(target.url, message)
        check(target, responses, kind)
        assert len(responses) == 2
        refused = roles is not None and kind not in roles
        assert (responses[0].status in (401, 403)) == refused


# --- smuggling --------------------------------------------------------------------------------------------------------

SMUGGLED = "GET /api/keys HTTP/1.1\r\nHost: {host}\r\n\r\n"
FRAMINGS: dict[str, tuple[list[str], str]] = {
    "both lengths": (["Content-Length: 4", "Transfer-Encoding: chunked"], "0\r\n\r\n" + SMUGGLED),
    "both lengths, turned": (["Transfer-Encoding: chunked", "Content-Length: 4"], "0\r\n\r\n" + SMUGGLED),
    "two lengths": (["Content-Length: 0", "Content-Length: 60"], SMUGGLED),
    "a list of lengths": (["Content-Length: 0, 60"], SMUGGLED),
    "a signed length": (["Content-Length: +0"], SMUGGLED),
    "a negative length": (["Content-Length: -1"], SMUGGLED),
    "a length in hexadecimal": (["Content-Length: 0x0"], SMUGGLED),
    "a length in other digits": (["Content-Length: \xb2"], SMUGGLED),
    "a length beyond all numbers": (["Content-Length: 18446744073709551616"], SMUGGLED),
    "a length with a space in it": (["Content-Length: 1 0"], SMUGGLED),
    "an unknown coding": (["Transfer-Encoding: xchunked"], "0\r\n\r\n" + SMUGGLED),
    "identity": (["Transfer-Encoding: identity", "Content-Length: 0"], SMUGGLED),
    "chunked twice": (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], "0\r\n\r\n" + SMUGGLED),
    "chunked, not last": (["Transfer-Encoding: chunked, gzip"], "0\r\n\r\n" + SMUGGLED),
    "a coding with a tab": (["Transfer-Encoding:\tchunked", "Content-Length: 3"], "0\r\n\r\n" + SMUGGLED),
    "a coding with a vertical tab": (["Transfer-Encoding: \x0bchunked", "Content-Length: 3"], "0\r\n\r\n" + SMUGGLED),
    "a space before the colon": (["Content-Length : 60", "Content-Length: 0"], SMUGGLED),
    "a folded header": (["Transfer-Encoding:", " chunked", "Content-Length: 3"], "0\r\n\r\n" + SMUGGLED),
    "a bare line feed": (["X: 1\nTransfer-Encoding: chunked", "Content-Length: 3"], "0\r\n\r\n" + SMUGGLED),
    "a bare carriage return": (["X: 1\rTransfer-Encoding: chunked", "Content-Length: 3"], "0\r\n\r\n" + SMUGGLED),
    "a NUL": (["X: \x00", "Content-Length: 0"], SMUGGLED),
    "a header without a name": ([": chunked", "Content-Length: 0"], SMUGGLED),
    "a header without a colon": (["Transfer-Encoding chunked", "Content-Length: 0"], SMUGGLED),
    "an underscore": (["Transfer_Encoding: chunked", "Content-Length: 0"], SMUGGLED),
    "a chunk beyond all numbers": (["Transfer-Encoding: chunked"], "fffffffffffffffff\r\n" + SMUGGLED),
    "a negative chunk": (["Transfer-Encoding: chunked"], "-1\r\n" + SMUGGLED),
    "a chunk in hexadecimal": (["Transfer-Encoding: chunked"], "0x0\r\n\r\n" + SMUGGLED),
    "a chunk longer than it says": (["Transfer-Encoding: chunked"], "2\r\nabcdef\r\n0\r\n\r\n" + SMUGGLED),
    "a chunk that ends in a line feed": (["Transfer-Encoding: chunked"], "1\na\n0\n\n" + SMUGGLED),
    "an extension with a line feed": (["Transfer-Encoding: chunked"], "0;x=\n\r\n\r\n" + SMUGGLED),
    "credentials in a trailer": (
        ["Transfer-Encoding: chunked"],
        "0\r\nAuthorization: Bearer {admin}\r\nx-api-key: {admin}\r\n\r\n" + SMUGGLED,
    ),
    "a wish for HTTP/2": (["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"], SMUGGLED),
    "a wish for a websocket": (["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"], SMUGGLED),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["none", "wrong", "app"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_no_request_is_smuggled_past_the_keys(target, framing, kind):
    host = urlsplit(target.url).netloc
    headers, body = FRAMINGS[framing]
    filled = body.format(host=host, admin=target.tokens["admin"]).encode()
    for method, path in ROUTES:
        responses = everything(target.url, raw(target, method, concrete(path), *headers, body=filled, kind=kind))
        check(target, responses, kind)
        for response in responses:
            assert not response.body.startswith(b'{"keys":'), "the smuggled request was answered"


def test_a_key_counts_for_its_own_request_and_not_for_the_next_on_the_connection(target):
    for method, path in PRIVATE:
        with_key = raw(target, "GET", "/api/keys", kind="admin")
        body = ASK if method == "POST" else b""
        without = raw(target, method, concrete(path), f"Content-Length: {len(body)}", body=body)
        first, second, third, canary = everything(target.url, with_key + without + with_key)
        assert (first.status, second.status, third.status, canary.status) == (200, 401, 200, 200)


# --- paths ------------------------------------------------------------------------------------------------------------


def tricks(path: str, host: str) -> list[str]:
    first, rest = path[:2], path[2:]
    last = path.rpartition("/")
    return [
        "/" + path,
        "//" + host + path,
        "/." + path,
        "/./" + path[1:],
        "/x/.." + path,
        "/healthz/.." + path,
        "/healthz/%2e%2e" + path,
        "/healthz/..%2f" + path[1:],
        "/%2e" + path,
        path + "/",
        path + "/.",
        path + "//",
        path + "/..",
        path + "/../healthz",
        path + "%00",
        path + "%00.html",
        path + "%20",
        path + "%0d%0aX:1",
        path + ";x=1",
        path + ".json",
        path + "%23",
        path + "%3f",
        path + "?",
        path + "??a=b&a=c&%00=%ff",
        path + "?text=%ff&text=%00",
        path + "#fragment",
        path.upper(),
        path.title(),
        path.replace("/", "%2f"),
        path.replace("/", "%5c"),
        path.replace("/", "%252f"),
        path.replace("/", "/%2e/"),
        f"{first}%{ord(rest[0]):02x}{rest[1:]}" if rest else path,
        f"%{ord('/'):02x}" + path[1:],
        last[0] + "/\xe4\xf6" + last[2],
        last[0] + "/%c3%a4",
        last[0] + "/%ff%fe",
        last[0] + "/%ed%a0%80",
        last[0] + "/" + "a" * 4000,
        last[0] + "/" + "%61" * 1000,
        "http://" + host + path,
        "https://evil.example" + path,
        "http://evil.example:99999" + path,
        "http://user:secret@" + host + path,
        "HTTP://" + host + path,
        "ftp://" + host + path,
        "file://" + path,
        "*",
        host,
        path[1:] or "x",
        "\\" + path[1:],
        path + " HTTP/1.1\r\nX-Injected: 1\r\nX-Rest:",
    ]


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_tricks_with_the_path_open_nothing(target, kind):
    host = urlsplit(target.url).netloc
    for method, path in ROUTES:
        for trick in tricks(concrete(path).partition("?")[0], host):
            responses = everything(target.url, raw(target, method, trick, "Content-Length: 0", kind=kind))
            assert responses, trick
            check(target, responses, kind)


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("method", ["get", "HEAD", "PUT", "PATCH", "TRACE", "OPTIONS", "CONNECT", "PROPFIND", "G\xc4T"])
def test_other_methods_open_nothing(target, method, kind):
    for _, path in ROUTES:
        with Caller(target.url) as caller:
            caller.send(raw(target, method, concrete(path), "Connection: close", kind=kind))
            try:
                response = caller.response(bodiless=method == "HEAD")
            except EOFError:
                continue
        assert response.status in EXPECTED
        if kind in ("none", "wrong") and response.status == 200:
            assert method == "HEAD"
            assert path in PUBLIC_PATHS


@pytest.mark.parametrize(
    "name",
    ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path", "X-HTTP-Method-Override", "X-Forwarded-For", "Forwarded",
     "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-User", "X-Remote-User", "Proxy-Authorization"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["/healthz", "GET", "127.0.0.1", "for=127.0.0.1", "admin"])
def test_headers_that_proxies_set_change_nothing(target, name, value):
    for method, path in PRIVATE:
        message = raw(target, method, concrete(path), f"{name}: {value}", "Content-Length: 0")
        assert [response.status for response in everything(target.url, message)] == [401, 200]


# --- credentials ------------------------------------------------------------------------------------------------------


def forged(target: Target) -> list[list[str]]:
    admin = target.tokens["admin"]
    id, secret = admin[:11], admin[12:]
    values = [
        "", "Bearer", "Bearer ", "Bearer null", f"Basic {admin}", f"Bearer {id}", f"Bearer {id}_", f"Bearer {secret}",
        f"Bearer {admin[:-1]}", f"Bearer {admin}x", f"Bearer {admin}\x00", f"Bearer\x00{admin}",
        f"Bearer {admin.upper()}",
        f"Bearer {admin} {admin}", f"Bearer {admin},{admin}", f'Bearer "{admin}"', f"bearer={admin}", f"{admin}",
        f"Bearer {id}_{'0' * 40}", "Bearer " + "\xff" * 50, f"Digest username={id}", f"Bearer {id}%", "Bearer hf_*",
        f"Token {admin}", f"Bearer: {admin}", f"BearerX {admin}",
    ]  # fmt: skip
    both = [f"Authorization: Bearer {admin}", f"authorization: Bearer {admin}"]
    cookies = ["holdfast_session=", f"holdfast_session={admin}", "holdfast_session=a; holdfast_session=b", "=", ";;;"]
    return [
        *[[f"Authorization: {value}"] for value in values],
        *[[f"x-api-key: {value}"] for value in values if value != admin],
        *[[f"Cookie: {cookie}"] for cookie in cookies],
        both,
        [f"x-api-key: {admin}", f"X-API-KEY: {admin}"],
        [f"Authorization: Bearer {admin}", "x-api-key: wrong"],
        ["Authorization: Bearer wrong", f"x-api-key: {admin}"],
        [f"X-Authorization: Bearer {admin}"],
        [f"Authorization2: Bearer {admin}"],
        [f"x_api_key: {admin}"],
        [f"?api_key={admin}: 1"],
    ]


def test_what_is_not_quite_a_key_opens_nothing(target):
    for headers in forged(target):
        for method, path in PRIVATE:
            responses = everything(target.url, raw(target, method, concrete(path), *headers, "Content-Length: 0"))
            check(target, responses, "none")
            assert responses[0].status in (400, 401), headers


def test_a_key_in_the_query_or_the_body_is_none(target):
    admin = target.tokens["admin"]
    for method, path in PRIVATE:
        query = f"?key={admin}&api_key={admin}&token={admin}&access_token={admin}"
        body = json.dumps({"api_key": admin, "key": admin}).encode()
        length = f"Content-Length: {len(body)}"
        responses = everything(target.url, raw(target, method, path.replace("{id}", "x") + query, length, body=body))
        assert responses[0].status == 401


# --- sizes and time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_headers_that_are_too_large_are_refused(target, kind):
    for method, path in ROUTES:
        for padding in (["X: " + "x" * 9000], [f"X-{n}: {n}" for n in range(2000)], ["X" * 9000 + ": 1"]):
            responses = everything(target.url, raw(target, method, concrete(path), *padding, kind=kind))
            assert responses[0].status == 431
        long = everything(target.url, raw(target, method, concrete(path) + "?" + "x" * 9000, kind=kind))
        check(target, long, kind)


@pytest.mark.parametrize("kind", ["none", "wrong"])
def test_whoever_is_not_let_in_is_told_at_once_however_slowly_the_body_comes(target, kind):
    for method, path in PRIVATE:
        for framing in ("Content-Length: 50000", "Transfer-Encoding: chunked", "Content-Length: 9999999999999"):
            with Caller(target.url) as caller:
                began = time.monotonic()
                caller.send(raw(target, method, concrete(path), framing, "Expect: 100-continue", kind=kind))
                assert caller.response().status == 401
                assert time.monotonic() - began < 2


def test_slow_bodies_keep_nobody_else_waiting(target):
    slow = []
    try:
        for method, path in ROUTES:
            for kind in ("app", "admin"):
                caller = Caller(target.url)
                slow.append(caller)
                caller.send(raw(target, method, concrete(path), "Content-Length: 50", body=b'{"a"', kind=kind))
        for method, path in ROUTES:
            message = raw(target, method, concrete(path), "Content-Length: 0", kind="admin")
            check(target, everything(target.url, message), "admin")
    finally:
        for caller in slow:
            caller.reset()


BODIES = {
    "deep lists": b"[" * 40_000 + b"]" * 40_000,
    "deep objects": b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
    "deep in a field": ASK[:-1] + b',"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "deep hints": ASK[:-1] + b',"holdfast":' + b'{"tags":' * 9_000 + b"1" + b"}" * 9_000 + b"}",
    "a long number": ASK[:-1] + b',"x":' + b"9" * 90_000 + b"}",
    "lone surrogates": b'{"model":"\\ud800","messages":[{"role":"user","content":"\\udfff"}],"name":"\\ud800"}',
    "no UTF-8": b'{"model":"\xff\xfe\xfd"}',
    "NULs": b"\x00" * 1000,
    "right to left": '{"model":"\u202eecho","name":"\u202e","password":"\u0000"}'.encode(),
    "many keys": b"{" + b",".join([b'"%d":1' % n for n in range(9_000)]) + b"}",
    "the same key twice": b'{"model":"echo","model":"other","name":"a","name":"b","messages":[]}',
    "too large": b" " * 110_000,
}  # fmt: skip


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("body", BODIES)
def test_bodies_of_any_kind_are_answered(target, body, kind):
    sent = BODIES[body]
    for method, path in ROUTES:
        plain = raw(target, method, concrete(path), f"Content-Length: {len(sent)}", body=sent, kind=kind)
        chunks = raw(target, method, concrete(path), "Transfer-Encoding: chunked", kind=kind)
        for message in (plain, chunks + chunk(sent) + b"0\r\n\r\n"):
            responses = everything(target.url, message)
            assert responses
            check(target, responses, kind)


# --- all at once ------------------------------------------------------------------------------------------------------


def mutated(chance: random.Random, message: bytes, parts: list[bytes]) -> bytes:
    data = bytearray(message)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 8)]
            case 2:
                data[at:at] = chance.choice(parts)
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 30)]
            case _:
                data[at:at] = bytes([chance.randrange(256)])
        if not data:
            return message
    return bytes(data)


def test_two_thousand_broken_requests_open_nothing(target):
    chance = random.Random(20)
    parts = [b"\r\n", b"\r\n\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"%00", b"/../", b"?",
             b"Authorization: Bearer x\r\n", b"Cookie: holdfast_session=x\r\n", b"\xff", b"HTTP/1.0", b" "]  # fmt: skip
    for number in range(2000):
        method, path = ROUTES[number % len(ROUTES)]
        message = raw(target, method, concrete(path), f"Content-Length: {len(ASK)}", body=ASK)
        try:
            check(target, everything(target.url, mutated(chance, message, parts), patience=0.15), "none")
        except TimeoutError:
            continue  # it waits for the rest of what it was told will come, for a while
        except (AssertionError, ValueError, IndexError):
            raise AssertionError((number, message)) from None


def test_after_everything_nothing_was_kept(target):
    admin = f"Authorization: Bearer {target.tokens['admin']}"
    with Caller(target.url) as caller:
        page = caller.get("/metrics", admin).body.decode()
        assert caller.get("/readyz").json["status"] == "ready"
        calls: list[Any] = caller.get("/api/calls?limit=1000", admin).json["calls"]
        trail: list[Any] = caller.get("/api/audit?limit=1000", admin).json["entries"]
    refused = next(line for line in page.splitlines() if line.startswith("holdfast_refused_total") and "unauth" in line)
    assert int(refused.rpartition(" ")[2]) > 1000
    assert all(call["key"] is not None for call in calls)
    assert not [entry for entry in trail if entry["action"].startswith("sign_in")]
    mine = psutil.Process().net_connections("tcp")
    port = urlsplit(target.url).port
    assert len([one for one in mine if one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED]) < 60


# --- and without keys -------------------------------------------------------------------------------------------------


def test_without_keys_hostile_requests_are_answered_too(tmp_path):
    with served(tmp_path, roles=(), config=CONFIG + LIMITS) as (url, _):
        open = Target(url, dict.fromkeys(("app", "admin"), "hf_none"), frozenset())
        host = urlsplit(url).netloc
        for method, path in ROUTES:
            for trick in tricks(concrete(path).partition("?")[0], host):
                for response in everything(url, raw(open, method, trick, "Content-Length: 0")):
                    assert response.status in EXPECTED, (trick, response)
            for headers, body in FRAMINGS.values():
                filled = body.format(host="evil.example", admin="x").encode()
                for response in everything(url, raw(open, method, concrete(path), *headers, body=filled)):
                    assert response.status in EXPECTED
            for sent in BODIES.values():
                message = raw(open, method, concrete(path), f"Content-Length: {len(sent)}", body=sent)
                for response in everything(url, message):
                    assert response.status in EXPECTED
