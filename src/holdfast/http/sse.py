"""Server-sent events (WHATWG HTML, section 9.2), parsed from bytes cut anywhere."""

import msgspec

from holdfast.errors import MalformedResponse

MAX_EVENT = 16 * 2**20
_BOM = b"\xef\xbb\xbf"
_CR, _LF = b"\r\n"  # as numbers: they are found four times as fast as bytes are


class ServerSentEvent(msgspec.Struct, frozen=True):
    """`data` is the data lines joined by newlines, undecoded; `name` is empty where the stream names none."""

    data: bytes
    name: bytes = b""


class SSEParser:
    """Parses one stream, in time linear in its length.

    Fields other than data and event are ignored. An event or a line above `limit` bytes is refused.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._partial = bytearray()  # a line without its end
        self._data: list[bytes] = []  # the data lines of an event without its end
        self._name = b""
        self._size = 0  # bytes in these
        self._start: bytes | None = b""  # what may be the beginning of a byte order mark
        self._after_cr = False
        self._between = False  # whether the next byte begins an event, whatever it is

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that `data` completes. Raises MalformedResponse when one is too long."""
        if self._between and data.startswith(b"data: ") and data.endswith(b"\n\n"):
            size = len(data)
            if data.find(b"\n") == size - 2 and size <= self._limit and _CR not in data:  # a single event, as most are
                return [ServerSentEvent(data[6:-2])]
        events: list[ServerSentEvent] = []
        self._feed(data, events)
        self._between = not (self._size or self._name or self._after_cr) and self._start is None
        return events

    def _feed(self, data: bytes, events: list[ServerSentEvent]) -> None:
        if self._start is not None:
            data = self._skip_bom(data)
        if self._after_cr or _CR in data:
            data = self._normalized(data)
        if self._size or self._name or not data.endswith(b"\n\n") or len(data) > self._limit:
            self._lines(data, events)
            return
        for block in data[:-2].split(b"\n\n"):
            self._block(block, events)

    def end(self) -> list[ServerSentEvent]:
        """Return the event that the end of the stream completes. (By the standard it would be dropped.)"""
        return self.feed(b"\n\n")

    def _block(self, block: bytes, events: list[ServerSentEvent]) -> None:
        """Take a whole event, of which the usual shapes need no state."""
        if block.startswith(b"data: ") and _LF not in block:
            events.append(ServerSentEvent(block[6:]))
            return
        if block.startswith(b"event: "):
            name, _, data = block[7:].partition(b"\n")
            if data.startswith(b"data: ") and _LF not in data:
                events.append(ServerSentEvent(data[6:], name))
                return
        self._lines(block + b"\n\n", events)

    def _lines(self, data: bytes, events: list[ServerSentEvent]) -> None:
        lines = data.split(b"\n")
        last = lines.pop()
        if lines and self._partial:
            lines[0] = self._whole(lines[0])
        for line in lines:
            if line:
                self._line(line)
            else:
                self._dispatch(events)
        if last:
            self._partial += last
            self._grow(len(last))

    def _whole(self, end: bytes) -> bytes:
        line = bytes(self._partial) + end
        self._size -= len(self._partial)
        self._partial.clear()
        return line

    def _line(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._grow(len(value) + 1)
        elif field == b"event":
            self._name = value.removeprefix(b" ")
            self._grow(len(value) + 1)

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._data:
            events.append(ServerSentEvent(b"\n".join(self._data), self._name))
            self._data.clear()
        self._name = b""
        self._size = 0

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise MalformedResponse(f"The provider sent an event longer than {self._limit} bytes.")

    def _skip_bom(self, data: bytes) -> bytes:
        data = (self._start or b"") + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _normalized(self, data: bytes) -> bytes:
        """Return `data` with LF line ends. A CR ends its line at once, so an LF after it may have to be dropped."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
