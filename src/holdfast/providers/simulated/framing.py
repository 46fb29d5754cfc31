"""A plan as timed writes to a socket: HTTP/1.1 framing, and which pieces leave together."""

from http import HTTPStatus
from typing import NamedTuple

from holdfast.providers.simulated.plan import Plan

LAST_CHUNK = b"0\r\n\r\n"


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
    at, size, tokens = plan.head_wait, 0, 0
    data = [_head(plan)]
    done: list[Frame] = []
    late = plan.late_head
    for piece in plan.pieces:
        if piece.wait:
            if data and not late:
                done.append(Frame(at, b"".join(data), size, tokens))
                data, size, tokens = [], 0, 0
            at += piece.wait
        late = late and not piece.data
        if piece.data:
            data.append(_chunk(piece.data) if plan.framing == "chunked" else piece.data)
        size, tokens = size + len(piece.data), tokens + piece.tokens
    if plan.framing == "chunked" and plan.ending == "complete":
        data.append(LAST_CHUNK)
    if data or tokens:
        done.append(Frame(at, b"".join(data), size, tokens))
    return done


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
