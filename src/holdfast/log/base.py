"""The contract of the log: append-only events, found by id or by filter."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Protocol

import msgspec

from holdfast.errors import LogError
from holdfast.events import AnyEvent, Call, FingerprintChanged, Outcome, Snapshot
from holdfast.settings import Duration, Settings, Size

SHORTEST_KEEP = 3600
"""Seconds: no call that may still be under way is deleted."""


class LogSettings(Settings, frozen=True, kw_only=True):
    """[log]: where calls are recorded, and how soon they are safe."""

    path: str = ".holdfast/log.db"
    """The file of the database."""
    durability: Literal["sync", "async"] = "async"
    """"sync": the last byte of an answer waits until its call is on disk."""
    flush_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 200
    """With "async", what is younger may be lost in a crash."""
    queue: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    """Calls that may wait for the disk before the gateway takes no new ones."""
    queue_bytes: Size = Size(64 * 2**20)
    """The same for the text of their requests and replies."""
    keep: Duration | None = None
    """How long calls are kept; the totals stay. Default: for ever."""

    def __post_init__(self) -> None:
        check_keep(self.keep)


def check_keep(keep: float | None) -> None:
    """Raise ValueError if calls would be deleted that may still be under way."""
    if keep is not None and keep < SHORTEST_KEEP:
        raise ValueError('keep: expected "1h" or more, as calls are deleted once they are that old')


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a call in the same words everywhere. All hold together, None is no condition."""

    name: str | None = None
    model: str | None = None
    outcome: Outcome | None = None
    error: str | None = None
    session: str | None = None
    contract: str | None = None
    repaired: bool | None = None
    """Whether the answer needed repairs."""
    replayed: bool | None = None
    """Whether the answer is that of another call, given again."""
    tenant: str | None = None
    key: str | None = None
    """Whose key made the call, and which."""
    before: str | None = None
    """Only calls that come later in the order of the scan than the call of this id: the cursor of a page."""


class Filter(Conditions, frozen=True, kw_only=True):
    """Which calls. Times are microseconds since 1970 UTC."""

    EQUALS: ClassVar = ("name", "model", "outcome", "error", "session", "subject", "contract", "tenant", "key")
    """The conditions that a field of the call is the same."""

    since_us: int | None = None
    until_us: int | None = None
    subject: str | None = None
    """The keyed hash."""
    tag: tuple[str, str] | None = None
    after: str | None = None
    """Only calls appended after the call of this id; the scan then runs oldest first."""
    limit: int | None = None


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over calls (`name`, `model`, `outcome`, `error`) since the log began or since a minute."""

    name: str
    model: str
    outcome: str
    error: str
    calls: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cost_nanousd: int
    unpriced: int
    """Calls with an unknown cost, which `cost_nanousd` leaves out."""
    duration_us: int
    repaired: int
    """Calls whose answer needed repairs, which `repairs` counts."""
    repairs: int
    replayed: int
    """Calls whose answer was given again."""
    buckets: tuple[int, ...]
    """Calls by duration, not cumulative: one count for each bound of `DURATION_BOUNDS_S`, and one for the rest."""


class AttemptTotal(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over attempts (`model`, `error`) since the log began or since a minute; no `error` is that they worked."""

    model: str
    error: str
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_nanousd: int
    unpriced: int
    """Attempts with an unknown cost, which `cost_nanousd` leaves out."""
    duration_us: int
    reasks: int
    """Attempts made to mend what failed its contract."""
    saved_tokens: int
    ignored: int
    """Attempts whose server broke a constraint that it had accepted."""


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the attempts of a day (`day`, `tenant`, `key`, `name`, `model`); erased calls count too.

    `tenant` and `key` are empty for calls without a key, `model` is that of the attempt.
    """

    day: int
    """Since 1970 UTC."""
    tenant: str
    key: str
    name: str
    model: str
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_nanousd: int
    unpriced: int
    """Attempts with an unknown cost, which `cost_nanousd` leaves out."""


class Features(NamedTuple):
    """Calls to features: to `only` those, or to all and to none but those."""

    only: frozenset[str] | None = None
    but: frozenset[str] = frozenset()

    def hold(self, feature: str | None) -> bool:
        """Whether a call to a feature, or to none, is one of them."""
        return feature not in self.but and (self.only is None or feature in self.only)


EVERYTHING: Final = Features()
Cursor = tuple[int, int]
"""A place in the order of arrival: a time, and the order of recording."""
BEGINNING: Final[Cursor] = (0, 0)


class Expired(NamedTuple):
    """What an expiry did: how many calls it deleted, and from where there may be more, None where there are none."""

    calls: int
    next: Cursor | None


class Place(NamedTuple):
    """Where a text occurs in a call: a JSON pointer into what `view.call_json` shows, and the text around it."""

    pointer: str
    excerpt: str


class Match(NamedTuple):
    """A call without its bodies, and where the text occurs in them."""

    call: Call
    places: Sequence[Place]


class Found(NamedTuple):
    """What a search found, newest first."""

    matches: Sequence[Match]
    looked: int
    """How many calls were looked at."""
    withheld: int
    """How many of them have bodies that can't be read."""
    next: str | None
    """`Filter.before` of the search that goes on from here; None where nothing is left to look at."""


MOST_MATCHES: Final = 50
"""How many matches a search returns where `Filter.limit` does not say."""
MOST_CALLS: Final = 20_000
MOST_SECONDS: Final = 3.0

DURATION_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class UnknownCall(LogError):
    """The call that a scan should go on from is not in the log."""

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"The log has no call {id!r} to go on from.")


Pause = Callable[[], None]
"""Called between two pieces of work by what would otherwise keep a processor for long."""


def no_pause() -> None:
    """Go on at once."""


def breathe() -> None:
    """Leave the processor to others for a moment."""
    time.sleep(0.0002)


ErasedAt = Callable[[str], int | None]
"""Returns when a subject (its keyed hash) was erased last, in microseconds since 1970; None if it never was."""


def never_erased(_subject: str) -> int | None:
    """Know of no erasure."""
    return None


def is_late(call: Call, erased_at: ErasedAt) -> bool:
    """Whether a call arrived before its subject was erased, so that it may not be recorded after."""
    erased = None if call.subject is None else erased_at(call.subject)
    return erased is not None and call.at_us <= erased


def speaks(call: Call) -> bool:
    """Whether a call or an attempt of it has a message, which may hold the caller's words."""
    if call.message is not None:
        return True
    attempts = call.attempts
    if len(attempts) == 1:
        return attempts[0].message is not None
    for attempt in attempts:  # noqa: SIM110 - it is asked of every call
        if attempt.message is not None:
            return True
    return False


def silent(call: Call) -> Call:
    """Return a call without its messages."""
    attempts = tuple([msgspec.structs.replace(attempt, message=None) for attempt in call.attempts])
    return msgspec.structs.replace(call, message=None, attempts=attempts)


def bodiless(call: Call) -> Call:
    """Return a call without its bodies."""
    return msgspec.structs.replace(call, request=None, reply=None, ledger=())


def kept(call: Call) -> Call:
    """Return what a log keeps of a call. With "metadata" that is nothing in the words of the caller or a provider."""
    if call.store == "all":
        return call
    return bodiless(silent(call))


class Log(Protocol):
    """Where events are kept. Its methods block, so the gateway calls them from a thread of their own.

    All of them raise LogError when the store fails.
    """

    def append(self, batch: Sequence[AnyEvent], pause: Pause = no_pause) -> None:
        """Record a batch, all or nothing. When it returns, the batch is as safe as the store's durability says.

        A call with store "none" only counts in the totals, as does one that arrived before its subject was erased; with
        "metadata" its bodies and all messages are left out.
        An event that is already there is not recorded again. A correction comes after its call, and takes its place.

        Raises:
            LogError: the store fails: it is worth trying again.
            Exception: any other: an event is not what it should be, and trying again is in vain.
        """
        ...

    def get(self, id: str) -> Call | None:
        """Return a call with its attempts and bodies. `Call.withheld` says why bodies that were kept are missing."""
        ...

    def snapshot(self, hash: str) -> Snapshot | None:
        """Return the configuration snapshot of this hash."""
        ...

    def fingerprints(
        self, *, model: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> Sequence[FingerprintChanged]:
        """Return how providers changed what they serve, newest first. No erasure and no expiry takes them away."""
        ...

    def scan(self, filter: Filter) -> Iterator[Sequence[Call]]:
        """Iterate over calls in batches, newest first (see `Filter.after`), with attempts and without bodies.

        Messages that are sealed with the bodies are missing too.

        Raises:
            UnknownCall: the call of `filter.before` or `filter.after` is not there.
        """
        ...

    def totals(self, since_us: int | None = None) -> Sequence[Total]:
        """Return the roll-ups, summed since the minute of `since_us` or since the log began."""
        ...

    def attempt_totals(self, since_us: int | None = None) -> Sequence[AttemptTotal]:
        """Return the roll-ups of attempts, summed since the minute in which calls of `since_us` arrived, or all."""
        ...

    def spend(
        self,
        since_us: int | None = None,
        until_us: int | None = None,
        *,
        tenant: str | None = None,
        key: str | None = None,
        in_total: bool = False,
    ) -> Sequence[Spend]:
        """Return what attempts took, from the day of `since_us` to that of `until_us`, each included, oldest first.

        With `in_total` it is summed over days and keys: the day is 0 and the key empty, however long the log is kept.
        """
        ...

    def search(
        self,
        text: str,
        filter: Filter,
        *,
        most_calls: int = MOST_CALLS,
        most_seconds: float = MOST_SECONDS,
        pause: Pause = breathe,
    ) -> Found:
        """Look for a text, in upper or lower case, in the bodies and messages of calls, in the order of `scan`.

        It ends with `filter.limit` matches, or as soon as it has looked at so many calls or for so long.

        Raises:
            ValueError: the text is empty.
            UnknownCall: the call of `filter.before` or `filter.after` is not there.
        """
        ...

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        """Iterate over the calls of a subject (its keyed hash), newest first, as `view.call_json` shows them."""
        ...

    def erase(self, subject: str) -> int:
        """Delete every call of a subject (its keyed hash) and return how many there were."""
        ...

    def expire(self, before_us: int, limit: int, features: Features = EVERYTHING, start: Cursor = BEGINNING) -> Expired:
        """Delete up to `limit` of the oldest calls to some features that arrived before a time, from a place on.

        What their bodies lie together with may keep those for some minutes longer. The totals stay.
        """
        ...

    def close(self) -> None:
        """Release the store. Everything appended stays."""
        ...
