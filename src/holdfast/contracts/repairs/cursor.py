"""A place in a text that holds JSON with mistakes: the brackets open there, and the repairs made so far."""

import re

from holdfast.contracts.ledger import Kind
from holdfast.contracts.repairs.source import Broken, Source
from holdfast.contracts.shape import Shape
from holdfast.events import Repair

MAX_KEY = 200
_MAX_COMMENT = 1000

_SPACE = re.compile(r"\s*")
GAP = re.compile(rf"(?:\s++|(?://|\#)[^\n]{{0,{_MAX_COMMENT}}}+|/\*(?:[^*]|\*(?!/)){{0,{_MAX_COMMENT}}}+\*/)*+")
_GAP_OF_NO_STRING = re.compile(
    rf'(?:\s++|(?://|\#)[^\n"]{{0,{_MAX_COMMENT}}}+(?!")|/\*(?:[^*"]|\*(?!/)){{0,{_MAX_COMMENT}}}+\*/)*+'
)
"""With comments that hold no quote: what follows a quote and holds another may be a string that goes on."""
KEY = re.compile(rf'"((?:[^"\\\n]|\\.){{0,{MAX_KEY}}}+)"\s*+:')
OTHER_KEY = re.compile(rf"(?:'[^'\n]{{0,{MAX_KEY}}}+'|“[^”\n]{{0,{MAX_KEY}}}+”|[A-Za-z_$][\w$-]{{0,199}}+)\s*+:")

_CUT_KEY = re.compile(rf"""(?:"(?:[^"\\\n]|\\.){{0,{MAX_KEY}}}+(?:\\|"\s*+)?|'[^'\n]{{0,{MAX_KEY}}}+'?\s*+)\Z""")
"""A key with nothing after it: the text was cut there."""


class Frame:
    """An open bracket."""

    __slots__ = ("close", "key", "keys", "shape")

    def __init__(self, close: str, shape: Shape) -> None:
        self.close, self.shape = close, shape
        self.keys: set[str] = set()
        self.key = ""

    def inner(self) -> Shape:
        return self.shape.at(self.key) if self.close == "}" else self.shape.item()


class Cursor:
    """What reading all parts of a value has in common."""

    def __init__(self, source: Source) -> None:
        self.source, self.text = source, source.text
        self.repairs: list[Repair] = []
        self._frames: list[Frame] = []

    def _mend(self, kind: Kind, start: int, end: int, after: str) -> None:
        self.source.step(start)
        self.repairs.append(Repair(kind, start, self.text[start:end], after))

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

    def _skip(self, at: int) -> int:
        """Return where the next token is, and take out the comments before it."""
        end = self._gap(at, GAP)
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

    def _begins_member(self, at: int) -> bool:
        """Whether what follows a comma is a key, or the end of the object."""
        next = self._gap(at)
        return (
            self._ends(next)
            or self.text[next] == "}"
            or any(key.match(self.text, next) for key in (KEY, OTHER_KEY, _CUT_KEY))
        )
