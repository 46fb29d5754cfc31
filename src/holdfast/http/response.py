"""One response: parsed as it arrives, buffered until it is read."""

import asyncio
import sys
from typing import Protocol

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from holdfast.errors import ConnectionFailed, MalformedResponse, Phase, PhaseTimeout, ProviderError
from holdfast.http.base import Headers
from holdfast.http.coding import Decoder, decode_all

HIGH_WATER = 64 * 2**10
"""Bytes that may wait to be read before the connection stops taking more."""
PIECE = 16 * 2**10
"""Bytes of a stream that a reader is given at once: decoded they take several times as much while a caller is slow."""
MAX_HEAD = 64 * 2**10
"""Bytes that a response may take for its headers, or between two parts of its body."""
_ALL = sys.maxsize


class Line(Protocol):
    """What a response needs of its connection."""

    def park(self, seconds: float) -> asyncio.Future[None]:
        """Go on reading, and return a future to wait on. After `seconds` the response is told that it expired."""
        ...

    def narrow(self) -> None:
        """Let little be on its way that is not read: who reads a stream may be slow."""
        ...

    def abort(self) -> None:
        """Drop the connection at once."""
        ...


class PooledResponse:
    """A response on a pooled connection, which has its connection until it has ended or failed.

    The methods named `on_...` are the parser's; `feed`, `fail`, `cut` and `expire` the connection's.
    """

    __slots__ = (
        "_body",
        "_decoder",
        "_first",
        "_head_only",
        "_line",
        "_need",
        "_parser",
        "_phase",
        "_pieces",
        "_raw",
        "_seconds",
        "_silent",
        "_waiter",
        "buffered",
        "ended",
        "error",
        "headers",
        "high_water",
        "reusable",
        "status",
    )

    def __init__(self, line: Line, head_only: bool) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.ended = False
        self.error: ProviderError | None = None
        self.reusable = False
        """Whether the connection can carry another request after this response."""
        self.buffered = 0
        self.high_water = HIGH_WATER
        self._line: Line | None = line
        self._head_only = head_only
        self._raw: list[tuple[bytes, bytes]] = []
        self._first: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._silent = 0  # bytes since the last piece of body
        self._decoder: Decoder | None = None
        self._body: bytes | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._need = 0
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    # --- for the reader -----------------------------------------------------------------------------------------------

    def header(self, name: bytes) -> bytes | None:
        return self._first.get(name)

    async def begin(self, seconds: float) -> None:
        """Wait for the headers. Raises as `Transport.send` does."""
        if not self.status and self.error is None and (waiter := self.wait(_ALL, "first_token", seconds)) is not None:
            try:
                await waiter
            except BaseException:
                self.give_up()
                raise
        if self.error is not None and not self.status:
            raise self.error

    async def read(self, limit: int, seconds: float) -> bytes:
        if self._body is None:
            if not self.ended and self.error is None and self.buffered <= limit:
                self.high_water = limit
                await self._wait(limit + 1, "answer", seconds)
            if self.buffered > limit:
                self._refuse(MalformedResponse(f"The provider's body is longer than {limit} bytes."))
            if self.error is not None:
                raise self.error
            body = self._joined()
            self._body = body if self._decoder is None else decode_all(self._decoder, body, limit)
        return self._body

    def pieces(self, first: float, idle: float) -> "Pieces":
        if self._line is not None:
            self._line.narrow()
        return Pieces(self, first, idle)

    def close(self) -> None:
        line = self._line
        if line is not None:
            self.fail(ConnectionFailed("The response was closed before its end.", before_headers=False))
            line.abort()

    def take(self) -> bytes:
        """Return what waits to be read, at most a piece of it; b"" if nothing does."""
        if self._decoder is not None:
            return self._take_decoded(self._decoder)
        if self.buffered > PIECE:
            return self._cut_off()
        return self._joined() if self._pieces else b""

    def wait(self, need: int, phase: Phase, seconds: float) -> asyncio.Future[None] | None:
        """Return what to await until `need` bytes can be read, or the end; None when nothing more will come.

        Who is cut off while it waits must `give_up`.
        """
        line = self._line
        if line is None:
            return None
        self._need, self._phase, self._seconds = need, phase, seconds
        waiter = self._waiter = line.park(seconds)
        return waiter

    def give_up(self) -> None:
        """Wait no more, and drop what is still to come."""
        self._waiter = None
        self.close()

    # --- for the connection -------------------------------------------------------------------------------------------

    @property
    def awaited(self) -> bool:
        """Whether a reader waits."""
        return self._waiter is not None

    @property
    def until_close(self) -> bool:
        """Whether the end of the connection is the end of this response (RFC 9112, section 6.3)."""
        return bool(self.status) and b"content-length" not in self._first and b"transfer-encoding" not in self._first

    def feed(self, data: bytes) -> None:
        """Parse what arrived. What can't be parsed makes the response fail, or the connection unusable after it."""
        self._silent += len(data)
        try:
            self._parser.feed_data(data)  # type: ignore[union-attr]  # a connection feeds no response that has ended
        except (HttpParserError, HttpParserUpgrade) as error:
            self.reusable = False
            if not self.ended:
                self.fail(_malformed(error))
            return
        if self._silent > MAX_HEAD and not self.ended:
            self.fail(MalformedResponse(f"The provider's headers are longer than {MAX_HEAD} bytes."))

    def fail(self, error: ProviderError) -> None:
        """End without the rest: what was buffered can still be read piece by piece, then `error` is raised."""
        if not self.ended:
            self.error = self.error or error
        self.detach()
        self._wake()

    def finish(self) -> None:
        """End at the end of the connection."""
        self.ended = True
        self.detach()
        self._wake()

    def expire(self) -> None:
        """Fail because the reader has waited for too long."""
        self.fail(PhaseTimeout(self._phase, self._seconds))

    def detach(self) -> None:
        """Let go of the connection."""
        self._line = None
        self._parser = None  # it holds this object's methods

    # --- for the parser -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.ended:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self._raw.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()  # type: ignore[union-attr]  # it is calling
        if status < 200:
            self._informational(status)
            return
        raw = self._raw
        if self._silent > MAX_HEAD and sum([len(name) + len(value) for name, value in raw]) > MAX_HEAD:
            raise MalformedResponse(f"The provider's headers are longer than {MAX_HEAD} bytes.")
        self.headers = tuple(raw)
        self._first = first = dict(raw[::-1])
        if (framing := first.get(b"transfer-encoding")) is not None and framing.lower() != b"chunked":
            raise MalformedResponse("The provider uses a transfer coding other than chunked.")
        if coding := first.get(b"content-encoding"):
            self._decoder = Decoder(coding)
        self.status = status
        if self._head_only:
            self.on_message_complete()
        else:
            self._wake()

    def on_body(self, body: bytes) -> None:
        if self.ended:  # a body after HEAD
            self.reusable = False
            return
        self._pieces.append(body)
        self.buffered += len(body)
        self._silent = 0
        if self.buffered >= self._need and self._waiter is not None:
            self._wake()

    def on_message_complete(self) -> None:
        if self.status and not self.ended:
            self.ended = True
            self.reusable = self._parser.should_keep_alive()  # type: ignore[union-attr]  # it is calling
            self._wake()

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _wait(self, need: int, phase: Phase, seconds: float) -> None:
        waiter = self.wait(need, phase, seconds)
        if waiter is not None:
            try:
                await waiter
            except BaseException:
                self.give_up()
                raise

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _joined(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.buffered = 0
        return data

    def _cut_off(self) -> bytes:
        """Take the first of more than a piece."""
        pieces, size, count = self._pieces, 0, 0
        while size < PIECE:
            size += len(pieces[count])
            count += 1
        data = b"".join(pieces[:count])
        pieces[:count] = [data[PIECE:]] if size > PIECE else []
        self.buffered -= PIECE
        return data[:PIECE]

    def _informational(self, status: int) -> None:
        if status < 100 or status == 101:
            raise MalformedResponse(f"The provider answered with the status {status}, which nothing asked for.")
        self._raw.clear()

    def _refuse(self, error: MalformedResponse) -> None:
        self.close()
        self.ended, self.error = False, error
        self._pieces.clear()

    def _take_decoded(self, decoder: Decoder) -> bytes:
        try:
            while self._pieces or decoder.more:
                if piece := decoder.decode(b"" if decoder.more else self._joined(), PIECE):
                    return piece
            if self.ended and self.error is None:
                decoder.finish()
        except MalformedResponse as error:
            self._refuse(error)
        return b""


class Pieces:
    """The pieces of a body, as they arrive."""

    __slots__ = ("_idle", "_phase", "_response", "_seconds")

    def __init__(self, response: PooledResponse, first: float, idle: float) -> None:
        self._response = response
        self._phase: Phase = "first_token"
        self._seconds = first
        self._idle = idle

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        response = self._response
        while not (piece := response.take()):
            if response.ended:
                raise StopAsyncIteration
            if response.error is not None:
                raise response.error
            waiter = response.wait(1, self._phase, self._seconds)
            if waiter is not None:
                try:
                    await waiter
                except BaseException:
                    response.give_up()
                    raise
        self._phase, self._seconds = "idle", self._idle
        return piece


def _malformed(error: Exception) -> MalformedResponse:
    if isinstance(error, HttpParserCallbackError) and isinstance(error.__context__, MalformedResponse):
        return error.__context__
    if isinstance(error, HttpParserUpgrade):
        return MalformedResponse("The provider switched to another protocol, which nothing asked for.")
    return MalformedResponse(f"The provider's response is not HTTP: {error}.")
