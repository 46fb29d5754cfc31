"""When calls are too old to be kept: they are deleted in small steps, between the recordings of new ones."""

import logging
import math
from typing import Final

from holdfast.clock import Clock
from holdfast.errors import LogError
from holdfast.log.base import Log, Pause

STEP: Final = 128
"""Calls deleted at once: some milliseconds of work, for which other writers have to wait."""
PAUSE: Final = 0.05
EVERY: Final = 60.0
"""Seconds until the next step: where more is to be deleted, and where nothing was left."""
_MOST: Final = 32
"""Steps in a row."""
_logger = logging.getLogger(__name__)


class Retention:
    """Deletes calls of `log` that are older than `keep`, in seconds; None deletes nothing. For the writer's thread."""

    def __init__(self, log: Log, keep: float | None, clock: Clock) -> None:
        self._log = log
        self._keep = math.inf if keep is None else keep
        self._clock = clock
        self._due = math.inf if keep is None else clock.monotonic()
        self._recorded = 0
        """Calls that came since the last step."""

    @property
    def rest(self) -> float:
        """Seconds until there may be something to delete."""
        return max(0.0, self._due - self._clock.monotonic())

    def work(self, recorded: int, pause: Pause) -> None:
        """Delete some calls if it is time to: twice as many as were recorded since, so that none stays for good."""
        self._recorded += recorded
        if self._clock.monotonic() < self._due:
            return
        steps = min(1 + 2 * self._recorded // STEP, _MOST)
        more = all(self._step(pause) for _ in range(steps))
        self._recorded = 0
        self._due = self._clock.monotonic() + (PAUSE if more else EVERY)

    def _step(self, pause: Pause) -> bool:
        """Delete the oldest calls, and return whether more are too old."""
        pause()
        try:
            return self._log.expire(round((self._clock.now() - self._keep) * 1e6), STEP) == STEP
        except LogError as error:
            _logger.warning("old calls can't be deleted, which is tried again: %s", error.message)
            return False
