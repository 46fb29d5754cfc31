"""Errors of the Gemini API as it sends them, and ours in its words."""

from typing import Any

import msgspec
import pytest

from holdfast.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    ModelUnavailable,
    NotAllowed,
    Overloaded,
    PriceUnknown,
    ProviderError,
    ProviderFailed,
    RateLimited,
    Unauthenticated,
)
from holdfast.http.base import Headers
from holdfast.providers.base import Endpoint
from holdfast.providers.google import GoogleSurface, GoogleUpstream

KEY = "AIzaSyD-secret_0123456789"
RPC = "type.googleapis.com/google.rpc."


def error(status: int, body: Any, headers: Headers = ()) -> ProviderError:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    endpoint = Endpoint(model="gemini-9", base_url="https://host.example", api_key=KEY)
    return GoogleUpstream(endpoint).error(status, headers, data)


def envelope(code: int, status: str, message: str, *details: Any) -> Any:
    return {"error": {"code": code, "message": message, "status": status} | ({"details": details} if details else {})}


@pytest.mark.parametrize(
    ("code", "status", "message", "kind"),
    [
        (400, "INVALID_ARGUMENT", "Invalid JSON payload received.", BadRequest),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (3475108) exceeds the maximum number of tokens allowed (1048576).",
            ContextTooLong,
        ),
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", AuthenticationFailed),
        (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", AuthenticationFailed),
        (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", AuthenticationFailed),
        (400, "FAILED_PRECONDITION", "Please enable billing on project 1.", AuthenticationFailed),
        (400, "FAILED_PRECONDITION", "The File x is not in an ACTIVE state and usage is not allowed.", BadRequest),
        (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", AuthenticationFailed),
        (403, "PERMISSION_DENIED", "Your API key was reported as leaked.", AuthenticationFailed),
        (403, "PERMISSION_DENIED", "You do not have permission to access the File x or it may not exist.", BadRequest),
        (404, "NOT_FOUND", "models/gemini-9 is not found for API version v1beta.", ModelUnavailable),
        (413, "INVALID_ARGUMENT", "Request payload size exceeds the limit.", ContextTooLong),
        (
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing.",
            RateLimited,
        ),
        (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", AuthenticationFailed),
        (499, "CANCELLED", "The operation was cancelled.", ProviderFailed),
        (500, "INTERNAL", "An internal error has occurred.", ProviderFailed),
        (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", Overloaded),
        (504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.", ProviderFailed),
        (418, "", "What is this?", BadRequest),
        (500, "INVALID_ARGUMENT", "Contradiction.", ProviderFailed),
    ],
)
def test_an_error_becomes_one_of_ours_with_the_providers_words(
    code: int, status: str, message: str, kind: type[ProviderError]
) -> None:
    for body in (envelope(code, status, message), [envelope(code, status, message)]):
        translated = error(code, body)
        assert type(translated) is kind
        assert message in translated.message
        assert translated.provider_status == code


def test_a_key_that_is_not_valid_is_told_by_its_reason_too() -> None:
    info = {"@type": RPC + "ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
    assert type(error(400, envelope(400, "INVALID_ARGUMENT", "No.", info))) is AuthenticationFailed


def test_a_model_that_does_not_exist_is_named() -> None:
    told = error(404, envelope(404, "NOT_FOUND", "Not here."))
    assert told.message == "The provider does not serve the model 'gemini-9' at this address: Not here."


@pytest.mark.parametrize(
    ("details", "headers", "seconds"),
    [
        ([{"@type": RPC + "RetryInfo", "retryDelay": "26s"}], (), 26.0),
        ([{"@type": RPC + "Help"}, {"@type": RPC + "RetryInfo", "retryDelay": "3.98361248s"}], (), 3.98361248),
        ([], ((b"retry-after", b"7"),), 7.0),
        ([{"@type": RPC + "RetryInfo", "retryDelay": 5}], (), None),
        ([{"@type": RPC + "RetryInfo", "retryDelay": "soon"}, 4, None], ((b"retry-after", b"later"),), None),
    ],
)
def test_a_rate_limit_says_when_to_come_back(details: Any, headers: Headers, seconds: float | None) -> None:
    told = error(429, envelope(429, "RESOURCE_EXHAUSTED", "Quota.", *details), headers)
    assert told.retry_after == seconds


def test_the_field_at_fault_is_named() -> None:
    violations = {"@type": RPC + "BadRequest", "fieldViolations": [{"field": "contents[0]", "description": "No."}]}
    assert error(400, envelope(400, "INVALID_ARGUMENT", "Bad.", violations)).param == "contents[0]"
    told = error(400, envelope(400, "INVALID_ARGUMENT", "Invalid value at 'generation_config.top_k' (TYPE_INT32)"))
    assert told.param == "generation_config.top_k"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The provider answered with status 502."),
        (b"<html><body>Bad Gateway</body></html>", "Bad Gateway"),
        (b"upstream connect error", "upstream connect error"),
        (b"[]", "The provider answered with status 502."),
        (b"{", "The provider answered with status 502."),
        (b"null", "The provider answered with status 502."),
        (b'{"error": "a sentence"}', "a sentence"),
        (
            b'{"error": {"message": 1, "code": "x", "status": [], "details": {}}}',
            "The provider answered with status 502.",
        ),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "The provider answered with status 502."),
    ],
)
def test_whatever_the_body_is_the_error_is_typed(body: bytes, message: str) -> None:
    told = error(502, body)
    assert type(told) is ProviderFailed
    assert told.message == message


@pytest.mark.parametrize("secret", [KEY, "AIzaSyOtherOther123", "ya29.a0AfB_by-long.token", "AQ.Ab8RN6longkey"])
def test_keys_are_masked(secret: str) -> None:
    told = error(400, envelope(400, "INVALID_ARGUMENT", f"API key '{secret}' not valid, consumer api_key:{secret}."))
    assert secret not in told.message
    assert "***" in told.message


def test_our_error_names_the_call_the_field_and_when_to_come_back() -> None:
    told = msgspec.json.decode(
        GoogleSurface().error(RateLimited("Slow down.", retry_after=2.5, param="contents"), "C1")
    )
    assert told["error"] == {
        "code": 429,
        "message": "Slow down.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {"@type": RPC + "ErrorInfo", "reason": "RATE_LIMITED", "domain": "holdfast"},
            {"@type": RPC + "RequestInfo", "requestId": "C1"},
            {"@type": RPC + "BadRequest", "fieldViolations": [{"field": "contents", "description": "Slow down."}]},
            {"@type": RPC + "RetryInfo", "retryDelay": "2.5s"},
        ],
    }


@pytest.mark.parametrize(
    ("ours", "status"),
    [
        (InvalidRequest("x"), "INVALID_ARGUMENT"),
        (DeadlineExceeded("x"), "DEADLINE_EXCEEDED"),
        (Unauthenticated("x"), "UNAUTHENTICATED"),
        (NotAllowed("x"), "PERMISSION_DENIED"),
        (PriceUnknown("x"), "PERMISSION_DENIED"),
        (LimitExceeded("x"), "RESOURCE_EXHAUSTED"),
    ],
)
def test_our_error_has_the_word_of_its_status(ours: Any, status: str) -> None:
    told = msgspec.json.decode(GoogleSurface().error(ours, "C1"))["error"]
    assert (told["code"], told["status"]) == (ours.status, status)


@pytest.mark.parametrize(
    "ours",
    [
        RateLimited("x", retry_after=3),
        Overloaded("x"),
        BadRequest("x", param="contents"),
        ContextTooLong("x"),
        ContentRefused("x"),
        AuthenticationFailed("x"),
    ],
)
def test_our_error_is_told_apart_at_the_other_end(ours: ProviderError) -> None:
    back = error(ours.status, GoogleSurface().error(ours, "C1"))
    assert type(back) is type(ours)
    assert (back.message, back.param, back.retry_after) == (ours.message, ours.param, ours.retry_after)
