"""When to come back, as responses say it on every wire."""

from email.utils import parsedate_to_datetime

from holdfast.http.base import Headers

_LONGEST = 1e9


def retry_after(headers: Headers) -> float | None:
    """Return the seconds that `retry-after-ms` or `retry-after` ask to wait, None without one that makes sense."""
    if (milliseconds := seconds(_header(headers, b"retry-after-ms"))) is not None:
        return milliseconds / 1000
    after = _header(headers, b"retry-after")
    wait = seconds(after)
    return wait if wait is not None else until(_timestamp(after), headers)


def seconds(text: str | None) -> float | None:
    """Return a number of seconds, None for what is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < _LONGEST else None


def until(timestamp: float | None, headers: Headers) -> float | None:
    """Return the seconds until a Unix time by the provider's clock, None if the response does not tell it."""
    now = _timestamp(_header(headers, b"date"))
    return max(0.0, timestamp - now) if timestamp is not None and now is not None else None


def _header(headers: Headers, name: bytes) -> str | None:
    return next((value.decode("latin-1") for header, value in headers if header == name), None)


def _timestamp(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, LookupError, ArithmeticError):
        return None
