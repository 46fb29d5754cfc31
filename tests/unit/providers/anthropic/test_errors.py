"""Responses that are not 2xx, translated into the error tree."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    ProviderFailed,
    RateLimited,
)
from holdfast.http.base import Headers
from holdfast.providers.anthropic import AnthropicUpstream
from holdfast.providers.base import Endpoint

KEY = "key-of-the-house"
UPSTREAM = AnthropicUpstream(Endpoint(model="claude-x", base_url="https://api.anthropic.com", api_key=KEY))


def error(status: int, type: str = "", message: str = "", headers: Headers = ()) -> ProviderError:
    body = {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_1"}
    return UPSTREAM.error(status, headers, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "type", "message", "expected"),
    [
        (400, "invalid_request_error", "messages.0.content: Field required", BadRequest),
        (400, "invalid_request_error", "`temperature` is deprecated for this model.", BadRequest),
        (400, "invalid_request_error", "prompt is too long: 214210 tokens > 200000 maximum", ContextTooLong),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            ContextTooLong,
        ),
        (400, "invalid_request_error", "Output blocked by content filtering policy", ContentRefused),
        (400, "invalid_request_error", "Your credit balance is too low to access the API.", AuthenticationFailed),
        (400, "invalid_request_error", "You have reached your specified API usage limits.", AuthenticationFailed),
        (401, "authentication_error", "invalid x-api-key", AuthenticationFailed),
        (402, "billing_error", "Payment required", AuthenticationFailed),
        (403, "permission_error", "Not permitted", AuthenticationFailed),
        (404, "not_found_error", "model: claude-x", ModelUnavailable),
        (404, "not_found_error", "File not found: file_1", BadRequest),
        (408, "timeout_error", "", ProviderFailed),
        (409, "conflict_error", "", ProviderFailed),
        (413, "request_too_large", "Request exceeds the maximum size", ContextTooLong),
        (422, "invalid_request_error", "no", BadRequest),
        (429, "rate_limit_error", "Too many requests", RateLimited),
        (500, "api_error", "Internal server error", ProviderFailed),
        (502, "", "", ProviderFailed),
        (503, "", "", Overloaded),
        (504, "timeout_error", "Timed out", ProviderFailed),
        (529, "overloaded_error", "Overloaded", Overloaded),
        (500, "overloaded_error", "Overloaded", Overloaded),
        (307, "", "", ModelUnavailable),
    ],
)
def test_each_response_has_its_error(status: int, type: str, message: str, expected: type[ProviderError]) -> None:
    got = error(status, type, message)
    assert got.__class__ is expected
    assert got.provider_status == status
    assert message in got.message


def test_a_bad_request_names_the_field_at_fault() -> None:
    assert error(400, "invalid_request_error", "messages.0.content: Field required").param == "messages.0.content"
    assert error(400, "invalid_request_error", "Nothing in particular").param is None


def test_a_model_that_the_provider_does_not_know_is_our_fault_and_said_clearly() -> None:
    got = error(404, "not_found_error", "model: claude-x")
    assert not got.callers_fault
    assert got.message == "The provider does not serve the model 'claude-x' at this address: model: claude-x"


@pytest.mark.parametrize("status", [429, 529])
def test_retry_after_is_taken(status: int) -> None:
    assert error(status, headers=((b"retry-after", b"12"),)).retry_after == 12.0
    assert error(status, headers=((b"retry-after", b"0.5"),)).retry_after == 0.5


def test_a_date_to_retry_after_is_compared_with_the_providers_clock() -> None:
    date, later = b"Sat, 21 Nov 2026 12:00:00 GMT", b"Sat, 21 Nov 2026 12:00:30 GMT"
    assert error(429, headers=((b"date", date), (b"retry-after", later))).retry_after == 30.0
    assert error(429, headers=((b"date", later), (b"retry-after", date))).retry_after == 0.0
    assert error(429, headers=((b"retry-after", later),)).retry_after is None


def test_without_retry_after_the_last_exhausted_limit_says_when() -> None:
    headers = (
        (b"date", b"Sat, 21 Nov 2026 12:00:00 GMT"),
        (b"anthropic-ratelimit-requests-remaining", b"0"),
        (b"anthropic-ratelimit-requests-reset", b"2026-11-21T12:00:20Z"),
        (b"anthropic-ratelimit-input-tokens-remaining", b"0"),
        (b"anthropic-ratelimit-input-tokens-reset", b"2026-11-21T12:00:40Z"),
        (b"anthropic-ratelimit-output-tokens-remaining", b"900"),
        (b"anthropic-ratelimit-output-tokens-reset", b"2026-11-21T12:01:40Z"),
    )
    assert error(429, headers=headers).retry_after == 40.0


@pytest.mark.parametrize("value", [b"", b"soon", b"-5", b"\xff", b"1e999", b"nan"])
def test_a_retry_after_that_means_nothing_is_ignored(value: bytes) -> None:
    assert error(429, headers=((b"retry-after", value),)).retry_after is None


def test_errors_that_do_not_pass_by_waiting_have_no_retry_after() -> None:
    assert error(400, headers=((b"retry-after", b"12"),)).retry_after is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"error":"x"}',
        b'{"error":{"type":7}}',
    ],
)
def test_bodies_that_are_no_envelope_leave_the_status(body: bytes) -> None:
    got = UPSTREAM.error(502, (), body)
    assert got.__class__ is ProviderFailed
    assert got.message == "The provider answered with status 502."


def test_a_page_is_shown_without_its_markup() -> None:
    assert UPSTREAM.error(502, (), b"<html><body>502  Bad Gateway</body></html>").message == "502 Bad Gateway"


def test_a_plain_line_is_shown() -> None:
    assert UPSTREAM.error(503, (), b"upstream connect error\n").message == "upstream connect error"


@pytest.mark.parametrize("secret", [KEY, "sk-ant-api03-abcDEF123_-xyz", "Bearer abcdefghijk.123"])
def test_keys_are_masked(secret: str) -> None:
    message = error(401, "authentication_error", f"The key {secret} is not valid").message
    assert secret.removeprefix("Bearer ") not in message
    assert "***" in message


def test_long_messages_are_cut() -> None:
    assert len(error(500, "api_error", "x" * 10_000).message) == 1000


@given(st.integers(300, 599), st.binary(max_size=100))
def test_any_response_is_translated(status: int, body: bytes) -> None:
    got = UPSTREAM.error(status, ((b"retry-after", body), (b"date", body)), body)
    assert isinstance(got, ProviderError)
    assert got.message
