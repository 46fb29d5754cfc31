"""What can go wrong, each a small value that damages a plan."""

import random
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from holdfast.providers.simulated.failures import Failure
from holdfast.providers.simulated.malformed import Malformation, malform
from holdfast.providers.simulated.plan import BEFORE_HEADERS, Piece, Plan, Position
from holdfast.settings import Duration, Settings

Share = Annotated[float, Meta(ge=0, le=1)]
StatusCode = Annotated[int, Meta(ge=200, le=599)]
OVERLOADED = {"openai": 503, "anthropic": 529, "google": 503}


class Moment(msgspec.Struct, frozen=True):
    """When a request comes: which one it is of those to the model by this name, how many seconds after the first of
    them, and whether its connection has served another before."""

    chance: random.Random
    number: int = 1
    since: float = 0.0
    kept: bool = False


class Damage(Settings, frozen=True, kw_only=True, tag_field="kind"):
    """Base of the faults, with when they strike; `strike` damages a plan.

    Requests and time are those of the model by its whole name. A fault spares the first `after` requests and strikes
    the `times` requests after them, or all. It is there for `down` and gone for `up`, by turns; without one of them the
    other comes once.
    """

    probability: Share = 1.0
    """The share of requests, among those, that it strikes."""
    times: Annotated[int, Meta(ge=1)] | None = None
    after: Annotated[int, Meta(ge=0)] = 0
    down: Duration | None = None
    up: Duration | None = None
    on: Literal["any", "fresh", "kept"] = "any"
    """The connections: those that have served no request yet, or those that were kept alive."""

    def strikes(self, moment: Moment) -> bool:
        """Whether it strikes the request of this moment."""
        number = moment.number - self.after
        if number < 1 or (self.times is not None and number > self.times) or not self._is_down(moment.since):
            return False
        if self.on != "any" and moment.kept != (self.on == "kept"):
            return False
        return self.probability >= 1 or moment.chance.random() < self.probability

    def _is_down(self, since: float) -> bool:
        if self.down is None or self.up is None:
            return since < self.down if self.down is not None else since >= (self.up or 0)
        period = self.down + self.up
        return period == 0 or since % period < self.down


class Status(Damage, frozen=True, kw_only=True, tag="status"):
    """An error status, in the wire's own envelope unless there is a `body`. `retry_after` is in seconds."""

    status: StatusCode
    message: str = ""
    retry_after: Annotated[float, Meta(ge=0)] | None = None
    body: str | None = None
    headers: dict[str, str] = {}

    def strike(self, plan: Plan, chance: random.Random) -> None:
        failure = Failure(self.status, self.message, retry_after=self.retry_after)
        own = self.body.encode() if self.body is not None else failure.body(plan.wire, request_id(plan))
        kept = [pair for pair in plan.headers if pair[0] != "content-type"]
        plan.status, plan.stream, plan.framing = self.status, False, "length"
        plan.headers = [("content-type", "application/json"), *kept, *failure.headers(), *self.headers.items()]
        plan.pieces = [Piece(own)]


class Cut(Damage, frozen=True, kw_only=True, tag="cut"):
    """The connection is closed (FIN) at a position, without a word."""

    at: Position = Position("12")

    def strike(self, plan: Plan, chance: random.Random) -> None:
        plan.truncate(plan.offset(self.at))
        plan.ending = "cut"


class Reset(Damage, frozen=True, kw_only=True, tag="reset"):
    """The connection is reset (RST) at a position."""

    at: Position = Position("start")

    def strike(self, plan: Plan, chance: random.Random) -> None:
        plan.truncate(plan.offset(self.at))
        plan.ending = "reset"


class Stall(Damage, frozen=True, kw_only=True, tag="stall"):
    """Silence at a position, with the connection open: for `seconds`, or for good."""

    at: Position = Position("12")
    seconds: Duration | None = None

    def strike(self, plan: Plan, chance: random.Random) -> None:
        offset = plan.offset(self.at)
        if self.seconds is None:
            plan.truncate(offset)
            plan.ending = "hold"
        elif offset == BEFORE_HEADERS:
            plan.head_wait += self.seconds
        else:
            plan.pieces.insert(plan.split(offset), Piece(b"", wait=self.seconds))


class Trickle(Damage, frozen=True, kw_only=True, tag="trickle"):
    """From a position on the body comes `bytes` bytes at a time, one write `every` so often."""

    at: Position = Position("0")
    bytes: Annotated[int, Meta(ge=1)] = 1
    every: Duration = Duration(0.01)

    def strike(self, plan: Plan, chance: random.Random) -> None:
        first = plan.split(max(plan.offset(self.at), 0))
        plan.pieces[first:] = [bit for piece in plan.pieces[first:] for bit in self._bits(piece)]

    def _bits(self, piece: Piece) -> list[Piece]:
        cuts = range(0, len(piece.data), self.bytes)
        bits = [Piece(piece.data[cut : cut + self.bytes], wait=self.every) for cut in cuts] or [Piece(b"")]
        bits[0].wait += piece.wait
        bits[-1].tokens = piece.tokens
        return bits


class Split(Damage, frozen=True, kw_only=True, tag="split"):
    """Nothing is lost, but a write ends at a position and the next comes `wait` later."""

    at: Position = Position("0u")
    wait: Duration = Duration(0.02)

    def strike(self, plan: Plan, chance: random.Random) -> None:
        plan.pieces.insert(plan.split(max(plan.offset(self.at), 0)), Piece(b"", wait=self.wait))


class Malformed(Damage, frozen=True, kw_only=True, tag="malformed"):
    """The body does not look as it should: see `malformed.py` for what can be wrong with it."""

    what: Malformation
    at: Position = Position("1")

    def strike(self, plan: Plan, chance: random.Random) -> None:
        malform(plan, self.what, max(plan.offset(self.at), 0), chance)


class ErrorEvent(Damage, frozen=True, kw_only=True, tag="error_event"):
    """A stream ends with an error event at a position. Default: the wire's own "overloaded". Only streams have it."""

    at: Position = Position("12")
    status: StatusCode | None = None
    message: str = ""

    def strike(self, plan: Plan, chance: random.Random) -> None:
        if plan.stream:
            plan.truncate(max(plan.offset(self.at), 0))
            plan.declared = None
            failure = Failure(self.status or OVERLOADED[plan.wire], self.message)
            plan.pieces.append(Piece(failure.event(plan.wire, request_id(plan))))


class WrongLength(Damage, frozen=True, kw_only=True, tag="wrong_length"):
    """Content-Length announces `by` bytes more than there are (or, below zero, less), then the connection closes."""

    by: int = 10

    def strike(self, plan: Plan, chance: random.Random) -> None:
        plan.framing, plan.ending = "length", "cut"
        plan.declared = max(len(plan.body) + self.by, 0)


class Close(Damage, frozen=True, kw_only=True, tag="close"):
    """The connection is closed after a complete answer; `announced` says so in a header, else it is a surprise."""

    announced: bool = False

    def strike(self, plan: Plan, chance: random.Random) -> None:
        plan.keep_alive = False
        if self.announced:
            plan.headers.append(("connection", "close"))


Fault = Status | Cut | Reset | Stall | Trickle | Split | Malformed | ErrorEvent | WrongLength | Close
Accept = Literal["serve", "close", "reset", "ignore"]
"""What happens to a new connection, before anything is read from it."""


def strike(plan: Plan, faults: tuple[Fault, ...], moment: Moment) -> list[str]:
    """Let the faults damage the plan in their order, those that strike now. Returns their kinds."""
    struck = [fault for fault in faults if fault.strikes(moment)]
    for fault in struck:
        fault.strike(plan, moment.chance)
    return [str(type(fault).__struct_config__.tag) for fault in struck]


def request_id(plan: Plan) -> str:
    """Return the id that the plan's headers give to the request."""
    return next((value for name, value in plan.headers if name.endswith("request-id")), "")
