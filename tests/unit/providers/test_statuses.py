import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import (
    AuthenticationFailed,
    BadRequest,
    ContextTooLong,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    ProviderFailed,
    RateLimited,
)
from holdfast.providers.anthropic import AnthropicUpstream
from holdfast.providers.base import Endpoint
from holdfast.providers.google import GoogleUpstream
from holdfast.providers.openai import OpenAIUpstream
from holdfast.providers.statuses import error_class

ENDPOINT = Endpoint(model="m", base_url="https://host.example/v1")
UPSTREAMS = [OpenAIUpstream(ENDPOINT), AnthropicUpstream(ENDPOINT), GoogleUpstream(ENDPOINT)]


@pytest.mark.parametrize("body", [b"", b"<html><h1>Go away</h1></html>"])
@pytest.mark.parametrize("status", range(300, 600))
def test_a_status_means_the_same_on_every_wire(status: int, body: bytes) -> None:
    errors = [upstream.error(status, (), body) for upstream in UPSTREAMS]
    assert [type(error) for error in errors] == [error_class(status)] * 3
    assert len({error.message for error in errors if not isinstance(error, ModelUnavailable)}) <= 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ModelUnavailable),
        (308, ModelUnavailable),
        (400, BadRequest),
        (401, AuthenticationFailed),
        (402, AuthenticationFailed),
        (403, AuthenticationFailed),
        (404, ModelUnavailable),
        (405, ModelUnavailable),
        (408, ProviderFailed),
        (409, ProviderFailed),
        (410, ModelUnavailable),
        (413, ContextTooLong),
        (418, BadRequest),
        (422, BadRequest),
        (429, RateLimited),
        (498, Overloaded),
        (500, ProviderFailed),
        (502, ProviderFailed),
        (503, Overloaded),
        (504, ProviderFailed),
        (520, ProviderFailed),
        (529, Overloaded),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[ProviderError]) -> None:
    assert error_class(status) is kind


def test_a_word_says_more_than_a_bare_400_or_500_and_less_than_any_other_status() -> None:
    assert error_class(500, 529) is Overloaded
    assert error_class(400, 404) is ModelUnavailable
    assert error_class(429, 401) is RateLimited
    assert error_class(500, 400) is ProviderFailed


@pytest.mark.parametrize("status", [None, 0, 7, 200, 600, -1])
def test_what_is_no_status_of_a_failure_counts_for_nothing(status: int | None) -> None:
    assert error_class(status) is ProviderFailed
    assert error_class(status, 429) is RateLimited


@pytest.mark.parametrize(
    "message",
    [
        "Your credit balance is too low to access the API.",
        "You have reached your specified API usage limits.",
        "Insufficient Balance",
        "Your prepayment credits are depleted.",
        "Your team has used all available credits or reached its monthly spending limit.",
        "Billing hard limit has been reached",
        "Your account is not active, please check your billing details on our website.",
    ],
)
@pytest.mark.parametrize("status", [400, 412, 429])
def test_an_account_that_is_used_up_is_told_by_the_message(status: int, message: str) -> None:
    assert error_class(status, message=message) is AuthenticationFailed


@pytest.mark.parametrize(
    "message",
    [
        "Rate limit reached. Please add a payment method: https://platform.openai.com/account/billing",
        "You exceeded your current quota, please check your plan and billing details. Please retry in 26s.",
    ],
)
def test_a_rate_limit_that_mentions_billing_is_still_a_rate_limit(message: str) -> None:
    assert error_class(429, message=message) is RateLimited


@given(st.lists(st.integers() | st.none(), max_size=3), st.text())
def test_there_is_an_error_for_anything(statuses: list[int | None], message: str) -> None:
    assert issubclass(error_class(*statuses, message=message), ProviderError)
