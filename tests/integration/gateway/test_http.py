"""The gateway's HTTP, byte by byte: what is served, what is refused and how, and what hanging up does."""

import contextlib
import json
import time
from collections.abc import Iterator

import psutil
import pytest

from acceptance.gateways import Gateway, running_gateway
from holdfast.providers.simulated import RunningSimulator, running_simulator
from integration.gateway.caller import Caller, chunk, head

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
CALLS = (CHAT, MESSAGES, "/v1/embeddings")
MAX_HEAD = 8 * 2**10
MAX_BODY = 100 * 2**10
CONFIG = """
[gateway]
{limits}

[log]
flush_ms = 10

[models.echo]
provider = "openai"
base_url = "{url}"

[models.steady]
provider = "openai"
name = "steady:words=30,tps=30"
base_url = "{url}"

[models.slow]
provider = "openai"
name = "slow:words=1000,tps=50"
base_url = "{url}"

[models.long]
provider = "openai"
name = "long:words=200000"
base_url = "{url}"

[models.silent]
provider = "openai"
name = "silent:stall=start"
base_url = "{url}"
"""


def ask(content: str = "ping", model: str = "echo", **more: object) -> bytes:
    """A body that every call takes."""
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": model, "messages": messages, "input": content, "max_tokens": 10**6, **more}).encode()


@pytest.fixture(scope="module")
def providers() -> Iterator[RunningSimulator]:
    with running_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(providers, tmp_path_factory) -> Iterator[Gateway]:
    """A gateway that takes as much as by default."""
    config = CONFIG.format(url=providers.url("openai"), limits="")
    with running_gateway(tmp_path_factory.mktemp("gateway"), config) as running:
        yield running
        assert "Traceback" not in running.stderr


@pytest.fixture(scope="module")
def small(providers, tmp_path_factory) -> Iterator[Gateway]:
    """A gateway with low limits."""
    limits = 'max_headers = "8KiB"\nmax_body = "100KiB"'
    config = CONFIG.format(url=providers.url("openai"), limits=limits)
    with running_gateway(tmp_path_factory.mktemp("small"), config) as running:
        yield running
        assert "Traceback" not in running.stderr


@pytest.fixture
def caller(gateway) -> Iterator[Caller]:
    with Caller(gateway.url) as caller:
        yield caller


@pytest.fixture
def limited(small) -> Iterator[Caller]:
    with Caller(small.url) as caller:
        yield caller


def refused(response, status: int, code: str | None = "invalid_request", path: str = CHAT) -> bool:
    """Whether a response is an error in the envelope of the path's wire, that names the call."""
    assert response.status == status, response
    assert response.headers["content-type"] == "application/json"
    envelope = response.json
    if path == MESSAGES:
        assert envelope["type"] == "error"
        return bool(envelope["error"]["message"] and envelope["request_id"])
    return envelope["error"]["code"] == code and bool(envelope["error"]["message"] and envelope["error"]["call"])


def memory(gateway: Gateway) -> int:
    return psutil.Process(gateway.process.pid).memory_info().rss


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CALLS)
def test_a_chunked_body_is_read(caller, path):
    body = ask("one two")
    pieces = [chunk(body[at : at + 7]) for at in range(0, len(body), 7)]
    caller.send(caller.chunked(path), *pieces, b"0\r\n\r\n")
    assert caller.response().status == 200


def test_a_chunked_body_may_have_extensions_and_trailers(caller):
    body = ask()
    caller.send(caller.chunked(CHAT), b"%X;name=value\r\n%s\r\n0\r\nx-holdfast-session: t\r\n\r\n" % (len(body), body))
    answer = caller.response()
    assert answer.status == 200
    assert caller.get("/healthz").status == 200


def test_a_trailer_is_no_header(gateway, caller):
    body = ask()
    caller.send(caller.chunked(CHAT), chunk(body), b"0\r\nx-holdfast-session: smuggled\r\n\r\n")
    call = gateway.call(caller.response().headers["x-holdfast-call"])
    assert call["session"] is None


def test_a_body_that_trickles_is_read(caller):
    request = caller.request(CHAT, ask())
    caller.send(*[request[at : at + 3] for at in range(0, len(request), 3)])
    assert caller.response().status == 200


@pytest.mark.parametrize("path", CALLS)
def test_a_body_of_exactly_the_limit_is_read(limited, path):
    body = ask()
    body = body[:-1] + b" " * (MAX_BODY - len(body)) + b"}"
    assert limited.post(path, body).status == 200


@pytest.mark.parametrize("path", CALLS)
def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(limited, path):
    limited.send(head(f"POST {path} HTTP/1.1", f"Host: {limited.host}", f"Content-Length: {MAX_BODY + 1}"))
    assert refused(limited.response(), 413, "body_too_large", path)


@pytest.mark.parametrize("path", CALLS)
def test_who_sends_a_large_body_to_its_end_still_reads_that_it_is_too_large(limited, path):
    assert refused(limited.post(path, b" " * (4 * MAX_BODY)), 413, "body_too_large", path)


def test_a_length_beyond_any_number_is_refused(limited):
    limited.send(head(f"POST {CHAT} HTTP/1.1", f"Host: {limited.host}", "Content-Length: " + "9" * 30))
    assert limited.response().status in (400, 413)


@pytest.mark.parametrize("path", CALLS)
def test_a_chunked_body_that_never_ends_is_refused_at_the_limit(small, limited, path):
    limited.send(limited.chunked(path), *[chunk(b" " * 10_000)] * 11)
    assert refused(limited.response(), 413, "body_too_large", path)


@pytest.mark.parametrize("path", CALLS)
def test_a_chunked_body_that_came_at_once_is_refused_beyond_the_limit(limited, path):
    limited.send(limited.chunked(path) + chunk(b" " * (MAX_BODY + 1)) + b"0\r\n\r\n")
    assert refused(limited.response(), 413, "body_too_large", path)


def test_memory_stays_bounded_while_a_body_never_ends(small, limited):
    before = memory(small)
    limited.send(limited.chunked(CHAT))
    with contextlib.suppress(OSError):  # it is cut off
        limited.send(*[chunk(b" " * 16_384)] * 4000)
    assert memory(small) - before < 10 * 2**20


def test_memory_stays_bounded_while_trailers_never_end(small, limited):
    before = memory(small)
    limited.send(limited.chunked(CHAT), chunk(ask()), b"0\r\n")
    trailer = b"x-trailer: " + b"t" * 8000 + b"\r\n"
    with contextlib.suppress(OSError):
        limited.send(*[trailer] * 4000)
    assert memory(small) - before < 10 * 2**20


def test_a_body_of_32_mb_is_read_and_one_byte_more_is_not(gateway):
    body = ask("x" * 2**20)[:-1]
    body += b" " * (32 * 2**20 - len(body) - 1) + b"}"
    with Caller(gateway.url) as caller:
        assert caller.post(CHAT, body).status == 200
        assert caller.post(CHAT, body + b" ").status == 413


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b'\xef\xbb\xbf{"model":"echo"}', "a byte order mark"),
        (b'{"model":"\xff"}', "not UTF-8"),
        (b'{"model":NaN}', "not a number"),
        (b"[" * 200_000, "a deep nest"),
        (b"", "nothing"),
    ],
)
@pytest.mark.parametrize("path", CALLS)
def test_what_is_no_json_is_refused_and_the_connection_goes_on(caller, path, sent, why):
    assert refused(caller.post(path, sent), 400, path=path)
    assert caller.get("/healthz").status == 200


@pytest.mark.parametrize("path", CALLS)
def test_of_a_key_that_stands_twice_the_last_counts(caller, path):
    assert caller.post(path, b'{"model":"nothing",' + ask()[1:]).status == 200


@pytest.mark.parametrize("broken", [b"x\r\n", b"-1\r\n", b"5\r\nabc", b"5\r\nabcdefgh\r\n", b"fffffffffffffffff\r\n"])
def test_a_broken_chunk_is_refused_and_reaches_no_model(gateway, caller, providers, broken):
    providers.forget()
    caller.send(caller.chunked(CHAT), chunk(ask()), broken)
    if broken == b"5\r\nabc":  # it is not broken until it ends
        caller.half_close()
        assert caller.closed()
    else:
        assert refused(caller.response(), 400)
    assert providers.requests == []


# --- heads ------------------------------------------------------------------------------------------------------------


def test_a_head_within_the_limit_is_read_however_it_comes(limited):
    padding = "x" * (MAX_HEAD - 600)
    request = head("GET /healthz HTTP/1.1", f"Host: {limited.host}", f"X-Padding: {padding}")
    limited.send(*[request[at : at + 500] for at in range(0, len(request), 500)])
    assert limited.response().status == 200


@pytest.mark.parametrize("path", ["/healthz", *CALLS])
def test_a_head_beyond_the_limit_is_refused(limited, path):
    body = ask()
    padding = f"X-Padding: {'x' * MAX_HEAD}"
    if path == "/healthz":
        assert refused(limited.get(path, padding), 431, "headers_too_large")
    else:
        assert refused(limited.post(path, body, padding), 431, "headers_too_large", path)


@pytest.mark.parametrize("kind", ["one header", "many headers", "the target"])
def test_a_head_that_never_ends_is_refused_at_the_limit(small, limited, kind):
    before = memory(small)
    start = {"one header": "GET / HTTP/1.1\r\nx: ", "many headers": "GET / HTTP/1.1\r\n", "the target": "GET /"}[kind]
    more = {"one header": b"x" * 1000, "many headers": b"name: value\r\n" * 80, "the target": b"x" * 1000}[kind]
    limited.send(start.encode(), *[more] * (MAX_HEAD // 900))
    assert refused(limited.response(), 431, "headers_too_large")
    assert limited.closed()
    assert memory(small) - before < 10 * 2**20


@pytest.mark.parametrize(
    "request_",
    [
        "GET\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nna me: value\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nname : value\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nname: va\x00lue\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nn\x80me: value\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nname: one\r\n two\r\n\r\n",
        "GET /healthz HTTP/1.1\nHost: localhost\n\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nname: one\rtwo: three\r\n\r\n",
        "get /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /he althz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "BREW /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2, 2\r\n\r\n{}",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\n{}",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: -2\r\n\r\n{}",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x2\r\n\r\n{}",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length:\r\n\r\n{}",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=repr,
)
def test_what_is_no_http_or_could_be_read_in_two_ways_is_refused(caller, request_):
    caller.send(request_.encode("latin-1"))
    response = caller.response()
    path = MESSAGES if "Host" in request_ and request_.startswith("POST") and "error" not in response.json else CHAT
    assert refused(response, 400, path=path)
    assert response.headers.get("connection") == "close"
    assert caller.closed()


@pytest.mark.parametrize("hosts", [(), ("Host: localhost", "Host: localhost")])
@pytest.mark.parametrize("path", ["/healthz", *CALLS])
def test_a_request_has_one_host(caller, hosts, path):
    body = ask()
    method = "GET" if path == "/healthz" else "POST"
    caller.send(head(f"{method} {path} HTTP/1.1", *hosts, f"Content-Length: {len(body)}") + body)
    assert refused(caller.response(), 400, path=path)


def test_a_request_that_is_smuggled_behind_another_is_not_answered(gateway, caller, providers):
    providers.forget()
    inner = caller.request(CHAT, ask("smuggled"))
    caller.send(
        head(f"POST {CHAT} HTTP/1.1", f"Host: {caller.host}", "Content-Length: 4", "Transfer-Encoding: chunked"),
        b"0\r\n\r\n" + inner,
    )
    assert refused(caller.response(), 400)
    assert caller.closed()
    assert providers.requests == []


def test_garbage_after_a_request_does_not_cost_its_answer(caller):
    caller.send(caller.request(CHAT, ask()) + b"garbage\r\n\r\n")
    assert caller.response().status == 200
    assert caller.closed()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "192.0.2.1", "[::", ""])
@pytest.mark.parametrize("path", ["/healthz", *CALLS])
def test_a_foreign_host_is_refused(caller, host, path):
    body = ask()
    method = "GET" if path == "/healthz" else "POST"
    caller.send(head(f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}") + body)
    assert refused(caller.response(), 403, "not_allowed", path)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:8080"])
def test_every_name_of_this_machine_is_served(caller, host):
    caller.send(head("GET /healthz HTTP/1.1", f"Host: {host}"))
    assert caller.response().status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://", "x"])
@pytest.mark.parametrize("path", CALLS)
def test_web_pages_elsewhere_are_refused(caller, origin, path):
    assert refused(caller.post(path, ask(), f"Origin: {origin}"), 403, "not_allowed", path)


def test_web_pages_of_this_machine_are_served(caller):
    assert caller.post(CHAT, ask(), "Origin: http://localhost:3000").status == 200


# --- methods and paths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/v1/models", "/openapi.json", "/api/calls"])
def test_head_has_the_headers_of_get_and_no_body(caller, path):
    whole = caller.get(path)
    bare = caller.get(path, method="HEAD")
    assert bare.status == whole.status == 200
    assert bare.headers["content-type"] == whole.headers["content-type"]
    assert path in ("/metrics", "/api/calls") or bare.headers["content-length"] == str(len(whole.body))
    assert caller.get("/healthz").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", CALLS)
def test_calls_take_nothing_but_post(caller, method, path):
    response = caller.get(path, method=method)
    assert response.status == 405
    assert response.headers["allow"] == "POST"
    assert method == "HEAD" or refused(response, 405, "method_not_allowed", path)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/v1/models/echo", "/api/calls"])
def test_pages_take_nothing_but_get(caller, method, path):
    response = caller.get(path, method=method)
    assert refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/nothing",
            "/v1",
            "/v1/",
            "/v1/chat",
            "/v1/chat/completions/",
            "//",
            "/healthz/",
            "/..",
            "/%00",
            "/%",
            "/%FF",
        ),
        *("/v1/models/", "/v1/models/none", "/api/calls/none", "/v1/models/../models", "/HEALTHZ", "/v1//models", "/ü"),
    ],
)
def test_where_there_is_nothing_is_a_404(caller, path):
    response = caller.get(path)
    assert response.status == 404 or (path == "/ü" and response.status == 400)
    assert response.json["error"]["code"] in ("not_found", "model_not_found", "invalid_request")


def test_a_path_may_be_percent_encoded(caller):
    assert caller.get("/%68ealthz").status == 200
    assert caller.get("/v1/models/%65cho").json["id"] == "echo"


@pytest.mark.parametrize(
    "target", ["/healthz?", "/healthz?a=b#c", "http://localhost/healthz", "HTTP://LOCALHOST/healthz"]
)
def test_a_target_may_have_any_form(caller, target):
    assert caller.get(target).status == 200


@pytest.mark.parametrize("target", ["*", "http://localhost", "localhost:80"])
def test_other_targets_get_an_answer_too(caller, target):
    response = caller.get(target, method="OPTIONS")
    assert 400 <= response.status < 500
    assert response.json["error"]["message"]


def test_connect_is_no_tunnel(caller):
    response = caller.get("evil.example:443", method="CONNECT")
    assert 400 <= response.status < 500
    assert caller.closed()


# --- connections ------------------------------------------------------------------------------------------------------


def test_one_connection_serves_many_requests(caller):
    for number in range(20):
        answer = caller.post(CHAT, ask(f"number {number}"))
        assert answer.json["choices"][0]["message"]["content"] == f"number {number}"


def test_pipelined_requests_are_answered_in_order(caller):
    caller.send(b"".join([caller.request(CHAT, ask(f"number {number}")) for number in range(50)]))
    for number in range(50):
        assert caller.response().json["choices"][0]["message"]["content"] == f"number {number}"


def test_pipelined_pages_and_streams_are_answered_in_order(caller):
    page = head("GET /healthz HTTP/1.1", f"Host: {caller.host}")
    caller.send(caller.request(CHAT, ask("a b c", stream=True)) + page + caller.request(CHAT, b"{") + page)
    assert caller.response().body.endswith(b"data: [DONE]\n\n")
    assert caller.response().json == {"status": "ok"}
    assert caller.response().status == 400
    assert caller.response().json == {"status": "ok"}


@pytest.mark.parametrize("cut", range(1, 45, 4))
def test_requests_may_be_cut_anywhere_while_they_are_pipelined(limited, cut):
    page = head("GET /healthz HTTP/1.1", "Host: localhost")
    limited.send(page * 500 + page[:cut], page[cut:])  # more than a head may have
    for _ in range(501):
        assert limited.response().status == 200


def test_thousands_of_pipelined_requests_cost_no_memory(gateway):
    before = memory(gateway)
    page = head("GET /healthz HTTP/1.1", "Host: localhost")
    with Caller(gateway.url) as caller:
        for _ in range(20):
            caller.send(page * 200)
            for _ in range(200):
                assert caller.response().status == 200
    assert memory(gateway) - before < 10 * 2**20


def test_the_connection_is_closed_when_the_caller_says_so(caller):
    answer = caller.post(CHAT, ask(), "Connection: close")
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    assert caller.closed()


def test_http_1_0_is_answered_and_closed(caller):
    body = ask()
    caller.send(head(f"POST {CHAT} HTTP/1.0", f"Content-Length: {len(body)}") + body)
    answer = caller.response()
    assert (answer.status, "content-length" in answer.headers) == (200, True)
    assert caller.closed()


def test_http_1_0_streams_end_with_the_connection(caller):
    body = ask("a b c", stream=True)
    caller.send(head(f"POST {CHAT} HTTP/1.0", f"Content-Length: {len(body)}") + body)
    answer = caller.response()
    assert "transfer-encoding" not in answer.headers
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_who_expects_100_continue_gets_it(caller):
    body = ask()
    caller.send(caller.request(CHAT, body, "Expect: 100-continue").removesuffix(body))
    assert caller.head() == (100, {})
    caller.send(body)
    assert caller.response().status == 200


def test_who_expects_100_continue_for_too_much_is_refused_instead(limited):
    headers = (f"Host: {limited.host}", f"Content-Length: {MAX_BODY * 2}", "Expect: 100-continue")
    limited.send(head(f"POST {CHAT} HTTP/1.1", *headers))
    assert refused(limited.response(), 413, "body_too_large")


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_an_upgrade_is_declined_and_the_request_answered(caller, upgrade):
    """The JDK's client wishes for h2c with every first request."""
    assert caller.post(CHAT, ask("one"), f"Upgrade: {upgrade}", *UPGRADE).status == 200
    body = ask("two")
    caller.send(caller.chunked(CHAT, f"Upgrade: {upgrade}", *UPGRADE), chunk(body[:9]), chunk(body[9:]), b"0\r\n\r\n")
    assert caller.response().json["choices"][0]["message"]["content"] == "two"


def test_any_number_of_upgrades_may_be_wished_for_at_once(caller):
    wish = head("GET /healthz HTTP/1.1", f"Host: {caller.host}", "Upgrade: h2c", *UPGRADE)
    caller.send(wish * 1500)
    for _ in range(1500):
        assert caller.response().status == 200


# --- hanging up -------------------------------------------------------------------------------------------------------


def leave(caller: Caller, how: str) -> None:
    {"close": caller.__exit__, "reset": caller.reset, "half-close": caller.half_close}[how]()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("model", ["silent", "slow"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_hangs_up_cancels_the_upstream_call_at_once(gateway, providers, how, model, stream):
    providers.forget()
    session = f"{how} {model} {stream}"
    with Caller(gateway.url) as caller:
        caller.send(caller.request(CHAT, ask(model=model, stream=stream), f"x-holdfast-session: {session}"))
        providers.wait_for(lambda record: record.headers_at is not None or record.fate == "held")
        left = time.monotonic()
        leave(caller, how)
        providers.wait_for(lambda record: record.hung_up_at is not None)
        assert time.monotonic() - left < 3
    call = gateway.calls(session=session)[0]
    assert (call["outcome"], call["error"]) == ("cancelled", "cancelled")


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_a_caller_who_hangs_up_in_the_middle_of_the_body_reaches_no_model(gateway, providers, how):
    providers.forget()
    with Caller(gateway.url) as caller:
        caller.send(caller.request(CHAT, ask("x" * 1000))[:-500])
        leave(caller, how)
    with Caller(gateway.url) as caller:
        assert caller.get("/healthz").status == 200
    assert providers.requests == []


def test_a_caller_who_does_not_read_holds_back_the_model_and_not_the_memory(gateway, providers):
    providers.forget()
    before = memory(gateway)
    with Caller(gateway.url, receive_buffer=4096) as caller:
        caller.send(caller.request(CHAT, ask(model="long", stream=True)))
        caller.head()
        record = providers.wait_for(lambda record: record.tokens > 1000)
        written = -1
        while written != record.bytes:  # until nothing moves
            written = record.bytes
            time.sleep(0.2)
        assert record.fate == "pending"
        assert memory(gateway) - before < 20 * 2**20
    providers.wait_for(lambda record: record.hung_up_at is not None)


def test_after_everything_the_gateway_answers_as_before(gateway, caller):
    assert caller.post(CHAT, ask("still here")).json["choices"][0]["message"]["content"] == "still here"
    assert psutil.Process(gateway.process.pid).num_fds() < 100
