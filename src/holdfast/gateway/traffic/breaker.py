"""Whether a model may be called: the workers of a gateway find out together that it is down, and that it is back.

Closed, open with a pause, a single probe, then closed or another pause (M. Nygard, Release It!, "Circuit Breaker").
"""

from collections.abc import Sequence
from random import Random
from typing import Final, Literal

from holdfast.clock import Clock
from holdfast.errors import (
    BadRequest,
    ContentRefused,
    ContextTooLong,
    ContractViolated,
    LimitExceeded,
    NoAgreement,
    PriceUnknown,
    Truncated,
)
from holdfast.gateway.traffic.cells import BUCKET, BUCKETS, BUCKETS_END, PAUSE, PROBE_AT, PROBES, STATE, WINDOW
from holdfast.state.board import Row

Answer = Literal["closed", "probe", "open"]

ENOUGH: Final = 5
"""Failures in the window that open it..."""
SHARE: Final = 0.5
"""...if they are at least this share of the attempts that ended in it, or in its last seconds: a busy model that fails
all at once is found out at once."""
LATELY: Final = 2
"""How many seconds those are, the current one among them."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 5.0
"""Seconds without a probe, doubled from the first each time a probe fails; by chance up to a quarter shorter."""
LONGEST_RETRY_AFTER: Final = 30.0
"""The longest that a model may ask to be left alone."""
NO_FAILURES: Final = (
    *(BadRequest, ContentRefused, ContextTooLong, ContractViolated, NoAgreement, Truncated),
    *(LimitExceeded, PriceUnknown),
)
"""What a model that works may say too, or what is said without asking it."""
ANSWERED: Final = (ContractViolated, NoAgreement, Truncated)
"""What is said of an answer, so only where the model is up."""
_GENERATION: Final = 2**40
"""What tells stamps of different states apart: more seconds than any machine is up."""


class Breaker:
    """The breaker of one model, as one worker sees it. Its state is in the row, so it survives any worker.

    Every attempt asks first and then tells how it ended: by `succeeded`, `failed` or `released`. It passes on whether
    it was the `probe`: so an attempt from before the breaker opened that ends later is never taken for the probe.

    The window is the current second and the nine before it, and is forgotten when the breaker closes.
    """

    __slots__ = ("_bucket", "_bucket_end", "_known", "_monotonic", "_own", "_random", "_row", "_shared")

    def __init__(self, row: Row, clock: Clock, random: Random | None = None) -> None:
        self._row = row
        self._own = row.own
        self._shared = row.shared
        self._monotonic = clock.monotonic
        self._random = random or Random()  # noqa: S311 - spreads load, guards nothing
        self._known = 0.0
        """The closed state that this worker counts for."""
        self._bucket = BUCKETS
        self._bucket_end = 0.0
        """Until when what succeeds is counted in this bucket."""

    @property
    def open(self) -> bool:
        """Whether the model is known to be down."""
        return bool(self._shared[STATE] % 2)

    @property
    def probes(self) -> int:
        """How many probes there have been."""
        return self._row.total(PROBES)

    def ask(self) -> Answer:
        """Return whether to call the model. "probe" takes the one probe there is, until the attempt tells its end."""
        if self._shared[STATE] == self._known:
            return "closed"
        if not self.open:
            self._follow()
            return "closed"
        if not self._pause_is_over() or not self._row.try_lock():
            return "open"
        if not self._pause_is_over():  # another worker's probe has just ended
            self._row.unlock()
            return "open"
        self._own[PROBES] += 1
        return "probe"

    def open_for(self) -> float:
        """Return how many seconds nothing should be sent: 0.0 when closed, and when it is time for a probe."""
        if self._shared[STATE] == self._known or not self.open:
            return 0.0
        rest = self._shared[PROBE_AT] - self._monotonic()
        return max(rest, FIRST_PAUSE if self._row.locked else 0.0)

    def succeeded(self, probe: bool = True) -> None:
        """The model answered. A probe's success closes the breaker."""
        if self._shared[STATE] == self._known:
            if self._monotonic() >= self._bucket_end:
                self._turn()
            self._own[self._bucket + 1] += 1
        elif not self.open:
            self._follow()
            self.succeeded(probe)
        elif probe and self._row.locked:
            self._shared[STATE] += 1
            self._row.unlock()
            self._follow()

    def failed(self, retry_after: float | None = None, probe: bool = True) -> None:
        """The model failed, and asks to be left alone for `retry_after` seconds, if it says so."""
        if not self.open:
            self._follow()
            self._turn()
            self._own[self._bucket + 2] += 1
            if self._down():
                self._pause(FIRST_PAUSE, retry_after)
                self._shared[STATE] = self._known + 1  # the same from each worker that finds it out at once
        elif probe and self._row.locked:
            self._pause(min(self._shared[PAUSE] * 2, LONGEST_PAUSE), retry_after)
            self._row.unlock()

    def released(self, probe: bool = True) -> None:
        """The attempt ended and tells nothing of the model: it was cancelled, or the caller was at fault."""
        if probe:
            self._row.unlock()

    # --- inside ---

    def _pause_is_over(self) -> bool:
        return self.open and self._monotonic() >= self._shared[PROBE_AT]

    def _follow(self) -> None:
        """Take note of what state is closed now. Its window is a new one."""
        if self._known != (state := self._shared[STATE]):
            self._known = state
            self._bucket_end = 0.0

    def _stamp(self, second: int) -> int:
        return int(self._known) * _GENERATION + second + 1

    def _turn(self) -> None:
        """Turn to the bucket of this second, and empty it if what it holds is old."""
        second, own = int(self._monotonic()), self._own
        self._bucket = bucket = BUCKETS + BUCKET * (second % WINDOW)
        self._bucket_end = second + 1.0
        if own[bucket] != (stamp := self._stamp(second)):
            own[bucket] = own[bucket + 1] = own[bucket + 2] = 0
            own[bucket] = stamp

    def _down(self) -> bool:
        """Whether the window, over all workers, holds enough failures."""
        last = self._stamp(int(self._monotonic()))
        first = max(last - WINDOW + 1, self._stamp(0))
        ended = [
            (cells[at] > last - LATELY, cells[at + 1], cells[at + 2])
            for cells in self._row.slots(BUCKETS, BUCKETS_END)
            for at in range(0, len(cells), BUCKET)
            if first <= cells[at] <= last
        ]
        return _many(ended) or _many([bucket for bucket in ended if bucket[0]])

    def _pause(self, pause: float, retry_after: float | None) -> None:
        length = pause * (1 - self._random.random() / 4)
        if retry_after is not None:
            length = max(length, min(retry_after, LONGEST_RETRY_AFTER))
        self._shared[PAUSE] = pause
        self._shared[PROBE_AT] = self._monotonic() + length


def _many(buckets: Sequence[tuple[bool, int, int]]) -> bool:
    """Whether there are enough failures among what ended."""
    failures = sum([failed for _, _, failed in buckets])
    return failures >= ENOUGH and failures >= SHARE * (failures + sum([worked for _, worked, _ in buckets]))


class Unbreakable(Breaker):
    """The breaker of a model that is always called, whatever is known of it."""

    def ask(self) -> Answer:
        return "closed"

    def open_for(self) -> float:
        return 0.0

    def succeeded(self, probe: bool = True) -> None:
        pass

    def failed(self, retry_after: float | None = None, probe: bool = True) -> None:
        pass

    def released(self, probe: bool = True) -> None:
        pass
