import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.providers.retry_after import retry_after

NOW, LATER = b"Sat, 21 Nov 2026 12:00:00 GMT", b"Sat, 21 Nov 2026 12:00:30 GMT"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({b"retry-after": b"7"}, 7),
        ({b"retry-after": b"0.5"}, 0.5),
        ({b"retry-after-ms": b"250", b"retry-after": b"9"}, 0.25),
        ({b"retry-after-ms": b"soon", b"retry-after": b"9"}, 9),
        ({b"retry-after": LATER, b"date": NOW}, 30),
        ({b"retry-after": NOW, b"date": LATER}, 0),
        ({b"retry-after": LATER}, None),
        ({b"retry-after": LATER, b"date": b"today"}, None),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"1e999"}, None),
        ({b"retry-after": b""}, None),
        ({}, None),
    ],
)
def test_the_wait_is_in_seconds_by_the_providers_clock(headers: dict[bytes, bytes], wait: float | None) -> None:
    assert retry_after(tuple(headers.items())) == wait


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_header_gives_a_wait_or_none(after: bytes, date: bytes) -> None:
    wait = retry_after(((b"retry-after", after), (b"date", date)))
    assert wait is None or 0 <= wait < 1e12
