"""Errors of the Anthropic wire: the provider's to our tree, and our own to the wire's words."""

import re
from datetime import datetime

import msgspec

from holdfast.errors import (
    BadRequest,
    CallError,
    ContentRefused,
    ContextTooLong,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    RateLimited,
)
from holdfast.http.base import Headers
from holdfast.providers.retry_after import retry_after, until
from holdfast.providers.statuses import error_class
from holdfast.providers.wording import message_of, plain

_TYPES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that each type of error stands for."""
# The wire has one type for everything that is wrong with a request; only the words tell whose fault it is.
_MESSAGES: tuple[tuple[re.Pattern[str], type[ProviderError]], ...] = (
    (re.compile(r"prompt is too long|context (window|length|limit)", re.IGNORECASE), ContextTooLong),
    (re.compile(r"content filter|output blocked|usage polic|safety|violat\w+ .*polic", re.IGNORECASE), ContentRefused),
)
_CALLERS_FILE = re.compile(r"\bfile\b(?!.*\bmodel\b)", re.IGNORECASE | re.DOTALL)
_PARAM = re.compile(r"([a-z_]+(?:\.[\w-]+)*): ")
_EXHAUSTED = re.compile(rb"(anthropic-ratelimit-[a-z-]+)-remaining")

_WORDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    431: "invalid_request_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ErrorObject(msgspec.Struct):
    type: str = ""
    message: str = ""


class Envelope(msgspec.Struct):
    error: ErrorObject


ENVELOPE = msgspec.json.Decoder(Envelope)


def response_error(status: int, headers: Headers, body: bytes, *, model: str, key: str | None) -> ProviderError:
    """Translate a response whose status is not 2xx."""
    try:
        error = ENVELOPE.decode(body).error
    except (msgspec.MsgspecError, ValueError, RecursionError):
        error = ErrorObject(message=plain(body))
    kind = _kind(error, status)
    param = _PARAM.match(error.message) if kind.callers_fault else None
    return kind(
        message_of(kind, error.message, status=status, key=key, model=model),
        provider_status=status,
        param=param[1] if param else None,
        retry_after=_retry_after(headers) if kind in (RateLimited, Overloaded) else None,
    )


def event_error(error: ErrorObject, *, key: str | None) -> ProviderError:
    """Translate an error that comes as an event of a stream, or as a body with status 200."""
    kind = _kind(error)
    param = _PARAM.match(error.message) if kind.callers_fault else None
    told = error.message or f"The provider reported {error.type or 'an error'}."
    return kind(message_of(kind, told, status=None, key=key), param=param[1] if param else None)


def _kind(error: ErrorObject, status: int | None = None) -> type[ProviderError]:
    kind = error_class(status, _TYPES.get(error.type), message=error.message)
    if kind is ModelUnavailable and _CALLERS_FILE.search(error.message):
        return BadRequest
    if kind is BadRequest:
        return next((told for pattern, told in _MESSAGES if pattern.search(error.message)), kind)
    return kind


def _retry_after(headers: Headers) -> float | None:
    """Return the seconds that the provider asks to wait, else those until every exhausted limit is reset."""
    if (wait := retry_after(headers)) is not None:
        return wait
    values = dict(headers)
    limits = [match[1] for name, left in headers if left == b"0" and (match := _EXHAUSTED.fullmatch(name))]
    try:
        resets = [datetime.fromisoformat(values[limit + b"-reset"].decode("latin-1")).timestamp() for limit in limits]
    except (ValueError, KeyError, OverflowError):
        return None
    return until(max(resets, default=None), headers)


def encode_error(error: CallError) -> dict[str, str]:
    """Return an error in the words of the wire."""
    message = error.message
    if error.param and not message.startswith(f"{error.param}:"):
        message = f"{error.param}: {message}"
    return {"type": _WORDS.get(error.status, "api_error"), "message": message}
