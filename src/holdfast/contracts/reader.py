"""Reads one JSON value that may have mistakes, in one pass and without recursion, and notes what would mend them.

Where a text can be read as JSON it is read as JSON: a quote ends its string if what follows can follow a string there.
A quote that is followed by anything else stands inside the string. What can't be decided so is a `Broken`.
"""

import re
from typing import Literal

from holdfast.contracts.ledger import Kind, replay_part
from holdfast.contracts.scalars import coerced_to, content_of, escaped, quoted, spelling
from holdfast.contracts.shape import ANY, Shape
from holdfast.contracts.source import Broken, Source
from holdfast.events import Repair

MAX_DEPTH = 200
_MAX_KEY = 200
_MAX_COMMENT = 1000

Role = Literal["key", "member", "element", "whole"]
"""Where a string stands: before a colon, after one, in an array, or alone."""

_SPACE = re.compile(r"\s*")
_GAP = re.compile(rf"(?:\s++|(?://|\#)[^\n]{{0,{_MAX_COMMENT}}}+|/\*(?:[^*]|\*(?!/)){{0,{_MAX_COMMENT}}}+\*/)*+")
_GAP_OF_NO_STRING = re.compile(
    rf'(?:\s++|(?://|\#)[^\n"]{{0,{_MAX_COMMENT}}}+(?!")|/\*(?:[^*"]|\*(?!/)){{0,{_MAX_COMMENT}}}+\*/)*+'
)
"""With comments that hold no quote: what follows a quote and holds another may be a string that goes on."""
_CLOSERS = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“"}
_PLAIN = {close: re.compile(rf'[^"\\{close}\x00-\x1f]*+') for close in _CLOSERS.values()}
_NAME = re.compile(r"[A-Za-z_$][\w$-]{0,199}")
_KEY = re.compile(rf'"((?:[^"\\\n]|\\.){{0,{_MAX_KEY}}}+)"\s*+:')
_OTHER_KEY = re.compile(rf"(?:'[^'\n]{{0,{_MAX_KEY}}}+'|“[^”\n]{{0,{_MAX_KEY}}}+”|[A-Za-z_$][\w$-]{{0,199}}+)\s*+:")
_SEAM = re.compile(r"\s*+\+\s*+")
_NEXT_MEMBER = re.compile(r"""\s*+(?:(?:[,;]\s*+)?(?:[A-Za-z_$][\w$-]{0,199}+\s*+)?:\s*+["']|//|/\*|\#)""")
_NEXT_STRING = re.compile(r"""\s*+(?:[,;]\s*+)?["'`“„]|\s*+(?://|/\*|\#)""")
_NUMBER = re.compile(r"[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?+")
_WORD = re.compile(r"[A-Za-z_]++")
_LITERALS = {
    "true": "true", "True": "true", "TRUE": "true",
    "false": "false", "False": "false", "FALSE": "false",
    "null": "null", "Null": "null", "NULL": "null", "None": "null",
}  # fmt: skip
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_TRIPLE = re.compile(r'(?:[^"\\]++|\\.|"(?!""))*+"""', re.DOTALL)
_TWO_MEMBERS = re.compile(rf'"\s*+,\s*+"[^"\n]{{0,{_MAX_KEY}}}+"\s*+:')
_ELEMENT = re.compile(r"""["'`“„\]{\[\-/#\dtfnTFN]|$""")
_BARE_STOP = re.compile(r"[()\[\]{},\n]|\s//|```")


class _Frame:
    """An open bracket."""

    __slots__ = ("close", "key", "keys", "shape")

    def __init__(self, close: str, shape: Shape) -> None:
        self.close, self.shape = close, shape
        self.keys: set[str] = set()
        self.key = ""

    def inner(self) -> Shape:
        return self.shape.at(self.key) if self.close == "}" else self.shape.item()


class Reader:
    """Reads the value that starts at `start`; `read` returns where it ends."""

    def __init__(self, source: Source, shape: Shape = ANY, start: int = 0) -> None:
        self.source, self.text = source, source.text
        self.shape, self.start = shape, start
        self.repairs: list[Repair] = []
        self.begun = False
        """Whether enough was read to know that this is JSON and not prose with a bracket."""
        self._frames: list[_Frame] = []
        self._strict_quotes = False
        self._twice: Broken | None = None

    def read(self) -> int:
        at = self._value(self.start)
        while self._frames:
            at = self._after(at)
        if self._twice and self.repairs:  # else it is what the model wrote, and valid
            raise self._twice
        return at

    def _mend(self, kind: Kind, start: int, end: int, after: str) -> None:
        self.source.step(start)
        self.repairs.append(Repair(kind, start, self.text[start:end], after))

    # What stands between values

    def _skip(self, at: int) -> int:
        """Return where the next token is, and take out the comments before it."""
        end = self._gap(at, _GAP)
        position = _SPACE.match(self.text, at, end).end()  # type: ignore[union-attr]
        while position < end:
            stop = self._comment_end(position, end)
            self._mend("comment", position, stop, "")
            position = _SPACE.match(self.text, stop, end).end()  # type: ignore[union-attr]
        return end

    def _comment_end(self, at: int, end: int) -> int:
        block = self.text.startswith("/*", at)
        stop = self.text.find("*/" if block else "\n", at, end)
        return end if stop < 0 else stop + 2 * block

    def _gap(self, at: int, gap: re.Pattern[str] = _GAP_OF_NO_STRING) -> int:
        return gap.match(self.text, at).end()  # type: ignore[union-attr]

    def _ends(self, at: int) -> bool:
        """Whether nothing more comes, or the code fence closes."""
        return at >= len(self.text) or self.text.startswith("```", at)

    def _fault(self, at: int, message: str) -> Broken:
        if self._ends(at):
            return Broken("cut", min(at, len(self.text)), f"the text ends where {message}")
        return Broken("malformed", at, f"{message[0].upper()}{message[1:]}, not {self.text[at : at + 20]!r}")

    def _after(self, value_end: int) -> int:
        """Read what follows a value inside a bracket, up to the end of the next value or of the bracket."""
        self.begun = True
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
            return bool(_KEY.match(self.text, at) or _OTHER_KEY.match(self.text, at))
        return self.text[at] in "{[" and self.text[value_end - 1] in "}]"

    def _after_comma(self, comma: int) -> int:
        frame = self._frames[-1]
        at = self._skip(comma + 1)
        if self.text[at : at + 1] != frame.close:
            return self._next(at)
        self._mend_before("trailing_comma", comma, comma + 1, "")
        return self._close(at)

    def _mend_before(self, kind: Kind, start: int, end: int, after: str) -> None:
        """Change something that comes before comments which were taken out already."""
        comments = self._take_back_comments(end)
        self._mend(kind, start, end, after)
        self.repairs += comments

    def _take_back_comments(self, at: int) -> list[Repair]:
        first = len(self.repairs)
        while first and self.repairs[first - 1].kind == "comment" and self.repairs[first - 1].offset >= at:
            first -= 1
        comments = self.repairs[first:]
        del self.repairs[first:]
        return comments

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
        if frame.key in frame.keys:
            self._twice = Broken("ambiguous", at, f"the key {frame.key[:50]!r} is there twice")
        frame.keys.add(frame.key)
        self.begun = True
        return self._value(self._skip(at + 1))

    def _key(self, at: int) -> int:
        frame = self._frames[-1]
        if self.text[at : at + 1] in _CLOSERS:
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
        if char in _CLOSERS:
            end = self._string(at, "whole" if frame is None else "member" if frame.close == "}" else "element")
        else:
            end = self._scalar(at, shape)
        if shape.choices or not shape.allows("string"):
            self._coerce(at, end, shape, before)
        return end

    def _open(self, at: int, close: str, shape: Shape) -> int:
        if len(self._frames) >= MAX_DEPTH:
            raise Broken("too_deep", at, f"brackets are nested deeper than {MAX_DEPTH}")
        self._frames.append(_Frame(close, shape))
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
        next = self._gap(at, _GAP)
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

    # Strings

    def _coerce(self, start: int, end: int, shape: Shape, before: int) -> None:
        """Write a string as what the contract asks for, where that says the same. `before`: the repairs before it."""
        written = replay_part(self.text, self.repairs[before:], start, end)
        content = content_of(written)
        coerced = None if content is None else coerced_to(content, shape)
        if coerced is not None:
            del self.repairs[before:]
            self._mend(coerced[0], start, end, coerced[1])

    def _string(self, start: int, role: Role) -> int:
        """Read a string; return where it ends."""
        text = self.text
        opened = text[start]
        if opened == '"' and text.startswith('"""', start) and role != "key":
            return self._triple(start)
        close = _CLOSERS[opened]
        if opened != '"':
            self._mend("quotes", start, start + 1, '"')
        plain, at, odd = _PLAIN[close], start + 1, False
        while (at := plain.match(text, at).end()) < len(text):  # type: ignore[union-attr]
            char = text[at]
            self.source.step(at)
            if char == "\\":
                at = self._escape(at, close)
            elif char < " ":
                at = self._control(at)
            elif char == close and self._closes(at, role, odd):
                if close != '"':
                    self._mend("quotes", at, at + 1, '"')
                return at + 1
            elif char == close and role != "key" and (seam := self._seam(at, opened)):
                self._mend("joined", at, seam, "")
                at = seam
            elif char == close and role == "member" and self._begins_wanted(at):
                return self._close_string(start, at)
            elif role == "key" and self._ends(self._gap(at + 1)):
                raise Broken("cut", len(text), "the text ends after a key")
            elif role == "key" or self._strict_quotes or (char == close and self._may_end(at, role)):
                raise self._undecided(start, at)
            else:
                if char == '"':
                    self._mend("inner_quote", at, at + 1, '\\"')
                odd, at = odd or char == close, at + 1
        raise Broken("cut", len(text), f"the text ends inside the string that begins at {start}")

    def _may_end(self, at: int, role: Role) -> bool:
        """Whether a quote that doesn't end its string by the rules may be meant to, or begins something else."""
        text = self.text
        if role == "element":
            return bool(_NEXT_STRING.match(text, at + 1))
        key = _KEY.match(text, at)
        return text.startswith('"', self._gap(key.end())) if key else bool(_NEXT_MEMBER.match(text, at + 1))

    def _undecided(self, start: int, at: int) -> Broken:
        """Refuse to read a quote. Where an object seems to begin with it, that is where reading may go on."""
        content = self.text[start + 1 : at].rstrip()
        at = start + len(content) if content.endswith("{") else at
        return Broken("ambiguous", at, f"the quote may end the string that begins at {start}, or stand in it")

    def _triple(self, start: int) -> int:
        whole = _TRIPLE.match(self.text, start + 3)
        if whole is None:
            raise Broken("cut", len(self.text), f"the text ends inside the string that begins at {start}")
        end = whole.end() - 3
        if self.text[self._gap(start + 3)] in ",:]}" or _TWO_MEMBERS.search(self.text, start + 3, end):
            raise self._undecided(start, start + 2)
        self._mend("quotes", start, start + 3, '"')
        at = start + 3
        while (at := _PLAIN['"'].match(self.text, at, end).end()) < end:  # type: ignore[union-attr]
            self.source.step(at)
            if self.text[at] == "\\":
                at = self._escape(at, '"')
            elif self.text[at] == '"':
                self._mend("inner_quote", at, at + 1, '\\"')
                at += 1
            else:
                at = self._control(at)
        self._mend("quotes", end, end + 3, '"')
        return end + 3

    def _control(self, at: int) -> int:
        char = self.text[at]
        self._mend("control", at, at + 1, escaped(char))
        return at + 1

    def _escape(self, at: int, close: str) -> int:
        char = self.text[at + 1 : at + 2]
        if not char:
            raise Broken("cut", len(self.text), "the text ends inside an escape")
        if char in '"\\/' or (char == "u" and _HEX.match(self.text, at + 2)):
            return at + 2
        if char in "bfnrt" and not (self.source.is_foreign(at)):
            return at + 2
        if char in ("'", close):
            self._mend("escape", at, at + 2, char)
            return at + 2
        self._mend("escape", at, at + 1, "\\\\")
        return at + 1

    def _closes(self, at: int, role: Role, odd: bool) -> bool:
        """Whether a quote ends its string. `odd`: quotes that don't were seen in it, so it takes more to believe."""
        text = self.text
        next = self._gap(at + 1)
        if role == "key":
            return text.startswith(":", next)
        if self._ends(next):
            return not odd
        if role == "whole":
            return False
        char = text[next]
        if char == "," and role == "member":
            return self._begins_member(next + 1)
        if char == ",":
            return not odd and bool(_ELEMENT.match(text, self._gap(next + 1)))
        if char in "}]":
            return self._may_close(char, role) and (not odd or self._ends_line(next + 1))
        return role == "member" and char == '"' and self._begins_key(at + 1, next)

    def _may_close(self, char: str, role: Role) -> bool:
        close = "}" if role == "member" else "]"
        return char == close or (len(self._frames) > 1 and self._frames[-2].close == char)

    def _begins_member(self, at: int) -> bool:
        """Whether what follows a comma is a key, or the end of the object."""
        next = self._gap(at)
        return (
            self._ends(next)
            or self.text[next] == "}"
            or bool(_KEY.match(self.text, next) or _OTHER_KEY.match(self.text, next))
        )

    def _begins_key(self, value_end: int, at: int) -> bool:
        """Whether a key follows a string without a comma: on a line of its own, or one that is wanted here."""
        key = _KEY.match(self.text, at)
        return key is not None and ("\n" in self.text[value_end:at] or key[1] in self._frames[-1].shape.keys)

    def _ends_line(self, at: int) -> bool:
        next = self._gap(at)
        return self._ends(next) or self.text[next] in ",}]" or "\n" in self.text[at:next]

    def _seam(self, at: int, quote: str) -> int:
        """Return where the next literal's content begins if a string goes on in it, else 0."""
        seam = _SEAM.match(self.text, at + 1)
        return seam.end() + 1 if seam and self.text.startswith(quote, seam.end()) else 0

    def _begins_wanted(self, at: int) -> bool:
        """Whether a key that is wanted and missing begins here, in a string that was not closed before it."""
        key = _KEY.match(self.text, at)
        frame = self._frames[-1]
        return key is not None and key[1] in frame.shape.keys and key[1] not in frame.keys

    def _close_string(self, start: int, at: int) -> int:
        """Close a string before the key that begins here."""
        content = self.text[start + 1 : at].rstrip()
        if not content or content[-1] in "{[\\":
            raise self._undecided(start, at)
        end = start + 1 + len(content) - content.endswith(",")
        while self.repairs and self.repairs[-1].offset >= end:
            self.repairs.pop()
        self._mend("closed_string", end, end, '"')
        self._strict_quotes = True
        return end
