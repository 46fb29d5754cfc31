"""What will be sent, as data: a response in pieces with waits between them, which faults then damage.

Nothing here does I/O, so every fault can be seen in a unit test to the byte.
"""

import re
from typing import Literal

import msgspec

from holdfast.providers.base import Wire

BEFORE_HEADERS = -1
"""The offset of what happens before the first byte of the response."""
_POSITION = re.compile(r"(\d+)([beu]?)")
_EVENT = re.compile(rb"(?s)(.+?)(?:\r\n\r\n|\n\n|\r\r|\Z)")
_UNITS: dict[str, "Unit"] = {"": "tokens", "b": "bytes", "e": "event", "u": "character"}
Unit = Literal["start", "tokens", "bytes", "event", "character", "end"]


class Position(str):
    """A place in a response, written as in the table below. One that a short response never reaches is its end.

    "start" is before the headers, "0" after them, "12" after twelve tokens, "300b" after 300 bytes of the body, "3e" in
    the middle of the third event, "12u" inside the first character of several bytes after twelve tokens, "end" after
    the last token and before whatever closes the answer.
    """

    __slots__ = ("amount", "unit")

    unit: Unit
    amount: int

    def __new__(cls, text: str) -> "Position":
        return cls.parse(text)

    @classmethod
    def parse(cls, text: object) -> "Position":
        """Raise ValueError if `text` is not a position. A plain number counts tokens."""
        written = str(text).strip() if isinstance(text, str | int) and not isinstance(text, bool) else ""
        self = str.__new__(cls, written)
        self.amount = 0
        match = _POSITION.fullmatch(written)
        if written == "start" or written == "end":
            self.unit = "start" if written == "start" else "end"
        elif match is None:
            raise ValueError(
                f'expected a position such as 12 (tokens), "300b" (bytes), "3e" (mid-event), "12u" (mid-character), '
                f'"start" or "end", got {text!r}'
            )
        else:
            self.amount, self.unit = int(match[1]), _UNITS[match[2]]
        return self


class Piece(msgspec.Struct):
    """Bytes of the body that leave together, `wait` seconds after the piece before, completing `tokens` tokens."""

    data: bytes
    tokens: int = 0
    wait: float = 0.0


class Plan(msgspec.Struct, kw_only=True):
    """A response: what is said and how it ends.

    `head` False means that not even the status line is sent, `head_wait` is a silence before it, `late_head` makes it
    wait for the first piece. `declared` is a
    Content-Length to announce in place of the true one. `ending` says what follows the last piece: the end of the
    message, a closed connection (FIN), a reset one (RST), or nothing ever. `keep_alive` False closes the connection
    after a complete response.
    """

    wire: Wire
    status: int = 200
    headers: list[tuple[str, str]]
    pieces: list[Piece]
    stream: bool = False
    framing: Literal["length", "chunked", "close"] = "length"
    ending: Literal["complete", "cut", "reset", "hold"] = "complete"
    head: bool = True
    head_wait: float = 0.0
    late_head: bool = False
    declared: int | None = None
    keep_alive: bool = True

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join([piece.data for piece in self.pieces])

    @property
    def tokens(self) -> int:
        """The number of tokens in the body."""
        return sum([piece.tokens for piece in self.pieces])

    def replace_body(self, body: bytes) -> None:
        """Put another body into the place of the whole one, at the time of its first piece."""
        self.pieces = [Piece(body, self.tokens, self.pieces[0].wait if self.pieces else 0.0)]

    def truncate(self, offset: int) -> None:
        """Drop everything from `offset` on; BEFORE_HEADERS drops the headers too."""
        self.declared = self.declared if self.declared is not None else len(self.body)
        if offset == BEFORE_HEADERS:
            self.head, self.pieces = False, []
        else:
            del self.pieces[self.split(offset) :]

    def split(self, offset: int) -> int:
        """Cut the piece that `offset` falls into, and return the index of the piece that begins there."""
        seen = 0
        for index, piece in enumerate(self.pieces):
            if offset <= seen:
                return index
            if offset < seen + len(piece.data):
                before, after = piece.data[: offset - seen], piece.data[offset - seen :]
                self.pieces[index : index + 1] = [Piece(before, 0, piece.wait), Piece(after, piece.tokens)]
                return index + 1
            seen += len(piece.data)
        return len(self.pieces)

    def offset(self, position: Position) -> int:
        """Return the number of body bytes before `position`.

        Where an answer is not streamed its tokens are not separate: `12` is then the same share of the body, and the
        last byte is never before the position.
        """
        if position.unit == "start":
            return BEFORE_HEADERS
        if not self.stream:
            return min(self._whole_offset(position), max(len(self.body) - 1, 0))
        if position.unit == "bytes":
            return min(position.amount, len(self.body))
        if position.unit == "event":
            return self._mid_event(position.amount)
        after = self._token_offset(self.tokens if position.unit == "end" else position.amount)
        return self._mid_character(after) if position.unit == "character" else after

    def _whole_offset(self, position: Position) -> int:
        size = len(self.body)
        if position.unit == "bytes":
            return position.amount
        if position.unit == "event":
            return size // 2
        if position.unit == "end":
            return size
        after = size * min(position.amount, self.tokens) // max(self.tokens, 1)
        return self._mid_character(after) if position.unit == "character" else after

    def _token_offset(self, tokens: int) -> int:
        if tokens == 0:
            return 0
        seen, size, last = 0, 0, 0
        for piece in self.pieces:
            seen, size = seen + piece.tokens, size + len(piece.data)
            last = size if piece.tokens else last
            if seen >= tokens:
                return size
        return last

    def _mid_event(self, number: int) -> int:
        events = list(_EVENT.finditer(self.body))
        if not events:
            return 0
        begin, end = events[min(max(number, 1), len(events)) - 1].span(1)
        return begin + (end - begin) // 2

    def _mid_character(self, offset: int) -> int:
        body = self.body
        return next((at + 1 for at in range(offset, len(body)) if body[at] >= 0xC0), offset)
