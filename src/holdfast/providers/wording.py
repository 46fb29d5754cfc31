"""A provider's own words, fit for an error message: without keys, without markup, and not too many."""

import re
from typing import Final

from holdfast.errors import ModelUnavailable, ProviderError

_LONGEST: Final = 1000
_KEYS: Final = re.compile(
    r"\b(?:sk|pk|gsk|xai|nvapi|hf|pplx|fw)[-_][\w*.\-]{3,}[\w*\-]|\bkey[-_](?=\S*[\d*])[\w*.\-]{8,}"
    r"|\b(?:AIza|AQ\.|ya29\.)[\w.\-]{8,}|(?<=\b(?i:Bearer) )\S{6,}"
)
_MARKUP: Final = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def message_of(
    kind: type[ProviderError], told: str, *, status: int | None, key: str | None, model: str | None = None
) -> str:
    """Return the message of an error: what the provider `told`, and what it left out. `key` is the model's own."""
    if not told:
        told = f"The provider answered with status {status}." if status else "The provider reported an error."
        if status is not None and 300 <= status < 400:
            told += " Redirects are not followed: is base_url right?"
    elif kind is ModelUnavailable and model is not None:
        told = f"The provider does not serve the model {model!r} at this address: {told}"
    return masked(told, key)[:_LONGEST]


def masked(text: str, key: str | None) -> str:
    """Hide API keys that a provider echoes: the model's own `key`, and what looks like one."""
    if key:
        text = text.replace(key, "***")
    return _KEYS.sub("***", text)


def plain(body: bytes | str) -> str:
    """Return a body that is not the wire's JSON as one line without markup; empty if it is other JSON."""
    start = body[:20_000]
    text = " ".join(_MARKUP.sub(" ", start if isinstance(start, str) else start.decode(errors="replace")).split())
    return "" if text[:1] in "{[" or text == "null" else text
