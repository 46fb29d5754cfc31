import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.providers.decoding import Malformed, read


class Inner(msgspec.Struct):
    name: str


class Outer(msgspec.Struct):
    items: list[Inner]
    by_name: dict[str, int] = {}


OUTER = msgspec.json.Decoder(Outer)
ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def test_what_follows_the_format_is_decoded() -> None:
    assert read(OUTER, b'{"items": [{"name": "a"}]}') == Outer(items=[Inner(name="a")])


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        (b'{"items": [{"name": "a"}, {"name": 5}]}', "items[1].name", "Expected `str`, got `int`"),
        (b'{"items": [{}]}', "items[0].name", "Field required"),
        (b'{"items": [], "by_name": {"a": "b"}}', "by_name", "Expected `int`, got `str`"),
        (b"{}", "items", "Field required"),
        (b"5", "", "Expected `object`, got `int`"),
        (b'{"items": [{"name": "\xff"}]}', "", "The text is not valid UTF-8"),
    ],
)
def test_the_field_at_fault_is_named(data: bytes, path: str, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(OUTER, data)
    assert (caught.value.path, caught.value.message) == (path, message)
    assert str(caught.value) == (f"{path}: {message}" if path else message)


def test_a_place_within_a_piece_counts_from_where_the_piece_stands() -> None:
    with pytest.raises(Malformed, match=r"^tools\[2\]\.items\[0\]\.name: Field required$"):
        read(OUTER, b'{"items": [{}]}', "tools[2]")


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"1e999999x", b"\xff"])
def test_what_is_not_json_is_malformed_at_its_place(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        read(ANY, data, "input")
    assert caught.value.path == "input"


@given(st.binary(max_size=50))
def test_any_bytes_are_decoded_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        read(ANY, data)
