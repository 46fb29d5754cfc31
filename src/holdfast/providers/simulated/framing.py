"""A plan as timed writes to a socket: HTTP/1.1 framing, and which pieces leave together."""

from http import HTTPStatus
from typing import NamedTuple

from holdfast.providers.simulated.plan import Plan

LAST_CHUNK = b"0\r\n\r\n"
LARGEST_WRITE = 64 * 2**10


class Frame(NamedTuple):
    """Bytes to write `at` seconds after the request; `size` and `tokens` count what they hold of the body."""

    at: float
    data: bytes
    size: int
    tokens: int


def frames(plan: Plan) -> list[Frame]:
    """Turn a plan into writes. A plan without a head has none."""
    if not plan.head:
        return []
    writes = _Writes(plan.head_wait)
    writes.add(_head(plan))
    late = plan.late_head
    for piece in plan.pieces:
        if piece.wait:
            writes.pause(piece.wait, leave=not late)
        late = late and not piece.data
        if piece.data:
            writes.add(_chunk(piece.data) if plan.framing == "chunked" else piece.data)
        writes.count(len(piece.data), piece.tokens)
    if plan.framing == "chunked" and plan.ending == "complete":
        writes.add(LAST_CHUNK)
    writes.leave()
    return writes.done


class _Writes:
    """Gathers what leaves together, up to a size at which a client that doesn't read can still stop the rest."""

    def __init__(self, at: float) -> None:
        self.done: list[Frame] = []
        self._at = at
        self._data: list[bytes] = []
        self._length = self._size = self._tokens = 0

    def add(self, data: bytes) -> None:
        self._data.append(data)
        self._length += len(data)

    def count(self, size: int, tokens: int) -> None:
        self._size += size
        self._tokens += tokens
        if self._length > LARGEST_WRITE:
            self.leave()

    def pause(self, wait: float, *, leave: bool) -> None:
        if leave:
            self.leave()
        self._at += wait

    def leave(self) -> None:
        if self._data or self._tokens:
            self.done.append(Frame(self._at, b"".join(self._data), self._size, self._tokens))
        self._data = []
        self._length = self._size = self._tokens = 0


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _head(plan: Plan) -> bytes:
    headers = list(plan.headers)
    if plan.framing == "chunked":
        headers.append(("transfer-encoding", "chunked"))
    elif plan.framing == "length":
        headers.append(("content-length", str(plan.declared if plan.declared is not None else len(plan.body))))
    else:
        headers.append(("connection", "close"))
    lines = "".join([f"{name}: {_clean(value)}\r\n" for name, value in headers])
    return f"HTTP/1.1 {plan.status} {_reason(plan.status)}\r\n{lines}\r\n".encode("latin-1", "replace")


def _clean(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded" if status == 529 else "Unknown"
