"""Sums over calls, made as the calls are recorded."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from holdfast.errors import LimitExceeded, PriceUnknown, Saturated
from holdfast.events import Call
from holdfast.log.base import DURATION_BOUNDS_S, AttemptTotal, Spend, Total

KEYS = ("name", "model", "outcome", "error")
ATTEMPT_KEYS = ("model", "error")
SPEND_KEYS = ("tenant", "key", "name", "model")
Key = tuple[int, *tuple[str, ...]]
"""Minute since 1970 UTC, then the `KEYS` of calls, or the `ATTEMPT_KEYS` of attempts; minute 0 is all time. Or a day
since 1970 UTC, then the `SPEND_KEYS`."""
_AttemptKey = tuple[int, str, str | None, str, str | None, str | None]
"""Minute, model and error of an attempt; name, tenant and key of its call."""

SUMS = (
    "calls",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cost_nanousd",
    "unpriced",
    "duration_us",
    "repaired",
    "repairs",
    "replayed",
)
"""What is summed, in this order; the counts by duration follow."""

ATTEMPT_SUMS = (
    "attempts",
    "input_tokens",
    "output_tokens",
    "cost_nanousd",
    "unpriced",
    "duration_us",
    "reasks",
    "saved_tokens",
    "ignored",
)
"""What is summed over attempts, in this order."""
SPEND_SUMS = ATTEMPT_SUMS[:5]
UNSENT = frozenset(error.code for error in (LimitExceeded, PriceUnknown, Saturated))
"""The errors of attempts that a limit stopped before anything was sent: they spent nothing."""

WIDTH = len(SUMS) + len(DURATION_BOUNDS_S) + 1
MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
_DAY_MINUTES = 1_440

_BOUNDS_US = [round(bound * 1e6) for bound in DURATION_BOUNDS_S]


def tally(calls: Iterable[Call]) -> dict[Key, list[int]]:
    """Sum calls up, each under the minute it arrived in."""
    tallies: dict[Key, list[int]] = {}
    for call in calls:
        key = (call.at_us // MINUTE_US, call.name, call.model or "", call.outcome, call.error or "")
        sums = tallies.get(key)
        if sums is None:
            sums = tallies[key] = [0] * WIDTH
        sums[0] += 1
        sums[1] += len(call.attempts)
        if (usage := call.usage) is not None:
            sums[2] += usage.input_tokens
            sums[3] += usage.output_tokens
            sums[4] += usage.cache_read_tokens
        if call.cost_nanousd is None:
            sums[6] += 1
        else:
            sums[5] += call.cost_nanousd
        sums[7] += call.duration_us
        if call.repairs:
            sums[8] += 1
            sums[9] += call.repairs
        if call.replayed is not None:
            sums[10] += 1
        sums[11 + bisect_left(_BOUNDS_US, call.duration_us)] += 1
    return tallies


def tally_attempts(calls: Iterable[Call]) -> tuple[dict[Key, list[int]], dict[Key, list[int]]]:
    """Sum the attempts of calls up: each under the minute its call arrived in, and under the day, as its spend."""
    tallies: dict[_AttemptKey, list[int]] = {}
    for call in calls:
        minute, name, tenant, key_name = call.at_us // MINUTE_US, call.name, call.tenant, call.key
        for attempt in call.attempts:
            key = (minute, attempt.model, attempt.error, name, tenant, key_name)
            sums = tallies.get(key)
            if sums is None:
                sums = tallies[key] = [0] * len(ATTEMPT_SUMS)
            sums[0] += 1
            if (usage := attempt.usage) is not None:
                sums[1] += usage.input_tokens
                sums[2] += usage.output_tokens
            if (cost := attempt.cost_nanousd) is None:
                sums[4] += 1
            else:
                sums[3] += cost
            sums[5] += attempt.duration_us
            if attempt.reason == "reask":
                sums[6] += 1
            if attempt.saved_tokens:
                sums[7] += attempt.saved_tokens
            if attempt.ignored:
                sums[8] += 1
    return _split(tallies)


def _split(tallies: Mapping[_AttemptKey, Sequence[int]]) -> tuple[dict[Key, list[int]], dict[Key, list[int]]]:
    by_minute: dict[Key, list[int]] = {}
    spent: dict[Key, list[int]] = {}
    for (minute, model, error, name, tenant, key), sums in tallies.items():
        _add(by_minute, (minute, model, error or ""), sums)
        if error not in UNSENT:
            _add(spent, (minute // _DAY_MINUTES, tenant or "", key or "", name, model), sums[: len(SPEND_SUMS)])
    return by_minute, spent


def merge(into: dict[Key, list[int]], tallies: Mapping[Key, Sequence[int]]) -> None:
    """Add `tallies` to those in `into`."""
    for key, sums in tallies.items():
        _add(into, key, sums)


def _add(into: dict[Key, list[int]], key: Key, sums: Sequence[int]) -> None:
    into[key] = [a + b for a, b in zip(into[key], sums, strict=True)] if key in into else list(sums)


def all_time(tallies: Mapping[Key, Sequence[int]]) -> dict[Key, list[int]]:
    """Sum over the minutes."""
    summed: dict[Key, list[int]] = {}
    for key, sums in tallies.items():
        _add(summed, (0, *key[1:]), sums)
    return summed


def total(key: Sequence[str], sums: Sequence[int]) -> Total:
    """Return the value of sums under (name, model, outcome, error)."""
    name, model, outcome, error = key
    named = dict(zip(SUMS, sums, strict=False))
    return Total(name=name, model=model, outcome=outcome, error=error, buckets=tuple(sums[len(SUMS) :]), **named)


def attempt_total(key: Sequence[str], sums: Sequence[int]) -> AttemptTotal:
    """Return the value of sums under (model, error)."""
    model, error = key
    return AttemptTotal(model=model, error=error, **dict(zip(ATTEMPT_SUMS, sums, strict=True)))


def spend(day: int, key: Sequence[str], sums: Sequence[int]) -> Spend:
    """Return the value of sums under (tenant, key, name, model)."""
    tenant, key_name, name, model = key
    named = dict(zip(SPEND_SUMS, sums, strict=True))
    return Spend(day=day, tenant=tenant, key=key_name, name=name, model=model, **named)
