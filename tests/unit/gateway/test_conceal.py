"""What no error may repeat."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import AuthenticationFailed
from holdfast.gateway.conceal import SHORTEST_SECRET, conceal
from holdfast.providers.base import Endpoint

KEY, TOKEN = "the-key-of-the-model", "the-key-of-the-model-and-more"


def model(**endpoint: Any) -> Any:
    there = Endpoint(model="m", base_url="https://host.example", **endpoint)
    return SimpleNamespace(upstream=SimpleNamespace(endpoint=there))


MODEL = model(api_key=KEY, headers=((b"x-team", TOKEN.encode()), (b"x-zone", b"eu")))


def concealed(message: str, param: str | None = None) -> AuthenticationFailed:
    error = AuthenticationFailed(message, param=param)
    conceal(error, MODEL)
    return error


def test_the_key_and_the_headers_that_we_add_are_in_no_part_of_an_error():
    error = concealed(f"no {KEY} and {TOKEN} here", param=f"header {TOKEN}")
    assert error.message == "no *** and *** here"
    assert error.param == "header ***"
    assert str(error) == error.message
    assert error.args == (error.message,)


def test_what_is_too_short_for_a_secret_may_be_said():
    assert concealed("the zone eu has no such model").message == "the zone eu has no such model"


def test_an_error_without_secrets_stays_as_it_is():
    assert concealed("Not now.").message == "Not now."
    assert concealed("Not now.").param is None


@given(st.text(max_size=30), st.integers(SHORTEST_SECRET, len(TOKEN)))
def test_no_part_of_a_secret_is_left_where_a_message_was_cut(before: str, size: int):
    said = concealed(before + TOKEN[:size]).message
    assert TOKEN[:SHORTEST_SECRET] not in said.removeprefix(before)


@pytest.mark.parametrize("headers", [(), ((b"x-empty", b""),)])
def test_a_model_without_secrets_says_what_it_likes(headers):
    error = AuthenticationFailed("anything", param="messages")
    conceal(error, model(headers=headers))
    assert (error.message, error.param) == ("anything", "messages")
