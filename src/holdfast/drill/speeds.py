"""How fast the models are: as the log has seen them of late, else a guess."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from holdfast.errors import LogError
from holdfast.events import Attempt
from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog

RECENT_CALLS: Final = 2000
FEWEST: Final = 5
"""Attempts from which on a model's speed is the log's word."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """`first_token` in seconds, `tokens_per_second` from then on. `attempts` is how many it was seen in; 0: a guess."""

    first_token: float = 0.4
    tokens_per_second: float = 60.0
    attempts: int = 0


USUAL: Final = Speed()


def recent(path: Path) -> Mapping[str, Speed]:
    """Return the speed of each model that the log has seen often enough. The log is only read; none is no speeds."""
    try:
        log = SqliteLog.read(path)
    except LogError:
        return {}
    try:
        calls = [call for batch in log.scan(Filter(limit=RECENT_CALLS)) for call in batch]
    except LogError:
        return {}
    finally:
        log.close()
    return speeds(attempt for call in calls for attempt in call.attempts)


def speeds(attempts: Iterable[Attempt]) -> Mapping[str, Speed]:
    """Return the median speed of each model over the streamed answers among the attempts."""
    seen: dict[str, list[tuple[float, float]]] = {}
    for attempt in attempts:
        if (pace := _pace(attempt)) is not None:
            seen.setdefault(attempt.model, []).append(pace)
    return {
        model: Speed(
            first_token=median(first for first, _ in paces),
            tokens_per_second=median(rate for _, rate in paces),
            attempts=len(paces),
        )
        for model, paces in seen.items()
        if len(paces) >= FEWEST
    }


def _pace(attempt: Attempt) -> tuple[float, float] | None:
    """Return the first-token delay and the rate of an answer, None where it was not streamed or is too short."""
    tokens = 0 if attempt.usage is None else attempt.usage.output_tokens
    if attempt.error is not None or attempt.first_token_us is None or tokens < 2:
        return None
    rest = max(attempt.duration_us - attempt.first_token_us, 1)
    return attempt.first_token_us / 1e6, min((tokens - 1) / rest * 1e6, 10_000.0)
