"""Bodies that don't look as they should.

Some lose nothing, so a client has to bear them:

    comments, crlf, cr, bom, fields, no_space, multiline, empty_event, no_done, duplicate_finish, duplicate_done,
    usage_first, usage_middle, usage_every, usage_late

The others damage the answer, so a client has to notice:

    bad_json, garbage, not_object, invalid_utf8, no_finish, html, empty
"""

import random
import re
from collections.abc import Callable
from typing import Any, Literal, get_args

import msgspec

from holdfast.providers.simulated.plan import Piece, Plan

Malformation = Literal[
    "comments", "crlf", "cr", "bom", "fields", "no_space", "multiline", "empty_event", "no_done", "duplicate_finish",
    "duplicate_done", "usage_first", "usage_middle", "usage_every", "usage_late",
    "bad_json", "garbage", "not_object", "invalid_utf8", "no_finish", "html", "empty",
]  # fmt: skip
MALFORMATIONS: tuple[str, ...] = get_args(Malformation)
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
_EVENT = re.compile(rb"(?s).+?(?:\r\n\r\n|\n\n)|.+")
USAGE = {"openai": "usage", "anthropic": "usage", "google": "usageMetadata"}


def malform(plan: Plan, what: Malformation, offset: int, chance: random.Random) -> None:
    """Change the body of a plan. `offset` is where an event is put; an answer that is not streamed has no events."""
    if what == "html":
        plan.headers = [("content-type", "text/html"), *[pair for pair in plan.headers if pair[0] != "content-type"]]
        plan.replace_body(HTML)
        plan.stream = False
    elif what == "empty":
        plan.replace_body(b"")
    elif not plan.stream:
        _malform_whole(plan, what, chance)
    elif what in _INSERTED:
        plan.pieces.insert(plan.split(offset), Piece(_INSERTED[what](chance)))
    elif what in _EVERYWHERE:
        for piece in plan.pieces:
            piece.data = _EVERYWHERE[what](piece.data)
    elif what == "bom":
        plan.pieces.insert(0, Piece(b"\xef\xbb\xbf"))
    else:
        _rearrange(plan, what)


def _malform_whole(plan: Plan, what: Malformation, chance: random.Random) -> None:
    body = plan.body
    damaged: dict[str, Callable[[], bytes]] = {
        "bad_json": lambda: body[: len(body) // 2],
        "garbage": lambda: chance.randbytes(len(body)),
        "not_object": lambda: b"42",
        "invalid_utf8": lambda: body.replace(b'":"', b'":"\xff\xfe'),
        "bom": lambda: b"\xef\xbb\xbf" + body,
    }
    if what in damaged:
        plan.replace_body(damaged[what]())


_INSERTED: dict[str, Callable[[random.Random], bytes]] = {
    "bad_json": lambda _: b'data: {"id": "broken", "choi\n\n',
    "garbage": lambda chance: chance.randbytes(64).replace(b"\n", b"\0") + b"\n\n",
    "not_object": lambda _: b"data: 42\n\n",
    "invalid_utf8": lambda _: b'data: {"id": "\xff\xfe"}\n\n',
    "empty_event": lambda _: b"data:\n\n",
}
_EVERYWHERE: dict[str, Callable[[bytes], bytes]] = {
    "comments": lambda data: b": keep-alive\n\n" + data,
    "crlf": lambda data: re.sub(rb"\r?\n", b"\r\n", data),
    "cr": lambda data: re.sub(rb"\r?\n", b"\r", data),
    "fields": lambda data: b"id: 7\nretry: 3000\nunheard-of: field\n" + data,
    "no_space": lambda data: re.sub(rb"(?m)^data: ", b"data:", data),
    "multiline": lambda data: data.replace(b"data: {", b"data: {\ndata: "),
}


class _Event(msgspec.Struct):
    """One event of a stream: its bytes, and the piece that it came with."""

    data: bytes
    piece: int

    @property
    def payload(self) -> dict[str, Any]:
        """The JSON object that it carries; empty for an end marker."""
        line = next((line for line in self.data.splitlines() if line.startswith(b"data: {")), b"data: {}")
        try:
            value: dict[str, Any] = msgspec.json.decode(line[len(b"data: ") :])
        except msgspec.DecodeError:  # an earlier fault was here
            return {}
        return value

    def rewrite(self, payload: dict[str, Any]) -> None:
        """Put another JSON object into it."""
        name = b"".join([line + b"\n" for line in self.data.splitlines() if line.startswith(b"event:")])
        self.data = name + b"data: " + msgspec.json.encode(payload) + b"\n\n"

    @property
    def ends(self) -> bool:
        """Whether it says only that the stream is over."""
        return self.data.startswith((b"data: [DONE]", b"event: message_stop"))

    @property
    def finishes(self) -> bool:
        """Whether it says why the answer ended."""
        payload = self.payload
        choices = [*payload.get("choices", ()), *payload.get("candidates", ()), payload.get("delta") or {}]
        return any(choice.get(key) for choice in choices for key in ("finish_reason", "finishReason", "stop_reason"))


def _rearrange(plan: Plan, what: Malformation) -> None:
    events = [_Event(part, index) for index, piece in enumerate(plan.pieces) for part in _EVENT.findall(piece.data)]
    _REARRANGED[what](events, USAGE[plan.wire])
    for index, piece in enumerate(plan.pieces):
        piece.data = b"".join([event.data for event in events if event.piece == index])


def _no_done(events: list[_Event], _: str) -> None:
    events[:] = [event for event in events if not event.ends]


def _no_finish(events: list[_Event], _: str) -> None:
    events[:] = [event for event in events if not event.finishes]


def _duplicate(events: list[_Event], chosen: Callable[[_Event], bool]) -> None:
    events[:] = [copy for event in events for copy in ([event, event] if chosen(event) else [event])]


def _take_usage(events: list[_Event], key: str) -> dict[str, Any]:
    """Remove usage from every event and return the last one told."""
    usage: dict[str, Any] = {}
    for event in list(events):
        payload = event.payload
        found = payload.pop(key, None)
        if found:
            usage = {**usage, **found}
            event.rewrite(payload)
            if payload.get("choices") == []:
                events.remove(event)
    return usage


def _usage_at(events: list[_Event], key: str, share: float) -> None:
    """Tell the usage only in the event that this share of the others comes before."""
    usage = _take_usage(events, key)
    told = [event for event in events if event.payload]
    if usage and told:
        event = told[int(share * len(told))]
        event.rewrite(event.payload | {key: usage})


def _usage_every(events: list[_Event], key: str) -> None:
    usage = _take_usage(events, key)
    for event in events if usage else ():
        if not event.ends:
            event.rewrite(event.payload | {key: usage})


def _usage_late(events: list[_Event], key: str) -> None:
    usage = _take_usage(events, key)
    if usage and events:
        last = next((event for event in reversed(events) if event.payload), events[-1])
        base = {name: value for name, value in last.payload.items() if name in ("id", "object", "model", "type")}
        late = _Event(last.data, events[-1].piece)
        late.rewrite(base | ({"choices": []} if key == "usage" and "object" in base else {}) | {key: usage})
        events.append(late)


_REARRANGED: dict[str, Callable[[list[_Event], str], None]] = {
    "no_done": _no_done,
    "no_finish": _no_finish,
    "duplicate_finish": lambda events, _: _duplicate(events, lambda event: event.finishes),
    "duplicate_done": lambda events, _: _duplicate(events, lambda event: event.ends),
    "usage_first": lambda events, key: _usage_at(events, key, 0),
    "usage_middle": lambda events, key: _usage_at(events, key, 0.5),
    "usage_every": _usage_every,
    "usage_late": _usage_late,
}
