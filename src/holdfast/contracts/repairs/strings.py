"""Reads the strings of JSON that may have mistakes in them.

A quote ends its string if what follows can follow a string there. A quote that is followed by anything else stands
inside the string. What can't be decided so is a `Broken`.
"""

import re
from typing import Literal

from holdfast.contracts.repairs.cursor import KEY, MAX_KEY, Cursor
from holdfast.contracts.repairs.scalars import escaped
from holdfast.contracts.repairs.source import Broken

Role = Literal["key", "member", "element", "whole"]
"""Where a string stands: before a colon, after one, in an array, or alone."""

CLOSERS = {'"': '"', "'": "'", "`": "`", "“": "”", "„": "“"}
_PLAIN = {close: re.compile(rf'[^"\\{close}\x00-\x1f]*+') for close in CLOSERS.values()}
_SEAM = re.compile(r"\s*+\+\s*+")
_NEXT_MEMBER = re.compile(r"""\s*+(?:(?:[,;]\s*+)?(?:[A-Za-z_$][\w$-]{0,199}+\s*+)?:\s*+["']|//|/\*|\#)""")
_NEXT_STRING = re.compile(r"""\s*+(?:[,;]\s*+)?["'`“„]|\s*+(?://|/\*|\#)""")
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_TRIPLE = re.compile(r'(?:[^"\\]++|\\.|"(?!""))*+"""', re.DOTALL)
_TWO_MEMBERS = re.compile(rf'"\s*+,\s*+"[^"\n]{{0,{MAX_KEY}}}+"\s*+:')
_ELEMENT = re.compile(r"""["'`“„\]{\[\-/#\dtfnTFN]|$""")


class StringReader(Cursor):
    """Reads strings, as a part of reading the values that they stand in."""

    _strict_quotes = False
    _odd = False
    """Whether the last string had quotes that could have closed it and didn't."""

    def _string(self, start: int, role: Role) -> int:
        """Read a string; return where it ends."""
        text = self.text
        opened = text[start]
        if opened == '"' and text.startswith('"""', start) and role != "key":
            return self._triple(start)
        close = CLOSERS[opened]
        if opened != '"':
            self._mend("quotes", start, start + 1, '"')
        plain, at = _PLAIN[close], start + 1
        self._odd = False
        while (at := plain.match(text, at).end()) < len(text):  # type: ignore[union-attr]
            char = text[at]
            self.source.step(at)
            if char == "\\":
                at = self._escape(at, close)
            elif char < " ":
                at = self._control(at)
            elif char == close and self._closes(at, role, odd=self._odd):
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
                self._odd = self._odd or char == close
                at += 1
        raise Broken("cut", len(text), f"the text ends inside the string that begins at {start}")

    def _may_end(self, at: int, role: Role) -> bool:
        """Whether a quote that doesn't end its string by the rules may be meant to, or begins something else."""
        text = self.text
        if role == "element":
            return bool(_NEXT_STRING.match(text, at + 1))
        key = KEY.match(text, at)
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

    def _closes(self, at: int, role: Role, *, odd: bool) -> bool:
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

    def _begins_key(self, value_end: int, at: int) -> bool:
        """Whether a key follows a string without a comma: on a line of its own, or one that is wanted here."""
        key = KEY.match(self.text, at)
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
        key = KEY.match(self.text, at)
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
