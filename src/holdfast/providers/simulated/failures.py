"""Failures in each provider's own words: status, envelope and message as the real ones send them."""

import math
from typing import Any, TypeVar

import msgspec

from holdfast.providers.base import Wire

Row = TypeVar("Row")
_OPENAI = {
    400: ("invalid_request_error", None, "Your request could not be understood."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Your request is not allowed."),
    404: ("invalid_request_error", None, "Not found."),
    405: ("invalid_request_error", "method_not_supported", "Not allowed to use this method on this URL."),
    413: ("invalid_request_error", None, "Request too large."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}
_ANTHROPIC = {
    400: ("invalid_request_error", "Your request could not be understood."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    405: ("invalid_request_error", "Method Not Allowed"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit. Please try again later."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
_GOOGLE = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission."),
    404: ("NOT_FOUND", "Requested entity was not found."),
    405: ("INVALID_ARGUMENT", "Method not allowed."),
    413: ("INVALID_ARGUMENT", "Request payload size exceeds the limit."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    500: ("INTERNAL", "An internal error has occurred. Please retry."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}


class Failure(Exception):
    """The simulated provider answers with an error. Where `message` is empty it is the provider's usual one."""

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.extra = extra or {}
        """Fields to add to the error object."""

    def headers(self) -> list[tuple[str, str]]:
        """Return Retry-After in whole seconds, as the standard wants it, and the exact time in milliseconds."""
        if self.retry_after is None:
            return []
        return [
            ("retry-after", str(math.ceil(self.retry_after))),
            ("retry-after-ms", str(round(self.retry_after * 1000))),
        ]

    def body(self, wire: Wire, request_id: str) -> bytes:
        """Return the error in the envelope of a wire."""
        return msgspec.json.encode(self._envelope(wire, request_id))

    def event(self, wire: Wire, request_id: str) -> bytes:
        """Return the error as an event in the middle of a stream."""
        name = b"event: error\n" if wire == "anthropic" else b""
        return name + b"data: " + self.body(wire, request_id) + b"\n\n"

    def _envelope(self, wire: Wire, request_id: str) -> dict[str, Any]:
        if wire == "anthropic":
            kind, usual = _known(_ANTHROPIC, self.status)
            error = {"type": kind, "message": self.message or usual, **self.extra}
            return {"type": "error", "error": error, "request_id": request_id}
        if wire == "google":
            kind, usual = _known(_GOOGLE, self.status)
            return {"error": {"code": self.status, "message": self.message or usual, "status": kind} | self._details()}
        kind, code, usual = _known(_OPENAI, self.status)
        error = {"message": self.message or usual, "type": kind, "param": self.param, "code": self.code or code}
        return {"error": error | self.extra}

    def _details(self) -> dict[str, Any]:
        if self.retry_after is None:
            return self.extra
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{self.retry_after:g}s"}
        return {"details": [retry], **self.extra}


def _known(table: dict[int, Row], status: int) -> Row:
    return table.get(status) or table[400 if status < 500 else 500]


def context_too_long(wire: Wire, tokens: int, limit: int) -> Failure:
    """Return what a provider says of a prompt of `tokens` tokens where `limit` fit."""
    if wire == "anthropic":
        return Failure(400, f"prompt is too long: {tokens} tokens > {limit} maximum")
    if wire == "google":
        return Failure(400, f"The input token count ({tokens}) exceeds the maximum number of tokens allowed ({limit}).")
    message = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} tokens. "
        "Please reduce the length of the messages."
    )
    return Failure(400, message, code="context_length_exceeded", param="messages")


def prefill_refused(wire: Wire) -> Failure:
    """Return what a provider says of a conversation that ends with an assistant's message."""
    if wire == "anthropic":
        message = (
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
        return Failure(400, message)
    if wire == "google":
        return Failure(400, "Please ensure that multiturn requests end with a user role or a function response.")
    message = "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
    return Failure(400, message, param="messages")


def prompt_refused(wire: Wire) -> Failure:
    """Return the error that a provider has for content that its filter stopped; on the OpenAI wire it is Azure's."""
    if wire == "anthropic":
        return Failure(400, "Output blocked by content filtering policy")
    if wire == "google":
        return Failure(400, "The request was blocked by the safety filters: it contains prohibited content.")
    message = (
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
        "modify your prompt and retry."
    )
    result = {"violence": {"filtered": True, "severity": "medium"}, "hate": {"filtered": False, "severity": "safe"}}
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": result}
    extra = {"type": None, "status": 400, "innererror": inner}
    return Failure(400, message, code="content_filter", param="prompt", extra=extra)


def unknown_model(wire: Wire, model: str) -> Failure:
    """Return what a provider says of a model that it doesn't have."""
    if wire == "anthropic":
        return Failure(404, f"model: {model}")
    if wire == "google":
        return Failure(404, f"models/{model} is not found for API version v1beta.")
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Failure(404, message, code="model_not_found", param="model")


def key_refused(wire: Wire) -> Failure:
    """Return what a provider says of a wrong API key; Google calls that a bad argument."""
    if wire == "google":
        return Failure(400, "API key not valid. Please pass a valid API key.")
    return Failure(401)
