"""When calls are too old to be kept: they are deleted in small steps, between the recordings of new ones."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Final

from holdfast.clock import Clock
from holdfast.errors import LogError
from holdfast.log.base import BEGINNING, EVERYTHING, Cursor, Features, Log, Pause

STEP: Final = 128
"""Calls deleted at once: some milliseconds of work, for which other writers have to wait."""
PAUSE: Final = 0.05
EVERY: Final = 60.0
"""Seconds until the next step: where more is to be deleted, and where nothing was left."""
_MOST: Final = 32
"""Steps in a row."""
_logger = logging.getLogger(__name__)


class _Line:
    """Calls that are kept equally long, in seconds, and how far they have been looked through."""

    def __init__(self, features: Features, keep: float) -> None:
        self.features = features
        self.keep = keep
        self.start: Cursor = BEGINNING


class _Plan:
    """What is deleted, and when it is time to. Replaced whole, so that no thread sees half of another."""

    def __init__(self, lines: Sequence[_Line], due: float) -> None:
        self.lines = lines
        self.due = due if lines else math.inf


class Retention:
    """Deletes calls of `log` that are older than `keep`, in seconds; None deletes nothing. For the writer's thread.

    Calls to a feature that `by_feature` names are kept as long as that says instead.
    """

    def __init__(self, log: Log, keep: float | None, clock: Clock, by_feature: Mapping[str, float] = {}) -> None:
        self._log = log
        self._clock = clock
        self._recorded = 0
        """Calls that came since the last step."""
        self.change(keep, by_feature)

    def change(self, keep: float | None, by_feature: Mapping[str, float] = {}) -> None:
        """Keep calls for other times from now on. May be called from any thread."""
        self._plan = _Plan(_lines(keep, by_feature), self._clock.monotonic())

    @property
    def rest(self) -> float:
        """Seconds until there may be something to delete."""
        return max(0.0, self._plan.due - self._clock.monotonic())

    def work(self, recorded: int, pause: Pause) -> None:
        """Delete some calls if it is time to: twice as many as were recorded since, so that none stays for good."""
        self._recorded += recorded
        plan = self._plan
        if self._clock.monotonic() < plan.due:
            return
        steps = min(1 + 2 * self._recorded // STEP, _MOST)
        more = [self._work(line, steps, pause) for line in plan.lines]
        self._recorded = 0
        plan.due = self._clock.monotonic() + (PAUSE if any(more) else EVERY)

    def _work(self, line: _Line, steps: int, pause: Pause) -> bool:
        return all(self._step(line, pause) for _ in range(steps))

    def _step(self, line: _Line, pause: Pause) -> bool:
        """Delete the oldest calls, and return whether there may be more that are too old."""
        pause()
        before_us = round((self._clock.now() - line.keep) * 1e6)
        try:
            expired = self._log.expire(before_us, STEP, line.features, line.start)
        except LogError as error:
            _logger.warning("old calls can't be deleted, which is tried again: %s", error.message)
            return False
        if line.features != EVERYTHING:  # else nothing is ever passed over
            line.start = (before_us, 0) if expired.next is None else expired.next
        return expired.next is not None


def _lines(keep: float | None, by_feature: Mapping[str, float]) -> Sequence[_Line]:
    keeps: dict[float, set[str]] = {}
    for feature, seconds in by_feature.items():
        keeps.setdefault(seconds, set()).add(feature)
    lines = [_Line(Features(frozenset(names)), seconds) for seconds, names in keeps.items() if seconds != math.inf]
    if keep is not None:
        lines.append(_Line(Features(but=frozenset(by_feature)), keep))
    return lines
