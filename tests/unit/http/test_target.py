"""Where a request goes and how it begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import BadRequest
from holdfast.http.target import resolve


def lines(url: str, *headers: tuple[bytes, bytes]) -> list[bytes]:
    return resolve("POST", url, headers).head.split(b"\r\n")


@pytest.mark.parametrize(
    ("url", "origin", "first", "host"),
    [
        ("http://a.test", ("http", "a.test", 80), b"POST / HTTP/1.1", b"host: a.test"),
        ("https://A.test:443/v1", ("https", "a.test", 443), b"POST /v1 HTTP/1.1", b"host: a.test"),
        ("https://a.test:8443/v1?q=1#f", ("https", "a.test", 8443), b"POST /v1?q=1 HTTP/1.1", b"host: a.test:8443"),
        ("http://a.test?q", ("http", "a.test", 80), b"POST /?q HTTP/1.1", b"host: a.test"),
        ("http://[::1]/", ("http", "::1", 80), b"POST / HTTP/1.1", b"host: [::1]"),
        ("http://[::1]:81/", ("http", "::1", 81), b"POST / HTTP/1.1", b"host: [::1]:81"),
        ("http://bücher.test/ä%20", ("http", "xn--bcher-kva.test", 80), b"POST /%C3%A4%20 HTTP/1.1", None),
    ],
)
def test_a_url_gives_the_origin_the_request_line_and_the_host(
    url: str, origin: tuple[str, str, int], first: bytes, host: bytes | None
) -> None:
    assert resolve("POST", url, ()).origin == origin
    assert lines(url)[0] == first
    assert lines(url)[1] == host or host is None


def test_the_callers_own_headers_take_the_place_of_ours() -> None:
    sent = lines("http://a.test/", (b"Host", b"b.test"), (b"User-Agent", b"x"), (b"accept-encoding", b"gzip"))
    assert sent == [b"POST / HTTP/1.1", b"Host: b.test", b"User-Agent: x", b"accept-encoding: gzip", b""]


def test_the_message_of_a_refusal_holds_no_value_of_a_header() -> None:
    with pytest.raises(BadRequest) as caught:
        resolve("POST", "http://a.test/", ((b"authorization", b"Bearer secret\n"),))
    assert "authorization" in caught.value.message
    assert "secret" not in caught.value.message


HEADERS = st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=3).map(tuple)


@given(st.sampled_from(["POST", "GET", "P T", ""]), st.text(max_size=12), st.text(max_size=12), HEADERS)
def test_whatever_is_asked_for_is_one_request_or_is_refused(
    method: str, host: str, path: str, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    try:
        target = resolve(method, f"http://{host}/{path}", headers)
    except BadRequest:
        return
    head = target.head.split(b"\r\n")
    assert len(head[0].split(b" ")) == 3
    assert all(line and not set(line) & set(b"\r\n\0") for line in head[:-1])
    kept = [name for name, _ in headers if name.lower() not in (b"content-length", b"connection", b"keep-alive")]
    added = {b"host", b"user-agent", b"accept-encoding"} - {name.lower() for name in kept}
    assert len(head) == 2 + len(kept) + len(added)
