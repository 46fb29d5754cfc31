"""Says of calls that no model answered, so that an operator sees a broken key without looking into the log."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from holdfast.events import AnyEvent, Call

EVERY_SECONDS: Final = 60.0
"""How often the same is said of the same feature."""
_logger = logging.getLogger(__name__)


class Notices:
    """A subscriber of the log's writer. It quotes no provider, whose words may quote the caller."""

    def __init__(
        self, say: Callable[[str], None] = _logger.info, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._monotonic = monotonic
        self._silent: dict[tuple[str, str, str], tuple[float, int]] = {}
        """Until when nothing is said of a feature, outcome and error, and how many calls there were meanwhile."""

    def __call__(self, batch: Sequence[AnyEvent]) -> None:
        for event in batch:
            if isinstance(event, Call) and event.outcome in ("last_resort", "error") and event.attempts:
                self._count(event)

    def _count(self, call: Call) -> None:
        now, key = self._monotonic(), (call.name, call.outcome, call.error or "unknown")
        until, calls = self._silent.get(key, (now, 0))
        if now < until:
            self._silent[key] = (until, calls + 1)
            return
        self._silent = {key: silent for key, silent in self._silent.items() if silent[0] > now}
        self._silent[key] = (now + EVERY_SECONDS, 0)
        self._say(_notice(call, calls + 1))


def _notice(call: Call, calls: int) -> str:
    count = "a call" if calls == 1 else f"{calls} more calls"
    end = "in the last resort" if call.outcome == "last_resort" else "in an error"
    tried = ", ".join(f"{attempt.model}: {attempt.error}" for attempt in call.attempts if attempt.error)
    return f"{call.name}: {count} ended {end} ({tried}). See: holdfast calls show {call.id}"
