"""Whether a string that was recovered from a text is what stands there, and nothing else.

It knows nothing of how the repair works: a value has to be found in the text, after its key and a colon, from the
quote that opens it to one that closes it, character by character. Only escapes may be read.
"""

import json
import re
from collections.abc import Iterator
from typing import Final, Literal

Origin = Literal["as JSON reads it", "backslashes kept", "never closed", "without quotes", "joined by +"]
"""How a string stands in a text. "As JSON reads it": raw control characters and quotes inside it may be there.
"Backslashes kept": some are no escapes, as in LaTeX. "Never closed": the next key follows where a quote should."""

_CLOSED_BY: Final = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}
_AFTER: Final = re.compile(r"""\s*+(?:,\s*+)?(?:["'“]?[A-Za-z_][\w -]*+["'”]?\s*+:|[}\])]|```|//|/\*|#|\Z)""")
"""What comes after the closing quote of a member: the next key, or the end of the object, a comment before it maybe."""
_NEXT_KEY: Final = re.compile(r"""\s*+["'“][A-Za-z_][\w -]*+["'”]\s*+:""")
_AFTER_BARE: Final = re.compile(r"\s*+(?:[,}\]\n]|//|/\*|#|\Z)")
_SEAM: Final = re.compile(r'"\s*+\+\s*+"')
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_UNICODE: Final = re.compile(r"\\u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?")
_INNER_QUOTE: Final = re.compile(r'(\\.)|"', re.DOTALL)


def origin(value: str, key: str, text: str) -> Origin | None:
    """Return how a text says that the value of a key is this string. None: it doesn't."""
    if found := _found(value, key, text):
        return found
    return "joined by +" if _SEAM.search(text) and _found(value, key, _SEAM.sub("", text)) else None


def _found(value: str, key: str, text: str) -> Origin | None:
    found: set[Origin] = set()
    for named in re.finditer(rf"""["'“`]?{re.escape(key)}["'”`]?\s*+:\s*+""", text):
        start = named.end()
        closing = _CLOSED_BY.get(text[start : start + 1])
        if closing is None:
            end = start + len(value)
            if value and text.startswith(value, start) and _AFTER_BARE.match(text, end):
                found.add("without quotes")
            continue
        for end in _ends(value, text, start + 1):
            if text[end : end + 1] == closing and _AFTER.match(text, end + 1):
                as_json = _as_json(text[start + 1 : end]) == value
                found.add("as JSON reads it" if as_json else "backslashes kept")
            elif _NEXT_KEY.match(text, end):
                found.add("never closed")
    order: tuple[Origin, ...] = ("as JSON reads it", "backslashes kept", "never closed", "without quotes")
    return next((one for one in order if one in found), None)


def _ends(value: str, text: str, start: int) -> set[int]:
    """Return where a value can end in a text that says it from `start` on, each backslash an escape or itself."""
    ends = {start}
    for char in value:
        ends = {after for at in ends for after in _after(char, text, at)}
    return ends


def _after(char: str, text: str, at: int) -> Iterator[int]:
    here = text[at : at + 1]
    if here == char:
        yield at + 1
    if here != "\\":
        return
    if escape := _UNICODE.match(text, at):
        pair = escape[2] and (int(escape[1], 16) - 0xD800) * 0x400 + int(escape[2], 16) - 0xDC00 + 0x10000
        if pair and 0x10000 <= pair <= 0x10FFFF and chr(pair) == char:
            yield escape.end()
        elif chr(int(escape[1], 16)) == char:
            yield at + 6
    elif _ESCAPES.get(text[at + 1 : at + 2], text[at + 1 : at + 2]) == char:
        yield at + 2


def _as_json(raw: str) -> str | None:
    """Return what JSON reads between two quotes, raw control characters and quotes among it allowed. None: nothing."""
    quoted = _INNER_QUOTE.sub(lambda found: found[1] or '\\"', raw)
    try:
        read: str = json.loads(f'"{quoted}"', strict=False)
    except ValueError:
        return None
    return read
