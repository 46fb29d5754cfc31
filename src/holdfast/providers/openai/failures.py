"""What went wrong, in the words of every server of this wire -> the error tree."""

import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from holdfast.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    Overloaded,
    ProviderError,
    ProviderFailed,
    RateLimited,
)
from holdfast.http.base import Headers

NO_CREDIT_RETRY_S = 3600.0
"""A quota that is used up or an empty account doesn't mend itself soon."""

_KEYS = re.compile(r"\b(?:sk|pk|gsk|xai|nvapi|hf|pplx|fw|key)[-_][\w*.\-]{3,}[\w*\-]|\bAIza[\w\-]{8,}|(?<=Bearer )\S+")
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
_NO_CREDIT = re.compile(
    r"insufficient[ _](?:quota|balance|credit|funds)|exceeded your current quota|billing|used all available credits"
)
_BAD_KEY = re.compile(
    r"(?:incorrect|invalid|no) api[ _]key|api[ _]key (?:not valid|not found|is invalid)|invalid[ _]api[ _]key"
)
_OVERLOADED = re.compile(
    r"overload|capacity|no healthy upstream|model is (?:currently )?loading|service[ _]unavailable"
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_STATUSES = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
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


class _Fault(msgspec.Struct):
    """What an error body says; `words` are its codes and types in lower case."""

    message: str = ""
    param: str | None = None
    status: int | None = None
    words: frozenset[str] = frozenset()


def failure(
    body: Any, *, status: int | None = None, headers: Headers = (), api_key: str | None = None
) -> ProviderError:
    """Translate an error body, `status` being that of its response, None for an error that came with a 200."""
    fault = _read(body)
    code = status or fault.status or next((_STATUSES[word] for word in fault.words if word in _STATUSES), 500)
    kind = _kind(code, fault)
    message = mask(fault.message, api_key)[:2000] or f"The provider answered with status {code} and no message."
    retry_after = _retry_after(headers, limits=kind is RateLimited) if kind in (RateLimited, Overloaded) else None
    if kind is RateLimited and _out_of_credit(code, fault):
        retry_after = max(NO_CREDIT_RETRY_S, retry_after or 0)
    return kind(message, provider_status=status, param=fault.param, retry_after=retry_after)


def mask(text: str, api_key: str | None) -> str:
    """Hide API keys that a provider echoes."""
    if api_key:
        text = text.replace(api_key, "***")
    return _KEYS.sub("***", text)


# --- the table --------------------------------------------------------------------------------------------------------


def _kind(status: int, fault: _Fault) -> type[ProviderError]:
    text, words = fault.message.lower(), fault.words
    if status in (400, 403, 422, 451) and (words & _REFUSED_CODES or _REFUSED.search(text)):
        return ContentRefused
    if words & _TOO_LONG_CODES or (status in (400, 413, 422, 500) and _TOO_LONG.search(text)):
        return ContextTooLong
    if status == 429:
        return Overloaded if "overload" in text and not _out_of_credit(status, fault) else RateLimited
    if status == 402:
        return RateLimited
    if status in (401, 403) or (status == 400 and (_BAD_KEY.search(text) or "invalid_api_key" in words)):
        return AuthenticationFailed
    if status == 404 or (status in (400, 422) and (words & _NO_MODEL_CODES or _NO_MODEL.search(text))):
        return ProviderError  # a wrong model or address: neither the caller's fault nor mended by trying again
    if status in (498, 503, 529) or (status >= 500 and _OVERLOADED.search(text)):
        return Overloaded
    if status == 413:
        return ContextTooLong
    if status < 400:
        return ProviderError
    return ProviderFailed if status >= 500 or status in (408, 409, 424, 425) else BadRequest


def _out_of_credit(status: int, fault: _Fault) -> bool:
    return status == 402 or "insufficient_quota" in fault.words or bool(_NO_CREDIT.search(fault.message.lower()))


# --- the body ---------------------------------------------------------------------------------------------------------


def _read(body: Any) -> _Fault:
    """Find message, codes and param in any of the shapes that servers use."""
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, str):
        return _Fault(message=_plain(body))
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


def _plain(text: str) -> str:
    """Return a body that is no JSON as one line, without the markup of an error page."""
    text = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", text[:20_000], flags=re.DOTALL | re.IGNORECASE)
    return " ".join(text.split())[:500]


# --- when to come back ------------------------------------------------------------------------------------------------


def _retry_after(headers: Headers, *, limits: bool) -> float | None:
    """Return the seconds that the provider asks to wait, from Retry-After or (for rate limits) its limit's reset."""
    found = {name: value.decode("latin-1") for name, value in headers}
    if (milliseconds := _number(found.get(b"retry-after-ms"))) is not None:
        return milliseconds / 1000
    if (after := found.get(b"retry-after")) is not None:
        seconds = _number(after)
        return seconds if seconds is not None else _until(after, found.get(b"date"))
    if not limits:
        return None
    left = b"x-ratelimit-remaining-"
    used_up = [name.removeprefix(left) for name, value in found.items() if name.startswith(left) and value == "0"]
    names = [b"x-ratelimit-reset-" + name for name in used_up] or [
        b"x-ratelimit-reset-requests",
        b"x-ratelimit-reset-tokens",
        b"x-ratelimit-reset",
    ]
    waits = [wait for name in names if (wait := _reset(found.get(name))) is not None]
    return max(waits) if used_up and waits else min(waits, default=None)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def _until(date: str, now: str | None) -> float | None:
    """Return the seconds from `now` (the response's own Date, else this machine's) to an HTTP date."""
    try:
        start = parsedate_to_datetime(now).timestamp() if now else time.time()
        return max(0.0, parsedate_to_datetime(date).timestamp() - start)
    except (ValueError, OverflowError):
        return None


def _reset(text: str | None) -> float | None:
    """Return the seconds of "6m0s", "120ms", "7.66", or until a Unix time in seconds or milliseconds."""
    if not text:
        return None
    if pieces := _DURATION.findall(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in pieces)
    try:
        number = float(text)
    except ValueError:
        return None
    if number >= 1e12:
        number /= 1000
    wait = number - time.time() if number >= 1e9 else number
    return wait if 0 <= wait < 1e9 else None
