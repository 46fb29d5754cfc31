import json
from typing import Any

import pytest

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
from holdfast.providers.base import Endpoint
from holdfast.providers.openai import OpenAIUpstream

UPSTREAM = OpenAIUpstream(Endpoint(model="m", base_url="https://host.example/v1", api_key="very-secret"))


def failure(status: int, body: Any, headers: Headers = ()) -> ProviderError:
    return UPSTREAM.error(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def openai(message: str, type: str | None = None, code: Any = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


TABLE: list[tuple[str, int, Any, type[ProviderError]]] = [
    ("openai rate", 429, openai("Rate limit reached for gpt", "tokens", "rate_limit_exceeded"), RateLimited),
    ("openai quota", 429, openai("You exceeded your current quota", code="insufficient_quota"), AuthenticationFailed),
    ("openai key", 401, openai("Incorrect API key provided", code="invalid_api_key"), AuthenticationFailed),
    (
        "openai no access",
        403,
        openai("Project `p` does not have access to model `x`", code="model_not_found"),
        ModelUnavailable,
    ),
    ("openai region", 403, openai("Country not supported", "request_forbidden"), AuthenticationFailed),
    ("openai model", 404, openai("The model `x` does not exist", code="model_not_found"), ModelUnavailable),
    (
        "openai length",
        400,
        openai("This model's maximum context length is 128000 tokens.", code="context_length_exceeded"),
        ContextTooLong,
    ),
    (
        "openai prompt",
        400,
        openai("Invalid prompt: it was flagged as violating", code="invalid_prompt"),
        ContentRefused,
    ),
    ("openai param", 400, openai("Unsupported value", "invalid_request_error", "unsupported_value", "n"), BadRequest),
    ("openai down", 500, openai("The server had an error", "server_error"), ProviderFailed),
    ("openai busy", 503, openai("The engine is currently overloaded", "server_error"), Overloaded),
    (
        "azure filter",
        400,
        {
            "error": {
                "message": "The prompt triggered Azure OpenAI's content management policy.",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        ContentRefused,
    ),
    ("azure gateway", 401, {"statusCode": 401, "message": "Access denied due to invalid key"}, AuthenticationFailed),
    ("azure model", 404, openai("The API deployment does not exist", code="DeploymentNotFound"), ModelUnavailable),
    (
        "vllm length",
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        ContextTooLong,
    ),
    ("vllm model", 404, {"object": "error", "message": "The model `x` does not exist.", "code": 404}, ModelUnavailable),
    (
        "sglang length",
        400,
        {"message": "The input (9 tokens) is longer than the model's context length"},
        ContextTooLong,
    ),
    (
        "llama.cpp length",
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9,
                "n_ctx": 4,
            }
        },
        ContextTooLong,
    ),
    ("llama.cpp 500", 500, openai("Context size has been exceeded.", "server_error", 500), ContextTooLong),
    ("llama.cpp loading", 503, openai("Loading model", "unavailable_error", 503), Overloaded),
    (
        "tgi length",
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096",
            "error_type": "validation",
        },
        ContextTooLong,
    ),
    ("tgi busy", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, Overloaded),
    ("tgi generation", 424, {"error": "Request failed during generation", "error_type": "generation"}, ProviderFailed),
    ("ollama model", 404, openai('model "x" not found, try pulling it first', "api_error"), ModelUnavailable),
    ("groq length", 400, openai("Please reduce the length of the messages or completion."), ContextTooLong),
    (
        "groq rate",
        429,
        openai("Rate limit reached. Upgrade today at https://console.groq.com/settings/billing", "tokens"),
        RateLimited,
    ),
    ("groq size", 413, openai("Request too large for model x", "tokens", "rate_limit_exceeded"), ContextTooLong),
    ("groq capacity", 498, openai("capacity exceeded", code="capacity_exceeded"), Overloaded),
    (
        "groq retired",
        400,
        openai("The model `x` has been decommissioned", code="model_decommissioned"),
        ModelUnavailable,
    ),
    (
        "mistral length",
        400,
        {
            "object": "error",
            "message": "Prompt contains 90000 tokens, too large for model with 32768 maximum context length",
            "type": "invalid_request_error",
            "code": "3051",
        },
        ContextTooLong,
    ),
    (
        "mistral field",
        422,
        {"object": "error", "message": {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]}},
        BadRequest,
    ),
    ("deepseek length", 400, openai("This model's maximum context length is 65536 tokens."), ContextTooLong),
    ("deepseek risk", 400, openai("Content Exists Risk", "invalid_request_error"), ContentRefused),
    ("deepseek credit", 402, openai("Insufficient Balance", "unknown_error"), AuthenticationFailed),
    ("deepseek model", 400, openai("Model Not Exist", "invalid_request_error"), ModelUnavailable),
    (
        "xai length",
        400,
        {"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 131072"},
        ContextTooLong,
    ),
    ("xai key", 400, {"code": "invalid", "error": "Incorrect API key provided: xa***"}, AuthenticationFailed),
    ("xai usage", 403, {"code": "x", "error": "Content violates usage guidelines."}, ContentRefused),
    (
        "openrouter moderation",
        403,
        {
            "error": {
                "code": 403,
                "message": 'x requires moderation on OpenAI. Your input was flagged for "violence".',
                "metadata": {"reasons": ["violence"], "flagged_input": "..."},
            }
        },
        ContentRefused,
    ),
    ("openrouter credit", 402, openai("Insufficient credits", code=402), AuthenticationFailed),
    ("openrouter no provider", 404, openai("No endpoints found for x", code=404), ModelUnavailable),
    ("openrouter down", 502, openai("Provider returned error", code=502), ProviderFailed),
    (
        "gemini rate",
        429,
        [{"error": {"code": 429, "message": "You exceeded your current quota.", "status": "RESOURCE_EXHAUSTED"}}],
        RateLimited,
    ),
    (
        "gemini key",
        400,
        [{"error": {"code": 400, "message": "API key not valid.", "status": "X"}}],
        AuthenticationFailed,
    ),
    ("fastapi", 422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}, BadRequest),
    ("nginx", 502, b"<html><head><title>502 Bad Gateway</title></head></html>", ProviderFailed),
    ("nginx size", 413, b"<html>413 Request Entity Too Large</html>", ContextTooLong),
    ("empty 500", 500, b"", ProviderFailed),
    ("empty 400", 400, b"", BadRequest),
    ("cloudflare", 529, b"", Overloaded),
    ("timeout", 408, b"", ProviderFailed),
    ("conflict", 409, b"", ProviderFailed),
    ("redirect", 307, b"", ModelUnavailable),
    ("garbage", 400, b"\xff\xfe{", BadRequest),
    ("list", 400, [], BadRequest),
    ("number", 400, 5, BadRequest),
]


@pytest.mark.parametrize(("status", "body", "error"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_every_failure_has_its_place_in_the_tree(status: int, body: Any, error: type[ProviderError]) -> None:
    raised = failure(status, body)
    assert type(raised) is error
    assert raised.provider_status == status
    assert raised.message


def test_a_wrong_model_is_our_configurations_fault_and_no_retry_mends_it() -> None:
    raised = failure(404, openai("The model `x` does not exist", code="model_not_found"))
    assert (raised.callers_fault, raised.same_model_again, raised.next_model) == (False, False, True)


def test_the_providers_message_and_param_are_kept() -> None:
    raised = failure(400, openai("Unsupported value: 'n'", param="n"))
    assert (raised.message, raised.param) == ("Unsupported value: 'n'", "n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "plain"}, "plain"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"message": {"detail": [{"loc": ["body", "x"], "msg": "bad"}]}}, "body.x: bad"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "why"}}}, "Provider returned error: why"),
        (b"<html><style>p{}</style><h1>Bad  Gateway</h1></html>", "Bad Gateway"),
        (b"", "The provider answered with status 400."),
    ],
)
def test_the_message_is_found_in_any_shape(body: Any, message: str) -> None:
    assert failure(400, body).message == message


@pytest.mark.parametrize(
    "key", ["sk-abc123def456", "sk-proj-a_b-c123", "gsk_abcdefgh", "xai-abcdefgh", "sk-abc***xyz9", "very-secret"]
)
def test_keys_that_a_provider_echoes_are_masked(key: str) -> None:
    message = failure(401, openai(f"Incorrect API key provided: {key}. Find yours at host.example.")).message
    assert message == "Incorrect API key provided: ***. Find yours at host.example."


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"x-ratelimit-reset": "1792567710", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"x-ratelimit-reset": "1792567710000", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"x-ratelimit-reset": "1792567710"}, None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "7.66"}, 7.66),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_when_to_come_back_is_read_from_any_header(headers: dict[str, str], seconds: float | None) -> None:
    encoded = tuple((name.encode(), value.encode()) for name, value in headers.items())
    assert failure(429, openai("slow down"), encoded).retry_after == seconds


def test_an_overloaded_provider_may_say_when_to_come_back() -> None:
    assert failure(503, b"", ((b"retry-after", b"3"),)).retry_after == 3
    assert failure(503, b"", ((b"x-ratelimit-reset-requests", b"3s"),)).retry_after is None


def test_a_used_up_quota_is_not_mended_by_waiting() -> None:
    raised = failure(429, openai("You exceeded your current quota", code="insufficient_quota"))
    assert (raised.callers_fault, raised.same_model_again, raised.next_model) == (False, False, True)
    assert raised.retry_after is None
