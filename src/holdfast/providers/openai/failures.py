"""What went wrong, in the words of every server of this wire -> the error tree."""

import re
from typing import Any

import msgspec

from holdfast.errors import (
    AuthenticationFailed,
    ContentRefused,
    ContextTooLong,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    RateLimited,
)
from holdfast.http.base import Headers
from holdfast.providers.retry_after import retry_after, seconds, until
from holdfast.providers.statuses import error_class
from holdfast.providers.wording import message_of, plain

_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:prompt|input) length|too many (?:input )?tokens"
    r"|(?:prompt|input|request|message) (?:is )?too (?:long|large)|too large for model|reduce the length"
    r"|max_new_tokens. must be|string too long|maximum number of tokens|longer than the (?:maximum|model)"
    r"|exceeds? .{0,40}(?:max(?:imum)?[ _](?:model[ _])?(?:len|tokens))"
)
_TOO_LONG_CODES = frozenset(
    ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length", "prompt_too_long")
)
_REFUSED = re.compile(
    r"content (?:management )?policy|content filter|usage (?:guidelines|policy|policies)|content exists risk"
    r"|requires moderation|input was flagged|flagged as|safety system|data[ _]inspection|inappropriate content"
)
_REFUSED_CODES = frozenset(
    (
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
        "moderation_blocked",
        "data_inspection_failed",
        "invalid_prompt",
    )
)
_NO_MODEL = re.compile(
    r"model.{0,120}(?:does not exist|not exist|not found|decommissioned|no longer)|(?:unknown|invalid) model"
    r"|no endpoints found|deployment.{0,60}does not exist"
)
_NO_MODEL_CODES = frozenset(("model_not_found", "model_decommissioned", "deploymentnotfound", "invalid_model"))
_NO_CREDIT_CODES = frozenset(
    ("insufficient_quota", "exceeded_current_quota_error", "billing_hard_limit_reached", "billing_not_active")
)
_BAD_KEY = re.compile(
    r"(?:incorrect|invalid|no) api[ _]key|api[ _]key (?:not valid|not found|is invalid)|invalid[ _]api[ _]key"
)
_OVERLOADED = re.compile(
    r"overload|capacity|no healthy upstream|model is (?:currently )?loading|service[ _]unavailable"
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIX_TIME = re.compile(r"\d{10,13}")
_STATUSES = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 402,
    "tokens": 429,
    "requests": 429,
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "bad_request": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "overloaded_error": 503,
    "overloaded": 503,
    "unavailable_error": 503,
}
"""The status that words stand for where a body comes without one."""


class _Fault(msgspec.Struct):
    """What an error body says; `words` are its codes and types in lower case."""

    message: str = ""
    param: str | None = None
    status: int | None = None
    words: frozenset[str] = frozenset()


def failure(
    body: Any, *, status: int | None = None, headers: Headers = (), api_key: str | None = None, model: str | None = None
) -> ProviderError:
    """Translate an error body, `status` being that of its response, None for an error that came with a 200."""
    fault = _read(body)
    code = status or fault.status or next((_STATUSES[word] for word in fault.words if word in _STATUSES), 500)
    kind = _kind(code, fault)
    return kind(
        message_of(kind, fault.message, status=status, key=api_key, model=model),
        provider_status=status,
        param=fault.param,
        retry_after=_retry_after(headers, limits=kind is RateLimited) if kind in (RateLimited, Overloaded) else None,
    )


# --- what codes and messages tell beyond the status -------------------------------------------------------------------


def _kind(status: int, fault: _Fault) -> type[ProviderError]:
    text, words = fault.message.lower(), fault.words
    if status in (400, 403, 422, 451) and (words & _REFUSED_CODES or _REFUSED.search(text)):
        return ContentRefused
    if words & _TOO_LONG_CODES or (status in (400, 413, 422, 500) and _TOO_LONG.search(text)):
        return ContextTooLong
    kind = error_class(status, message=text)
    if words & _NO_CREDIT_CODES or (status == 400 and (_BAD_KEY.search(text) or "invalid_api_key" in words)):
        return AuthenticationFailed
    if status in (400, 403, 422) and (words & _NO_MODEL_CODES or _NO_MODEL.search(text)):
        return ModelUnavailable
    if (kind is RateLimited and "overload" in text) or (status >= 500 and _OVERLOADED.search(text)):
        return Overloaded
    return kind


# --- the body ---------------------------------------------------------------------------------------------------------


def _read(body: Any) -> _Fault:
    """Find message, codes and param in any of the shapes that servers use."""
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, str):
        return _Fault(message=plain(body))
    if not isinstance(body, dict):
        return _Fault()
    inner = body.get("error", body.get("detail", body.get("errors")))
    error = inner if isinstance(inner, dict) else body
    message = inner if isinstance(inner, str) else error.get("message", inner)
    param = error.get("param")
    innermost = error.get("innererror")
    said = [error.get("code"), error.get("type"), error.get("error_type"), error.get("status"), body.get("code")]
    if isinstance(innermost, dict):
        said.append(innermost.get("code"))
    return _Fault(
        message=_sentence(message, error.get("metadata")),
        param=param if isinstance(param, str) else None,
        status=next((_status(value) for value in [*said, body.get("statusCode")] if _status(value)), None),
        words=frozenset([value.lower() for value in said if isinstance(value, str)]),
    )


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and 400 <= value <= 599 else None


def _sentence(message: Any, metadata: Any) -> str:
    """Return the message as text; OpenRouter has the provider's own words in `metadata.raw`."""
    if isinstance(message, dict) and "detail" in message:
        message = message["detail"]
    if isinstance(message, list):
        message = "; ".join([_detail(item) for item in message])
    text = message if isinstance(message, str) else "" if message is None else msgspec.json.encode(message).decode()
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{text}: {raw}" if isinstance(raw, str) else text


def _detail(item: Any) -> str:
    """One line of FastAPI's validation errors."""
    if not isinstance(item, dict):
        return str(item)
    place = ".".join([str(step) for step in item["loc"]]) if isinstance(item.get("loc"), list) else ""
    return f"{place}: {item.get('msg', '')}" if place else str(item.get("msg") or item.get("message") or "")


# --- when to come back ------------------------------------------------------------------------------------------------


def _retry_after(headers: Headers, *, limits: bool) -> float | None:
    """Return the seconds that the provider asks to wait, else (for rate limits) those until its limit is reset."""
    wait = retry_after(headers)
    if wait is not None or not limits:
        return wait
    found = {name: value.decode("latin-1") for name, value in headers}
    left = b"x-ratelimit-remaining-"
    used_up = [name.removeprefix(left) for name, value in found.items() if name.startswith(left) and value == "0"]
    names = [b"x-ratelimit-reset-" + name for name in used_up] or [
        b"x-ratelimit-reset-requests",
        b"x-ratelimit-reset-tokens",
        b"x-ratelimit-reset",
    ]
    waits = [wait for name in names if (wait := _reset(found.get(name, ""), headers)) is not None]
    return max(waits) if used_up and waits else min(waits, default=None)


def _reset(text: str, headers: Headers) -> float | None:
    """Return the seconds of "6m0s", "120ms", "7.66", or until a Unix time in seconds or milliseconds."""
    if pieces := _DURATION.findall(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in pieces)
    if (wait := seconds(text)) is not None:
        return wait
    return until(float(text) / (1000 if len(text) >= 13 else 1), headers) if _UNIX_TIME.fullmatch(text) else None
