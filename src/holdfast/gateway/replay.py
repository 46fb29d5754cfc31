"""Answers that are given again: to who asks the same question, and to who asks it while it is being answered."""

import asyncio
from collections import OrderedDict
from types import TracebackType
from typing import Final

import msgspec

from holdfast.chat import Reasoning, Refusal, Reply, Text, ToolCall
from holdfast.clock import Clock
from holdfast.errors import DeadlineExceeded

ENTRY_BYTES: Final = 512
"""About what keeping an answer takes beside the answer itself."""
LOOKED_AT: Final = 2
"""How many of the answers that were longest not asked for are looked at, whether their time is over, for each new."""
_SAYABLE: Final = (Text, Reasoning, Refusal, ToolCall)
"""What a stream can say as well as a whole answer."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to be given again, and where it came from. `call` is the one that it answered first.

    `raw` is how the model said it in `wire`, None if it was streamed, or made or changed here.
    """

    call: str
    reply: Reply
    wire: str
    raw: bytes | None = None
    model: str | None = None
    provider: str | None = None
    served_model: str | None = None
    fingerprint: str | None = None

    @property
    def complete(self) -> bool:
        """Whether it can be given again, whole or as a stream: nothing is cut off, or only of the wire it came in."""
        choices = self.reply.choices
        return bool(choices) and all(
            choice.finish != "cut" and all(isinstance(part, _SAYABLE) for part in choice.parts) for choice in choices
        )


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Kept)


class _Entry(msgspec.Struct, frozen=True, gc=False):
    data: bytes
    until: float
    subject: str | None

    @property
    def size(self) -> int:
        return len(self.data) + ENTRY_BYTES


class _Flight:
    """A question that is being answered, and who waits for that: told the answer, or None to answer it themselves."""

    __slots__ = ("forgotten", "subject", "waiting")

    def __init__(self, subject: str | None) -> None:
        self.subject = subject
        self.waiting: OrderedDict[asyncio.Future[Kept | None], None] = OrderedDict()
        self.forgotten = False


class Replays:
    """The answers of one worker, at most `size` bytes of them; what was longest not asked for goes first.

    Not for threads: one event loop.
    """

    def __init__(self, size: int, clock: Clock) -> None:
        self.used = 0
        """Bytes."""
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """How many calls wait for the answer to another."""
        return sum(len(flight.waiting) for flight in self._flights.values())

    def resize(self, size: int) -> None:
        """Change how much may be kept."""
        self._size = size
        self._make_room()

    def turn(self, key: bytes, *, ttl: float, until: float, subject: str | None = None) -> "Turn":
        """Return the turn of a call, to be used in an `async with` statement, which waits for it.

        At most one call at a time answers the question `key`; the others wait for its answer, until `until` on the
        clock's monotonic time. An answer is given again for `ttl` seconds; with 0, only to those who wait for it.
        """
        return Turn(self, key, ttl, until, subject)

    def forget(self, subject: str) -> int:
        """Drop all answers of a subject (its keyed hash), also those that are on their way. Return how many there were.

        Who waits for one still gets it.
        """
        found = [key for key, entry in self._entries.items() if entry.subject == subject]
        for key in found:
            self._drop(key)
        for flight in self._flights.values():
            if flight.subject == subject:
                flight.forgotten = True
        return len(found)

    # --- for turns ---

    def find(self, key: bytes) -> Kept | None:
        """Return an answer whose time is not over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until <= self._clock.monotonic():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        try:
            return _DECODER.decode(entry.data)
        except (ValueError, RecursionError):  # it is nested as deeply as can be
            self._drop(key)
            return None

    async def wait(self, key: bytes, until: float, subject: str | None) -> Kept | None:
        """Return the answer that another call gets, None as soon as the caller is to get it: then it must `land`.

        Raises:
            DeadlineExceeded: `until` came first.
        """
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = _Flight(subject)
            return None
        ticket: asyncio.Future[Kept | None] = asyncio.get_running_loop().create_future()
        flight.waiting[ticket] = None
        end = asyncio.get_running_loop().call_later(until - self._clock.monotonic(), _give_up, ticket)
        try:
            return await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None and ticket.result() is None:
                self.land(key, None)  # it was its turn, but it goes
            raise
        finally:
            end.cancel()
            flight.waiting.pop(ticket, None)

    def land(self, key: bytes, kept: Kept | None, ttl: float = 0.0) -> None:
        """Give the answer to all who wait for it; without one, let the next of them get it."""
        flight = self._flights[key]
        if kept is not None:
            kept = self._dated(kept)
        while flight.waiting:
            ticket, _ = flight.waiting.popitem(last=False)
            if not ticket.done():
                ticket.set_result(kept)
                if kept is None:
                    return
        del self._flights[key]
        if kept is not None and ttl > 0 and not flight.forgotten:
            self._keep(key, kept, ttl, flight.subject)

    # --- inside ---

    def _dated(self, kept: Kept) -> Kept:
        """Date an answer that was streamed, so that it is the same whenever it is given again as a whole."""
        reply = kept.reply
        if reply.created:
            return kept
        return msgspec.structs.replace(kept, reply=msgspec.structs.replace(reply, created=int(self._clock.now())))

    def _keep(self, key: bytes, kept: Kept, ttl: float, subject: str | None) -> None:
        try:
            data = _ENCODER.encode(kept)
        except (ValueError, OverflowError, RecursionError):  # it holds what only JSON can say
            return
        entry = _Entry(data, self._clock.monotonic() + ttl, subject)
        if entry.size > self._size:
            return
        self._drop(key)
        self._entries[key] = entry
        self.used += entry.size
        self._make_room()

    def _make_room(self) -> None:
        while self.used > self._size:
            self._drop(next(iter(self._entries)))
        now = self._clock.monotonic()
        for key in [key for key, _ in zip(self._entries, range(LOOKED_AT), strict=False)]:
            if self._entries[key].until <= now:
                self._drop(key)

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used -= entry.size


class Turn:
    """A call's turn at a question: there is an answer in `kept`, or none came in time and `late` says so, or the call
    is to get an answer and `keep` it. One that leaves the block without having done so lets the next one try.
    """

    __slots__ = ("_answering", "_key", "_replays", "_subject", "_ttl", "_until", "kept", "late")

    def __init__(self, replays: Replays, key: bytes, ttl: float, until: float, subject: str | None) -> None:
        self.kept: Kept | None = None
        self.late: DeadlineExceeded | None = None
        self._replays = replays
        self._key = key
        self._ttl = ttl
        self._until = until
        self._subject = subject
        self._answering = False

    async def __aenter__(self) -> "Turn":
        self.kept = self._replays.find(self._key)
        if self.kept is not None:
            return self
        try:
            self.kept = await self._replays.wait(self._key, self._until, self._subject)
        except DeadlineExceeded as error:
            self.late = error
        else:
            self._answering = self.kept is None
        return self

    def keep(self, kept: Kept) -> None:
        """Give the answer to who waits for it, and again to who asks later. One that is not complete is not kept."""
        if not self._answering or not kept.complete:
            return
        self._answering = False
        self._replays.land(self._key, kept, self._ttl)

    def release(self) -> None:
        """Let the next one try, and keep nothing."""
        if self._answering:
            self._answering = False
            self._replays.land(self._key, None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _give_up(ticket: asyncio.Future[Kept | None]) -> None:
    if not ticket.done():
        ticket.set_exception(DeadlineExceeded("No answer within the deadline, nor to the call that asked the same."))
