"""Errors of the Gemini wire (google.rpc.Status): the provider's to our tree, and our own to the wire's words."""

import re
from typing import Any, Final

import msgspec

from holdfast.errors import (
    AuthenticationFailed,
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
from holdfast.providers.decoding import Malformed
from holdfast.providers.google.wire import Json, read
from holdfast.providers.retry_after import retry_after, seconds
from holdfast.providers.statuses import error_class
from holdfast.providers.wording import message_of, plain

_WORDS: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""The status that each code of google.rpc stands for."""
_REASONS: Final[dict[str, type[ProviderError]]] = {
    "API_KEY_INVALID": AuthenticationFailed,
    "API_KEY_EXPIRED": AuthenticationFailed,
    "BILLING_DISABLED": AuthenticationFailed,
    # these are ours, from the other end of this file
    "CONTEXT_TOO_LONG": ContextTooLong,
    "CONTENT_REFUSED": ContentRefused,
    "PROVIDER_AUTHENTICATION": AuthenticationFailed,
    "MODEL_UNAVAILABLE": ModelUnavailable,
}
# One word covers everything that is wrong with a request; only the message tells whose fault it is.
_MESSAGES: Final[tuple[tuple[re.Pattern[str], type[ProviderError]], ...]] = (
    (
        re.compile(r"API key (not valid|expired|not found)|location is not supported", re.IGNORECASE),
        AuthenticationFailed,
    ),
    (re.compile(r"exceeds the maximum number of tokens|input token (count|limit)", re.IGNORECASE), ContextTooLong),
    (
        re.compile(r"safety filter|responsible ai|prohibited content|violat\w+ .*polic", re.IGNORECASE | re.DOTALL),
        ContentRefused,
    ),
)
_CALLERS_FILE = re.compile(r"\b(file|cachedcontent)\b", re.IGNORECASE)
_PLACE = re.compile(r"\bat '([^']+)'")
_TOLD: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    431: "INVALID_ARGUMENT",
    499: "CANCELLED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Status(msgspec.Struct, kw_only=True):
    """A google.rpc.Status, whatever it was sent as."""

    code: int = 0
    status: str = ""
    message: str = ""
    details: list[Json] = []

    def detail(self, name: str) -> Json:
        """Return the detail of a type such as "RetryInfo", empty if there is none."""
        found = (detail for detail in self.details if str(detail.get("@type", "")).endswith(f".{name}"))
        return next(found, {})


def response_error(status: int, headers: Headers, body: bytes, *, model: str, key: str | None) -> ProviderError:
    """Translate a response whose status is not 2xx."""
    try:
        told = _status(read(body, Any))
    except Malformed:
        told = Status(message=plain(body))
    return _translate(status, told, headers, model, key)


def event_error(error: Any, *, model: str, key: str | None) -> ProviderError:
    """Translate an error that comes on a stream, or with status 200."""
    told = _status({"error": error})
    return _translate(told.code, told, (), model, key)


def _status(value: Any) -> Status:
    """Take the status out of its envelope, which a stream without SSE puts into a list."""
    if isinstance(value, list):
        value = value[0] if value else None
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, str):
        return Status(message=error)
    if not isinstance(error, dict):
        return Status()
    code, status, message, details = (error.get(field) for field in ("code", "status", "message", "details"))
    return Status(
        code=code if isinstance(code, int) else 0,
        status=status if isinstance(status, str) else "",
        message=message.strip() if isinstance(message, str) else "",
        details=[detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else [],
    )


def _translate(status: int, told: Status, headers: Headers, model: str, key: str | None) -> ProviderError:
    kind = _kind(status, told)
    return kind(
        message_of(kind, told.message or ("" if status else told.status), status=status, key=key, model=model),
        provider_status=status or None,
        param=_param(told) if kind.callers_fault else None,
        retry_after=_retry_after(told, headers) if kind in (RateLimited, Overloaded) else None,
    )


def _kind(status: int, told: Status) -> type[ProviderError]:
    reason = told.detail("ErrorInfo").get("reason")
    if isinstance(reason, str) and reason in _REASONS:
        return _REASONS[reason]
    kind = error_class(status, _WORDS.get(told.status), message=told.message)
    if kind is BadRequest:
        return next((other for pattern, other in _MESSAGES if pattern.search(told.message)), kind)
    if status in (403, 404) and _CALLERS_FILE.search(told.message):
        return BadRequest
    return kind


def _param(told: Status) -> str | None:
    violations = told.detail("BadRequest").get("fieldViolations")
    if isinstance(violations, list):
        fields = (violation.get("field") for violation in violations if isinstance(violation, dict))
        for field in fields:
            if isinstance(field, str) and field:
                return field
    place = _PLACE.search(told.message)
    return place[1] if place else None


def _retry_after(told: Status, headers: Headers) -> float | None:
    delay = told.detail("RetryInfo").get("retryDelay")
    wait = seconds(delay.removesuffix("s")) if isinstance(delay, str) else None
    return wait if wait is not None else retry_after(headers)


def encode_error(error: CallError, call: str) -> Json:
    """Return an error in the words of the wire; the call is in its RequestInfo."""
    details: list[Json] = [
        _detail("ErrorInfo", reason=error.code.upper(), domain="holdfast"),
        _detail("RequestInfo", requestId=call),
    ]
    if error.param:
        details.append(_detail("BadRequest", fieldViolations=[{"field": error.param, "description": error.message}]))
    if error.retry_after is not None:
        details.append(_detail("RetryInfo", retryDelay=f"{error.retry_after:.9f}".rstrip("0").rstrip(".") + "s"))
    status = _TOLD.get(error.status, "INTERNAL")
    return {"code": error.status, "message": error.message, "status": status, "details": details}


def _detail(name: str, **fields: Any) -> Json:
    return {"@type": f"type.googleapis.com/google.rpc.{name}", **fields}
