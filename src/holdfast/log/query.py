"""How people and programs write what they look for in the log."""

from datetime import UTC, datetime

from holdfast.settings import Duration


def moment(text: str, now: float) -> int:
    """Return a time in microseconds since 1970: "90s", "15m", "1h" or "7d" before `now`, or ISO 8601, UTC by default.

    Raises:
        ValueError: it is neither.

    >>> moment("1h", now=7200.0), moment("1970-01-01T02:00", now=0.0), moment("1970-01-01T02:00+01:00", now=0.0)
    (3600000000, 7200000000, 3600000000)
    """
    try:
        return round(max(0.0, now - Duration.parse(text)) * 1e6)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected a time such as 2026-01-31T12:00:00Z or a duration such as 1h, got {text!r}"
        ) from None


def tag(text: str) -> tuple[str, str]:
    """Return a tag, written name=value. Raises ValueError."""
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"a tag is written name=value, got {text!r}")
    return name, value
