"""The values that pass through a transport."""

from holdfast.http.base import HttpRequest


def test_the_repr_of_a_request_shows_neither_its_key_nor_its_body() -> None:
    request = HttpRequest("POST", "https://host/v1", ((b"authorization", b"Bearer secret"),), b"private")
    assert repr(request) == "HttpRequest(POST https://host/v1, 7 bytes)"
