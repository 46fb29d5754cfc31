"""Says of calls that no model answered, and of models that are not what they were, so that an operator sees it without
looking into the log."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from holdfast.events import AnyEvent, Call, FingerprintChanged

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
        """Until when nothing is said of a feature, outcome and error, or of a model and its change, and how often it
        came up meanwhile."""

    def __call__(self, batch: Sequence[AnyEvent]) -> None:
        for event in batch:
            if isinstance(event, Call) and event.outcome in ("last_resort", "error") and event.attempts:
                if times := self._due((event.name, event.outcome, event.error or "unknown")):
                    self._say(_notice(event, times))
            elif isinstance(event, FingerprintChanged) and self._due((event.model, event.before, event.after)):
                self._say(
                    f"{event.model}: {event.provider} serves {event.after!r} now, no more {event.before!r}, "
                    "so its answers may differ. See: holdfast calls fingerprints"
                )

    def _due(self, key: tuple[str, str, str]) -> int:
        """Count one more of a kind, and return how many are to be told of: 0 for as long as nothing is to be said."""
        now = self._monotonic()
        until, before = self._silent.get(key, (now, 0))
        if now < until:
            self._silent[key] = (until, before + 1)
            return 0
        self._silent = {key: silent for key, silent in self._silent.items() if silent[0] > now}
        self._silent[key] = (now + EVERY_SECONDS, 0)
        return before + 1


def _notice(call: Call, calls: int) -> str:
    count = "a call" if calls == 1 else f"{calls} more calls"
    end = "in the last resort" if call.outcome == "last_resort" else "in an error"
    tried = ", ".join(f"{attempt.model}: {attempt.error}" for attempt in call.attempts if attempt.error)
    return f"{call.name}: {count} ended {end} ({tried}). See: holdfast calls show {call.id}"
