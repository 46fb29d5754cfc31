"""What one caller saw, read off the wire without the help of anything that makes it."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from holdfast.errors import ProviderError
from holdfast.http.base import HttpRequest, HttpResponse, Transport
from holdfast.http.sse import ServerSentEvent, SSEParser

MAX_BODY = 2**20
LONG = 10_000_000.0
"""Seconds: the drill's own patience ends a call, and no phase of it."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """A call as its caller saw it. Times are seconds since it was sent.

    `status` is None where no response came. `pieces` are when text came, and how many characters; `objects`
    when it was told what is known of the answer, and `object` the last of these. `finish` is the
    wire's reason why the answer ended, `done` whether the wire said that the response is over. `error` is the code of
    an error, in the body or on the stream; `untyped` what came in the place of an answer or error. `outcome` and
    `model` are what the gateway said of the answer. `broke` is how the connection failed, `hung` that nothing ended
    the call before the drill's patience did, `left` when the caller hung up.
    """

    took: float
    stream: bool
    call: str | None = None
    status: int | None = None
    text: str = ""
    pieces: tuple[tuple[float, int], ...] = ()
    objects: tuple[float, ...] = ()
    object: Any = msgspec.UNSET
    finish: str | None = None
    done: bool = False
    error: str | None = None
    message: str | None = None
    untyped: str | None = None
    outcome: str | None = None
    model: str | None = None
    resets: int = 0
    broke: str | None = None
    hung: bool = False
    left: float | None = None

    @property
    def heard(self) -> Sequence[float]:
        """When something of the answer came: text, or an object."""
        return sorted([*self.objects, *[at for at, _ in self.pieces]])

    @property
    def first_token(self) -> float | None:
        """When the first of the answer came."""
        return next(iter(self.heard), None)

    @property
    def longest_gap(self) -> float | None:
        """The longest silence inside the answer."""
        return max([after - before for before, after in pairwise(self.heard)], default=None)


async def call(
    transport: Transport, request: HttpRequest, *, stream: bool, patience: float, leaves: float | None = None
) -> Observation:
    """Make a call and return what was seen of it, after `patience` seconds at the latest; hang up after `leaves`."""
    reader = _Reader(stream)
    try:
        async with asyncio.timeout(patience if leaves is None else leaves):
            await reader.read(transport, request)
    except TimeoutError:
        if leaves is None:
            reader.seen["hung"] = True
        else:
            reader.seen["left"] = reader.now()
    except ProviderError as error:
        reader.seen["broke"] = error.message
    return reader.observation()


class _Reader:
    def __init__(self, stream: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._stream = stream
        self._said: list[str] = []
        self._pieces: list[tuple[float, int]] = []
        self._objects: list[float] = []
        self.seen: dict[str, Any] = {}

    def now(self) -> float:
        return self._loop.time() - self._began

    def observation(self) -> Observation:
        return Observation(
            took=self.now(),
            stream=self._stream,
            text="".join(self._said),
            pieces=tuple(self._pieces),
            objects=tuple(self._objects),
            **self.seen,
        )

    async def read(self, transport: Transport, request: HttpRequest) -> None:
        response = await transport.send(request, connect=LONG, headers=LONG)
        try:
            self.seen["status"] = response.status
            self._labels({name: _text(response.header(b"x-holdfast-" + name.encode())) for name in _LABELS})
            if (response.header(b"content-type") or b"").startswith(b"text/event-stream"):
                await self._events(response)
            else:
                self._whole(await response.read(MAX_BODY, LONG))
                self.seen["done"] = True
        finally:
            response.close()

    def _labels(self, told: Mapping[str, Any]) -> None:
        self.seen |= {name: told[name] for name in _LABELS if told.get(name)}

    def _whole(self, body: bytes) -> None:
        payload = _object(body)
        if "error" in payload:
            self._error(payload["error"])
        elif _first(payload) is None:
            self.seen["untyped"] = body[:200].decode("utf-8", "replace")
        else:
            choice = _first(payload) or {}
            self._hear((choice.get("message") or {}).get("content"))
            self.seen["finish"] = choice.get("finish_reason")

    async def _events(self, response: HttpResponse) -> None:
        parser = SSEParser()
        async for piece in response.pieces(LONG, LONG):
            for event in parser.feed(piece):
                self._event(event)

    def _event(self, event: ServerSentEvent) -> None:
        if event.data == b"[DONE]":
            self.seen["done"] = True
            return
        payload = _object(event.data)
        if "error" in payload:
            self._error(payload["error"])
            return
        told = payload.get("holdfast")
        if isinstance(told, dict):
            self._labels(told)
            if told.get("event") == "reset":
                self.seen["resets"] = self.seen.get("resets", 0) + 1
                self._said.clear()
            elif told.get("event") == "object":
                self.seen["object"] = told.get("object")
                self._objects.append(self.now())
        choice = _first(payload)
        if choice is not None:
            self._hear((choice.get("delta") or {}).get("content"))
            self.seen["finish"] = choice.get("finish_reason") or self.seen.get("finish")

    def _hear(self, text: object) -> None:
        if isinstance(text, str) and text:
            self._said.append(text)
            self._pieces.append((self.now(), len(text)))

    def _error(self, error: object) -> None:
        fields = error if isinstance(error, dict) else {}
        code = fields.get("code")
        if isinstance(code, str) and code and isinstance(fields.get("message"), str):
            self.seen |= {"error": code, "message": fields["message"]}
        else:
            self.seen["untyped"] = str(error)[:200]
        if isinstance(fields.get("holdfast"), dict):
            self._labels(fields["holdfast"])


_LABELS = ("call", "outcome", "model")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _first(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    choices = payload.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None
