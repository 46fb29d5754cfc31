"""One connection: requests out, responses in, one at a time, on a bare asyncio transport."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import cast

from holdfast.errors import ConnectionFailed, ProviderError
from holdfast.http.failures import connection_failed
from holdfast.http.response import PooledResponse

WRITE_SIZE = 64 * 2**10
"""Bytes of a request body that are written at a time."""
UNREAD = 96 * 2**10
"""Bytes of a stream that the kernel may take before it is read. By itself it would take megabytes."""
_TICK = 0.001
"""Seconds by which a timer may come early."""
_NEVER = float("inf")


class Connection(asyncio.Protocol):
    """Carries one request at a time. `idle` is called when it can carry another one, `lost` when it is gone.

    A single timer serves everything that is waited for: it is armed for a deadline, and when it fires it is armed
    again if the deadline has moved on meanwhile. So a wait costs no timer of its own.
    """

    __slots__ = (
        "_blocked",
        "_deadline",
        "_idle",
        "_loop",
        "_lost",
        "_narrow",
        "_paused",
        "_place",
        "_response",
        "_timer",
        "_timer_at",
        "_transport",
        "_unsent",
        "closed",
        "reused",
    )

    def __init__(self, place: str, idle: Callable[["Connection"], None], lost: Callable[["Connection"], None]) -> None:
        self.closed = False
        self.reused = False
        """Whether it has carried a request before the present one."""
        self._place = place
        self._idle = idle
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._response: PooledResponse | None = None
        self._unsent: memoryview | None = None
        self._blocked = False
        self._paused = False
        self._narrow = False
        self._deadline = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER

    def send(self, method: str, head: bytes, body: bytes) -> PooledResponse:
        """Send a request and return its response, of which nothing has arrived yet."""
        assert self._transport is not None
        response = self._response = PooledResponse(self, method == "HEAD")
        if len(body) <= WRITE_SIZE:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._write_on()
        return response

    def park(self, seconds: float) -> asyncio.Future[None]:
        if self._paused:
            self._resume()
        loop = self._loop
        self._deadline = deadline = loop.time() + seconds
        if deadline < self._timer_at:
            self._arm(deadline)
        return loop.create_future()

    def watch(self, seconds: float) -> None:
        """Give up `seconds` from now if the response is still awaited, or no other request has come."""
        self._deadline = deadline = self._loop.time() + seconds
        if deadline < self._timer_at:
            self._arm(deadline)

    def narrow(self) -> None:
        if not self._narrow and self._transport is not None:
            self._narrow = True
            with contextlib.suppress(OSError):
                self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD)

    def abort(self) -> None:
        """Close at once. What is being sent or received is lost."""
        self.closed = True
        self._response = None
        self._unsent = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def fail(self, message: str) -> None:
        """Close at once, and tell the response why."""
        if self._response is not None:
            self._response.fail(ConnectionFailed(message, before_headers=not self._response.status, reused=self.reused))
        self.abort()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # nobody asked
            self.abort()
            return
        response.feed(data)
        if response.ended:
            self._finish(response)
        elif response.error is not None:
            self.abort()
        elif response.buffered > response.high_water and not self._paused:
            self._pause()

    def eof_received(self) -> None:
        response = self._response
        if response is not None and response.until_close:
            response.finish()
        elif response is not None:
            response.fail(self._failure(None, response))
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        response = self._response
        if response is not None:
            response.fail(self._failure(exc, response))
        self._transport = None
        self.abort()
        self._lost(self)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._write_on()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _finish(self, response: PooledResponse) -> None:
        response.detach()
        self._response = None
        if not response.reusable or self._unsent or self.closed:
            self.abort()
            return
        if self._paused:
            self._resume()
        self.reused = True
        self._idle(self)

    def _pause(self) -> None:
        assert self._transport is not None
        self._paused = True
        self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _write_on(self) -> None:
        # A write may call `resume_writing`, so the rest is noted before it.
        while self._unsent and not self._blocked and self._transport is not None:
            piece, self._unsent = self._unsent[:WRITE_SIZE], self._unsent[WRITE_SIZE:]
            self._transport.write(piece)

    def _failure(self, exc: Exception | None, response: PooledResponse) -> ProviderError:
        return connection_failed(exc, self._place, before_headers=not response.status, reused=self.reused)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = _NEVER
        response = self._response
        if response is not None and not response.awaited:
            return
        if self._deadline - self._loop.time() > _TICK:
            self._arm(self._deadline)
            return
        if response is not None:
            response.expire()
        self.abort()
