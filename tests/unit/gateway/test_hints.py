"""What a caller may say of a call beside the request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import InvalidRequest
from holdfast.gateway.hints import NO_HINTS, Hints, read_hints, whose


def test_a_call_without_hints_has_none() -> None:
    assert read_hints({}, None) is NO_HINTS


def test_headers_say_whose_call_it_is_and_how_long_it_may_take() -> None:
    headers = {b"session": b"s1", b"subject": b"u7", b"deadline-ms": b"1500", b"tags": b"team=web, plan = pro"}
    assert read_hints(headers, None) == Hints(
        session="s1", subject="u7", deadline_ms=1500, tags={"team": "web", "plan": "pro"}
    )


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_name_beyond_ascii_is_the_same_in_a_header_as_in_the_body(encoding: str) -> None:
    assert read_hints({b"subject": "Zoë".encode(encoding)}, None) == read_hints({}, {"subject": "Zoë"})


def test_the_body_says_the_same_and_has_the_last_word() -> None:
    body = {"session": "body", "tags": {"a": "b"}, "variables": {"name": "Ada"}}
    assert read_hints({b"session": b"header", b"subject": b"u7"}, body) == Hints(
        session="body", subject="u7", tags={"a": "b"}, variables={"name": "Ada"}
    )


def test_how_a_call_is_treated_is_said_in_headers_or_in_the_body() -> None:
    treated = Hints(priority="batch", on_break="reset")
    assert read_hints({b"priority": b"batch", b"on-break": b" reset "}, None) == treated
    assert read_hints({b"priority": b"live"}, {"priority": "batch", "on_break": "reset"}) == treated
    assert (NO_HINTS.priority, NO_HINTS.on_break) == ("live", "fail")


def test_an_unknown_header_is_left_alone() -> None:
    assert read_hints({b"future": b"x"}, None) == NO_HINTS


@pytest.mark.parametrize(
    ("headers", "body", "param"),
    [
        ({b"deadline-ms": b"soon"}, None, "holdfast.deadline_ms"),
        ({b"deadline-ms": b"-5"}, None, "holdfast.deadline_ms"),
        ({b"deadline-ms": b"0"}, None, "holdfast.deadline_ms"),
        ({b"deadline-ms": b"9" * 5000}, None, "holdfast.deadline_ms"),
        ({b"tags": b"web"}, None, "x-holdfast-tags"),
        ({b"session": b""}, None, "holdfast.session"),
        ({b"session": b"x" * 300}, None, "holdfast.session"),
        ({b"priority": b"Live"}, None, "holdfast.priority"),
        ({b"on-break": b""}, None, "holdfast.on_break"),
        ({}, [], "holdfast"),
        ({}, {"sesion": "typo"}, "holdfast.sesion"),
        ({}, {"tags": {"a": 1}}, "holdfast.tags.a"),
        ({}, {"variables": {"a": None}}, "holdfast.variables.a"),
    ],
)
def test_a_wrong_hint_is_named(headers: dict[bytes, bytes], body: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_hints(headers, body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"tags": {"page": "help", "team": 7}}, "holdfast.tags.team: expected a text, got a number"),
        ({"tags": {"page": "x" * 300}}, "holdfast.tags.page: expected a text of length <= 256"),
        ({"tags": {"": "x"}}, "holdfast.tags.: expected a text of length >= 1"),
        ({"tags": "page=help"}, "holdfast.tags: expected an object, got a text"),
        ({"tags": {str(n): "x" for n in range(33)}}, "holdfast: Expected `object` of length <= 32 - at `$.tags`"),
        ({"tag": {"page": "help"}}, "holdfast.tag: there is no such hint (did you mean 'tags'?)"),
        ({"qqq": 1}, f"holdfast.qqq: there is no such hint (known are {', '.join(Hints.__struct_fields__)})"),
        ({"deadline_ms": "2s"}, 'holdfast.deadline_ms: expected milliseconds as a whole number, got "2s"'),
        ({"deadline_ms": 2.5}, "holdfast.deadline_ms: expected milliseconds as a whole number, got 2.5"),
        ({"deadline_ms": 0}, "holdfast.deadline_ms: expected a number >= 1"),
        ({"priority": "high"}, 'holdfast.priority: expected live or batch, got "high"'),
        ({"on_break": "restart"}, 'holdfast.on_break: expected fail or reset, got "restart"'),
        ({"priority": 3}, "holdfast.priority: expected a text, got a number"),
        ({"variables": {"a": None}}, "holdfast.variables.a: expected a text, got null"),
    ],
)
def test_what_is_wrong_with_a_hint_is_said_in_plain_words(body: object, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_hints({}, body)
    assert refused.value.message == message


NAMES = [b"session", b"subject", b"deadline-ms", b"tags", b"priority", b"on-break", b"x"]


@given(st.dictionaries(st.sampled_from(NAMES), st.binary()))
def test_whatever_the_headers_hold_they_are_hints_or_a_typed_error(headers: dict[bytes, bytes]) -> None:
    try:
        hints = read_hints(headers, None)
    except InvalidRequest:
        return
    assert isinstance(hints, Hints)


# --- of calls that can't be read --------------------------------------------------------------------------------------


def test_of_a_call_that_can_not_be_read_it_is_still_known_whose_it_is() -> None:
    assert whose({b"subject": b"u7", b"deadline-ms": b"soon"}, b"{") == Hints(subject="u7")
    body = b'{"model": 7, "holdfast": {"subject": "u8", "subjekt": 1}}'
    assert whose({b"subject": b"u7"}, body) == whose({}, body) == Hints(subject="u8")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"holdfast": 1}', b'{"holdfast": {"subject": 1}}', b"\xff{}"])
def test_a_call_of_which_that_can_not_be_told_is_nobodys(body: bytes) -> None:
    assert whose({}, body) is NO_HINTS
    assert whose({b"subject": b"u7"}, body) == Hints(subject="u7")


@given(st.binary())
def test_nothing_in_a_body_breaks_the_search_for_whose_it_is(body: bytes) -> None:
    whose({}, body)
    whose({b"subject": body}, b'{"holdfast": ' + b"[" * 10_000)
