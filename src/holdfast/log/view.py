"""Calls as JSON: the one shape that the command line and the HTTP API share."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from holdfast.chat import Usage
from holdfast.events import Attempt, Call, FingerprintChanged
from holdfast.log.base import AttemptTotal, Filter, Log, Total

PAGE = 50


def export_json(log: Log, subject: str) -> Iterator[Mapping[str, Any]]:
    """Iterate over the calls of a subject (its keyed hash) with their bodies, newest first."""
    for batch in log.scan(Filter(subject=subject)):
        for listed in batch:
            if (call := log.get(listed.id)) is not None:
                yield call_json(call)


def call_json(call: Call) -> dict[str, Any]:
    """Return a call as plain JSON values, its bodies only where it carries them.

    Times are ISO 8601 in UTC, durations microseconds, money US dollars as a decimal string; None is unknown.
    """
    shown: dict[str, Any] = {
        "id": call.id,
        "at": iso(call.at_us),
        "at_us": call.at_us,
        "kind": call.kind,
        "wire": call.wire,
        "name": call.name,
        "feature": call.feature,
        "model": call.model,
        "provider": call.provider,
        "served_model": call.served_model,
        "fingerprint": call.fingerprint,
        "config": call.config,
        "outcome": call.outcome,
        "status": call.status,
        "error": call.error,
        "message": call.message,
        "finish": call.finish,
        "stream": call.stream,
        "store": call.store,
        "duration_us": call.duration_us,
        "first_token_us": call.first_token_us,
        "session": call.session,
        "subject": call.subject,
        "tags": call.tags,
        "usage": _usage_json(call.usage),
        "cost_usd": usd(call.cost_nanousd),
        "contract": call.contract,
        "repairs": call.repairs,
        "replayed": call.replayed,
        "samples": call.samples,
        "agreement": call.agreement,
        "tenant": call.tenant,
        "key": call.key,
        "withheld": call.withheld,
        "attempts": [_attempt_json(attempt) for attempt in call.attempts],
    }
    bodies = {"request": call.request, "reply": call.reply, "ledger": call.ledger or None}
    return shown | {name: _plain(body) for name, body in bodies.items() if body is not None}


def fingerprint_json(change: FingerprintChanged) -> dict[str, Any]:
    """Return how a provider changed what it serves as plain JSON values."""
    return {"at": iso(change.at_us), **msgspec.structs.asdict(change)}


def total_json(total: Total) -> dict[str, Any]:
    """Return sums as plain JSON values."""
    return {**msgspec.structs.asdict(total), "cost_usd": usd(known_cost(total)), "buckets": list(total.buckets)}


def attempt_total_json(total: AttemptTotal) -> dict[str, Any]:
    """Return sums over attempts as plain JSON values."""
    return {**msgspec.structs.asdict(total), "cost_usd": usd(known_cost(total))}


class Sum(Protocol):
    """A sum over calls or attempts."""

    @property
    def attempts(self) -> int: ...
    @property
    def cost_nanousd(self) -> int: ...
    @property
    def unpriced(self) -> int: ...


def known_cost(total: Sum) -> int | None:
    """Return what a sum cost, without those parts of it whose cost is unknown; None where that is all of them."""
    count = total.calls if isinstance(total, Total) else total.attempts
    return None if total.unpriced == count else total.cost_nanousd


def iso(at_us: int) -> str:
    """Return a time in ISO 8601, UTC, to the microsecond. Times beyond the year 9999 are cut to it."""
    seconds, micros = divmod(min(max(at_us, 0), _LAST_US), 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def usd(nanousd: int | None) -> str | None:
    """Return US dollars as a decimal with nine places, None where the cost is unknown."""
    if nanousd is None:
        return None
    return f"{'-' if nanousd < 0 else ''}{abs(nanousd) // 10**9}.{abs(nanousd) % 10**9:09d}"


_LAST_US = 253_402_300_799_999_999


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    shown = msgspec.structs.asdict(attempt)
    del shown["cost_nanousd"]
    return {**shown, "usage": _usage_json(attempt.usage), "cost_usd": usd(attempt.cost_nanousd)}


def _usage_json(usage: Usage | None) -> dict[str, int] | None:
    return None if usage is None else msgspec.structs.asdict(usage)


def _plain(value: object) -> Any:
    return msgspec.to_builtins(value)
