"""Errors of the Anthropic wire: the provider's to our tree, and our own to the wire's words."""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

import msgspec

from holdfast.errors import (
    AuthenticationFailed,
    BadRequest,
    CallError,
    ContentRefused,
    ContextTooLong,
    Overloaded,
    ProviderError,
    ProviderFailed,
    RateLimited,
)
from holdfast.http.base import Headers

_TYPES: dict[str, type[ProviderError]] = {
    "invalid_request_error": BadRequest,
    "authentication_error": AuthenticationFailed,
    "permission_error": AuthenticationFailed,
    "billing_error": AuthenticationFailed,
    "not_found_error": ProviderFailed,
    "request_too_large": ContextTooLong,
    "rate_limit_error": RateLimited,
    "api_error": ProviderFailed,
    "timeout_error": ProviderFailed,
    "overloaded_error": Overloaded,
}
_STATUSES: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    402: AuthenticationFailed,
    403: AuthenticationFailed,
    404: ProviderFailed,
    408: ProviderFailed,
    409: ProviderFailed,
    413: ContextTooLong,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}
# The wire has one type for everything that is wrong with a request; only the words tell whose fault it is.
_MESSAGES: tuple[tuple[re.Pattern[str], type[ProviderError]], ...] = (
    (re.compile(r"credit balance|usage limits|spend limit|billing", re.IGNORECASE), AuthenticationFailed),
    (re.compile(r"prompt is too long|context (window|length|limit)", re.IGNORECASE), ContextTooLong),
    (re.compile(r"content filter|output blocked|usage polic|safety|violat\w+ .*polic", re.IGNORECASE), ContentRefused),
)
_PARAM = re.compile(r"([a-z_]+(?:\.[\w-]+)*): ")
_KEY = re.compile(r"\b(sk-[A-Za-z]{2,8}-)[\w-]{6,}|(?i:(bearer) )[\w.-]{6,}")
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
        error = ErrorObject(message=_plain(body))
    kind = _STATUSES.get(status) or _TYPES.get(error.type) or (BadRequest if 400 <= status < 500 else ProviderFailed)
    if status == 404 and "file" in error.message.lower() and "model" not in error.message.lower():
        kind = BadRequest
    elif status == 404:
        error.message = f"The provider does not know the model {model!r} at this address: {error.message}"
    message = error.message or f"The provider answered with status {status}."
    return _make(kind, message, key=key, status=status, retry_after=_retry_after(headers))


def event_error(error: ErrorObject, *, key: str | None) -> ProviderError:
    """Translate an error that comes as an event of a stream, or as a body with status 200."""
    kind = _TYPES.get(error.type, ProviderFailed)
    return _make(kind, error.message or f"The provider reported {error.type or 'an error'}.", key=key)


def _make(
    kind: type[ProviderError],
    message: str,
    *,
    key: str | None,
    status: int | None = None,
    retry_after: float | None = None,
) -> ProviderError:
    if kind is BadRequest:
        kind = next((told for pattern, told in _MESSAGES if pattern.search(message)), BadRequest)
    param = _PARAM.match(message) if kind.callers_fault else None
    return kind(
        _masked(message, key)[:1000],
        provider_status=status,
        param=param[1] if param else None,
        retry_after=retry_after if kind in (RateLimited, Overloaded) else None,
    )


def _masked(message: str, key: str | None) -> str:
    if key:
        message = message.replace(key, "***")
    return _KEY.sub(lambda match: f"{match[1] or match[2] + ' '}***", message)


def _plain(body: bytes) -> str:
    """Return a body that is not the wire's JSON if it is a line for people, neither a page nor other JSON."""
    text = " ".join(body[:400].decode(errors="replace").split())
    return "" if text[:1] in "<{[" or text == "null" else text


def _retry_after(headers: Headers) -> float | None:
    """Return the seconds of `retry-after`, else those until every exhausted limit is reset, by the provider's clock."""
    values = dict(reversed(headers))
    try:
        now = parsedate_to_datetime(values[b"date"].decode("latin-1")) if b"date" in values else None
        if (after := values.get(b"retry-after")) is not None:
            text = after.decode("latin-1")
            return float(text) if text.replace(".", "", 1).isdigit() else _until(parsedate_to_datetime(text), now)
        limits = [match[1] for name, left in headers if left == b"0" and (match := _EXHAUSTED.fullmatch(name))]
        resets = [datetime.fromisoformat(values[limit + b"-reset"].decode("latin-1")) for limit in limits]
        return _until(max(resets), now) if resets else None
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _until(then: datetime, now: datetime | None) -> float | None:
    return max(0.0, (then - now).total_seconds()) if now is not None else None


def encode_error(error: CallError) -> dict[str, str]:
    """Return an error in the words of the wire."""
    message = error.message
    if error.param and not message.startswith(f"{error.param}:"):
        message = f"{error.param}: {message}"
    return {"type": _WORDS.get(error.status, "api_error"), "message": message}
