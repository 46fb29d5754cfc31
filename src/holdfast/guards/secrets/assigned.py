"""Secrets that are known by what is said of them: passwords in URLs, and values beside words such as "password".

A value beside "token" or "key" must look random: its letters and digits take turns. Hashes and UUIDs do too, so they
are spared, but for a hash after words that leave no doubt ("api_key", "client secret").
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from holdfast.guards.base import Finding

_BITS: Final = 3.0
"""Shannon entropy of the characters of a value, at least."""
_TURNS: Final = 0.17
"""How often letters and digits take turns, at least, as a share of the length."""
_MADE_UP: Final = re.compile(
    r"[$%{<\[*(]|xxx|\*\*\*|\.\.\.|…|example|changeme|change_me|change-me|placeholder|redacted|removed|your|"
    r"passw(?:or)?d$|pass$|pwd$|secret$|token$|null$|none$|true$|false$|undefined$|string$|required$|"
    r"os\.|env\.|process\.|config\.|settings\.|self\.|this\.|request\.|form\.|getenv|input",
    re.IGNORECASE,
)
_URL: Final = re.compile(r"""://([^\s:/@"'<>\\`]{0,128}):([^\s/"'<>\\`]{1,256})@(?=[A-Za-z0-9\[])""")
_CODE: Final = re.compile(r"[A-Za-z_][\w.]*\[|.*(?:\(|://|,\w+:)")
_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_HASH: Final = re.compile(r"[0-9a-f]+", re.IGNORECASE)
_HASHES: Final = frozenset((32, 40, 48, 56, 64, 96, 128))
_SURE: Final = re.compile(
    r"(?:api|access|auth|secret|private|signing|encryption|refresh|session|client|account|bearer|master|app|bot)"
    r"[_\- ]?$"
)
_HARMLESS: Final = re.compile(
    r"(?:public|primary|foreign|partition|sort|idempotency|cache|object|s3|product|licen[cs]e|next|page|sync|"
    r"continuation|cursor|tokenizer|special|csrf)[_\- ]?$"
)

_NAMED: Final = (
    r"(?:[_-](?!hash|count|len|min|max|polic|attempt|expir|age|id\b|type|field|url|uri|name|hint|file|path)\w{1,16})?"
)
_SAID: Final = r"""["'`*\])]{0,3}[ \t]{0,3}(?::=|=>|[:=])[*_]{0,2}[ \t]{0,3}(?:\\?["'`*]){0,3}"""
_SAID_OR_IS: Final = rf"(?:{_SAID}|[ ](?:is|was)[: ]{{1,2}}[\"'`*]{{0,3}})"
_VALUE: Final = r"(?=(?P<value>[a-z0-9_\-+/.~]{16,256}+={0,2})(?![a-z0-9_\-+/=.~(\[]))"
"""Looked at and not taken: within a value there may be another name with its value."""


def _named(word: str, value: str) -> re.Pattern[str]:
    return re.compile(word + _NAMED + _SAID_OR_IS + value)


_ANY_VALUE: Final = r"(?=(?P<value>[^\s\"'`<>\\]{6,128}+)(?![^\s\"'`<>\\]))"
_PASSWORD: Final = (
    ("passw", _named("passw(?:or)?[dt]", _ANY_VALUE)),
    ("passphrase", _named("passphrase", _ANY_VALUE)),
    ("pwd", _named("pwd", _ANY_VALUE)),
)
_TOKEN: Final = (
    ("secret", _named("secret(?:[_-](?:access[_-])?key)?", _VALUE)),
    ("token", _named("token", _VALUE)),
    ("key", _named("key", _VALUE)),
    ("bearer ", re.compile("bearer {1,2}" + _VALUE)),
)


def passwords_in_urls(text: str) -> Iterator[Finding]:
    """Yield the passwords of URLs such as `postgres://user:password@host`, without those that are made up."""
    if "://" not in text:
        return
    for match in _URL.finditer(text):
        user, password = match[1], match[2]
        if password != user and not _MADE_UP.match(password) and not _repeats(password):
            yield Finding("password in a URL", match.start(2), match.end(2))


def assigned(text: str) -> Iterator[Finding]:
    """Yield what is called a password, a token, a key or a secret and may be one, stem by stem."""
    lower = text.replace("İ", "i").lower()  # the one letter whose lower case is longer
    for stem, pattern in _PASSWORD:
        if stem in lower:
            for match in pattern.finditer(lower):
                start, end = _trimmed(text, *match.span("value"))
                if is_password(text[start:end]):
                    yield Finding("password", start, end, 0.8)
    for stem, pattern in _TOKEN:
        if stem in lower:
            for match in pattern.finditer(lower):
                start, end = match.span("value")
                before = lower[max(match.start() - 14, 0) : match.start()]
                sure = stem in ("secret", "bearer ") or bool(_SURE.search(before))
                if not _HARMLESS.search(before) and is_random(text[start:end].rstrip(".="), hashes=sure):
                    yield Finding("secret", start, end, 0.8)


def is_password(value: str) -> bool:
    """Whether it may be a password, rather than a word about one, code that reads one, or something to fill in."""
    if len(value) < 6 or _MADE_UP.match(value) or _repeats(value) or _CODE.match(value):
        return False
    letters, digits = any(map(str.isalpha, value)), any(map(str.isdigit, value))
    symbols = any(not character.isalnum() and character not in "._-/:|,;" for character in value)
    return (letters and (digits or symbols)) or (digits and symbols)


def is_random(value: str, *, hashes: bool) -> bool:
    """Whether it looks random. What may be a hash only counts if `hashes`, a UUID never does."""
    if len(value) < 16 or _MADE_UP.match(value) or _UUID.fullmatch(value):
        return False
    if not hashes and len(value) in _HASHES and _HASH.fullmatch(value):
        return False
    has_digit = any(map(str.isdigit, value))
    return has_digit and _turns(value) >= max(3, _TURNS * len(value)) and entropy(value) >= _BITS


def entropy(text: str) -> float:
    """Return the Shannon entropy of the characters of a text, in bits a character."""
    length = len(text)
    return -sum(count / length * math.log2(count / length) for count in Counter(text).values())


def _turns(value: str) -> float:
    """Count how often letters and digits take turns, and half as much how often capitals and small letters do."""
    kinds = "".join(["0" if c.isdigit() else "A" if c.isupper() else "a" if c.isalnum() else "." for c in value])
    pairs = Counter(map("".join, pairwise(kinds)))
    return pairs["a0"] + pairs["0a"] + pairs["A0"] + pairs["0A"] + min(pairs["aA"], pairs["Aa"]) / 2


def _repeats(value: str) -> bool:
    return len(set(value)) <= 2


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out the punctuation that ends a sentence or a list."""
    while end > start and text[end - 1] in ".,;:)]}*":
        end -= 1
    return start, end
