"""Reads one JSON value that may have mistakes, in one pass and without recursion, and notes what would mend them.

Where a text can be read as JSON it is read as JSON: a quote ends its string if what follows can follow a string there.
A quote that is followed by anything else stands inside the string. What can't be decided so is a `Broken`.
"""

import re
from collections.abc import Collection

from holdfast.contracts.ledger import Lossy, replay_part
from holdfast.contracts.repairs.cursor import GAP, KEY, OTHER_KEY, Frame
from holdfast.contracts.repairs.scalars import coerced_to, content_of, is_other, quoted, spelling
from holdfast.contracts.repairs.source import Broken, Source
from holdfast.contracts.repairs.strings import CLOSERS, StringReader
from holdfast.contracts.shape import ANY, Shape

MAX_DEPTH = 200

_NAME = re.compile(r"[A-Za-z_$][\w$-]{0,199}")
_NUMBER = re.compile(r"[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?+")
_WORD = re.compile(r"[A-Za-z_]++")
_LITERALS = {
    "true": "true", "True": "true", "TRUE": "true",
    "false": "false", "False": "false", "FALSE": "false",
    "null": "null", "Null": "null", "NULL": "null", "None": "null",
}  # fmt: skip
_WHOLE_ESCAPES = re.compile(
    r"(?:[^\\]++|\\[^u]|\\u(?!(?:[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?|[0-9a-fA-F]{0,3})\Z))*+",
    re.DOTALL,
)
"""All but what may be left, at the end of a text, of an escape, or of the two that make one character."""
_BARE_STOP = re.compile(r"[()\[\]{},\n]|\s//|```")


class Reader(StringReader):
    """Reads the value that starts at `start`; `read` returns where it ends."""

    def __init__(
        self, source: Source, shape: Shape = ANY, start: int = 0, allow: Collection[Lossy] = frozenset()
    ) -> None:
        super().__init__(source)
        self.shape, self.start = shape, start
        self.begun = False
        """Whether enough was read to know that this is JSON and not prose with a bracket."""
        self._allow = allow
        self._twice: Broken | None = None
        self._whole = (start, 0)
        """Up to where the value could be ended, and the repairs up to there."""
        self._string_under_way: tuple[int, int, Shape] | None = None
        """Where a string began that is a value, the repairs before it, and what is wanted there."""

    def read(self) -> int:
        at = self._value(self.start)
        while self._frames:
            at = self._after(at)
        if self._twice and self.repairs:  # else it is what the model wrote, and valid
            raise self._twice
        return at

    def complete(self) -> bool:
        """End a value that was cut: its string where it stops, else after the last value that is whole."""
        in_doubt = self._string_under_way is not None and self._odd
        if self._twice or in_doubt or self.text.rstrip().endswith("```"):
            return False
        closing = "".join(frame.close for frame in reversed(self._frames))
        if self._string_under_way and (end := self._string_end(*self._string_under_way)) is not None:
            self._cut_off(end, f'"{closing}')
            return True
        end, repairs = self._whole
        if not closing or "```" in self.text[end:]:
            return False
        del self.repairs[repairs:]
        self._cut_off(end, closing)
        return True

    def _cut_off(self, end: int, after: str) -> None:
        while self.repairs and self.repairs[-1].offset + len(self.repairs[-1].before) > end:
            self.repairs.pop()
        self._mend("complete", end, len(self.text), after)

    def _string_end(self, start: int, before: int, shape: Shape) -> int | None:
        """Return where a string that was cut ends, None where it isn't what is wanted."""
        if self.text.startswith('"""', start):
            return None
        end = _WHOLE_ESCAPES.match(self.text, start + 1).end()  # type: ignore[union-attr]
        made = [entry for entry in self.repairs[before:] if entry.offset + len(entry.before) <= end]
        content = content_of(replay_part(self.text, made, start, end) + '"')
        return None if content is None or is_other(content, shape) else end

    def _after(self, value_end: int) -> int:
        """Read what follows a value inside a bracket, up to the end of the next value or of the bracket."""
        self.begun = True
        self._whole = (value_end, len(self.repairs))
        at = self._skip(value_end)
        frame = self._frames[-1]
        char = self.text[at : at + 1]
        if char == ",":
            return self._after_comma(at)
        if char == frame.close:
            return self._close(at)
        if self._ends(at):
            return self._close_all(value_end)
        if char in "}]" and len(self._frames) > 1 and self._frames[-2].close == char:
            self._mend_before("closed", value_end, value_end, frame.close)
            self._frames.pop()
            return self._close(at)
        if self._needs_comma(value_end, at):
            self._mend_before("comma", value_end, value_end, ",")
            return self._next(at)
        raise self._fault(at, f"a comma or {frame.close} should follow")

    def _needs_comma(self, value_end: int, at: int) -> bool:
        if self._frames[-1].close == "}":
            return bool(KEY.match(self.text, at) or OTHER_KEY.match(self.text, at))
        return self.text[at] in "{[" and self.text[value_end - 1] in "}]"

    def _after_comma(self, comma: int) -> int:
        frame = self._frames[-1]
        at = self._skip(comma + 1)
        if self.text[at : at + 1] != frame.close:
            return self._next(at)
        self._mend_before("trailing_comma", comma, comma + 1, "")
        return self._close(at)

    def _close(self, at: int) -> int:
        self._frames.pop()
        return at + 1

    def _close_all(self, at: int) -> int:
        self._take_back_comments(at)  # they come after the value now
        self._mend("closed", at, at, "".join(frame.close for frame in reversed(self._frames)))
        self._frames.clear()
        return at

    def _next(self, at: int) -> int:
        """Read the next member or element."""
        frame = self._frames[-1]
        if frame.close == "]":
            return self._value(at)
        at = self._skip(self._key(at))
        if self.text[at : at + 1] != ":":
            raise self._fault(at, "a colon should follow the key")
        if frame.key in frame.keys and "duplicate_keys" not in self._allow:
            self._twice = Broken("ambiguous", at, f"the key {frame.key[:50]!r} is there twice")
        frame.keys.add(frame.key)
        self.begun = True
        return self._value(self._skip(at + 1))

    def _key(self, at: int) -> int:
        frame = self._frames[-1]
        if self.text[at : at + 1] in CLOSERS:
            end = self._string(at, "key")
            frame.key = self.text[at + 1 : end - 1]
            return end
        if name := _NAME.match(self.text, at):
            frame.key = name[0]
            self._mend("bare_key", at, name.end(), f'"{name[0]}"')
            return name.end()
        raise self._fault(at, "a key should stand")

    # Values

    def _value(self, at: int) -> int:
        """Read a value up to its end, or an open bracket up to the end of its first value."""
        self.source.step(at)
        frame = self._frames[-1] if self._frames else None
        shape = frame.inner() if frame else self.shape
        char = self.text[at : at + 1]
        if char in ("{", "["):
            return self._open(at, "}" if char == "{" else "]", shape)
        before = len(self.repairs)
        if char in CLOSERS:
            self._string_under_way = at, before, shape
            end = self._string(at, "whole" if frame is None else "member" if frame.close == "}" else "element")
            self._string_under_way = None
        else:
            end = self._scalar(at, shape)
        if shape.choices or not shape.allows("string"):
            self._coerce(at, end, shape, before)
        return end

    def _open(self, at: int, close: str, shape: Shape) -> int:
        if len(self._frames) >= MAX_DEPTH:
            raise Broken("too_deep", at, f"brackets are nested deeper than {MAX_DEPTH}")
        self._frames.append(Frame(close, shape))
        self._whole = (at + 1, len(self.repairs))
        inside = self._skip(at + 1)
        return self._close(inside) if self.text[inside : inside + 1] == close else self._next(inside)

    def _scalar(self, at: int, shape: Shape) -> int:
        if (number := _NUMBER.match(self.text, at)) and self._delimited(number.end()):
            return self._number(at, number.end(), shape)
        word = _WORD.match(self.text, at)
        if word and word[0] in _LITERALS and self._delimited(word.end(), may_end=True):
            if (literal := _LITERALS[word[0]]) != word[0]:
                self._mend("literal", at, word.end(), literal)
            return word.end()
        if shape.is_string and self._frames and self._frames[-1].close == "}":
            return self._bare(at)
        if max(match.end() if match else at for match in (number, word)) == len(self.text):
            raise Broken("cut", len(self.text), "the text ends where a value may go on")
        raise self._fault(at, "a value should stand")

    def _delimited(self, at: int, *, may_end: bool = False) -> bool:
        """Whether a scalar that ends here is followed by what may follow it. A number at the very end may be cut."""
        next = self._gap(at, GAP)
        char = self.text[next : next + 1]
        if char == "," and self._frames and self._frames[-1].close == "}":
            return self._begins_member(next + 1)
        if char and char in ",}]":
            return True
        if self._ends(next):
            return may_end or at < len(self.text) or not self._frames
        return next > at and self._needs_comma(at, next) if self._frames else False

    def _number(self, at: int, end: int, shape: Shape) -> int:
        written = self.text[at:end]
        if "string" in shape.types and not shape.allows("integer"):
            self._mend("number_to_string", at, end, f'"{written}"')
        elif (spelled := spelling(written)) is None:
            raise Broken("ambiguous", at, f"{written[:50]!r} is no number of JSON")
        elif spelled != written:
            self._mend("number", at, end, spelled)
        return end

    def _bare(self, at: int) -> int:
        """Read text without quotes up to the end of its member. It has to end on its line."""
        depth, end = 0, at
        while True:
            self.source.step(end)
            stop = _BARE_STOP.search(self.text, end)
            if stop is None:
                raise self._fault(len(self.text), "a value without quotes stands")
            if stop[0] in ("(", "[", "{"):
                depth += 1
            elif depth and stop[0] in (")", "]", "}"):
                depth -= 1
            elif stop[0] != ")" and self._ends_bare(stop, depth):
                break
            end = stop.end()
        written = self.text[at : stop.start()].rstrip()
        if not any(char.isalnum() for char in written):
            raise self._fault(at, "a value should stand")
        if written.count('"') % 2:
            raise Broken("ambiguous", at, "a quote is missing in this value, or one too many")
        self._mend("bare_string", at, at + len(written), quoted(written))
        return at + len(written)

    def _ends_bare(self, stop: re.Match[str], depth: int) -> bool:
        if stop[0] == ",":
            return not depth and self._begins_member(stop.end())
        if depth:
            raise Broken("malformed", stop.start(), "a bracket in a value without quotes is not closed on its line")
        return True

    def _coerce(self, start: int, end: int, shape: Shape, before: int) -> None:
        """Write a string as what the contract asks for, where that says the same. `before`: the repairs before it."""
        written = replay_part(self.text, self.repairs[before:], start, end)
        content = content_of(written)
        coerced = None if content is None else coerced_to(content, shape)
        if coerced is not None:
            del self.repairs[before:]
            self._mend(coerced[0], start, end, coerced[1])
