"""Calls as JSON: the one shape that the command line and the HTTP API share."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from holdfast.chat import Usage
from holdfast.errors import InvalidRequest
from holdfast.events import Attempt, Call, FingerprintChanged
from holdfast.log.base import AttemptTotal, Filter, Found, Log, Spend, Total, UnknownCall

PAGE = 50


def page(log: Log, filter: Filter) -> dict[str, Any]:
    """Return `{"calls": [...], "next": id}`: `filter.limit` calls (default 50), and the cursor of the next page.

    The cursor is to be given back as `filter.before`; None where no call is left.

    Raises:
        InvalidRequest: the call of a cursor is not in the log.
        LogError: the log can't be read.
    """
    limit = PAGE if filter.limit is None else filter.limit
    try:
        found = [call for batch in log.scan(msgspec.structs.replace(filter, limit=limit + 1)) for call in batch]
    except UnknownCall as error:
        raise _invalid(error, filter) from error
    calls = found[:limit]
    return {"calls": [call_json(call) for call in calls], "next": calls[-1].id if calls and found[limit:] else None}


def search_page(log: Log, text: str, filter: Filter) -> dict[str, Any]:
    """Look for a text in bodies and return `{"calls": [...], "next": id, "looked": n, "withheld": n}`.

    Each call has its `places`: a `pointer` into what `call_json` shows of it with its bodies, and an `excerpt`. `next`
    is to be given back as `filter.before`; None where nothing is left to look at.

    Raises:
        InvalidRequest: the text is empty, or the call of a cursor is not in the log.
        LogError: the log can't be read.
    """
    try:
        return found_json(log.search(text, filter))
    except UnknownCall as error:
        raise _invalid(error, filter) from error
    except ValueError as error:
        raise InvalidRequest(f"text: {error}.", param="text") from error


def _invalid(error: UnknownCall, filter: Filter) -> InvalidRequest:
    return InvalidRequest(error.message, param="after" if error.id == filter.after else "before")


def found_json(found: Found) -> dict[str, Any]:
    """Return what a search found as plain JSON values."""
    calls = [call_json(match.call) | {"places": [place._asdict() for place in match.places]} for match in found.matches]
    return {"calls": calls, "next": found.next, "looked": found.looked, "withheld": found.withheld}


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


def spend_json(spend: Spend) -> dict[str, Any]:
    """Return what attempts took as plain JSON values, the day in ISO 8601; without a key, tenant and key are None."""
    shown = msgspec.structs.asdict(spend) | {"tenant": spend.tenant or None, "key": spend.key or None}
    return {**shown, "day": iso(spend.day * _DAY_US)[:10], "cost_usd": usd(known_cost(spend))}


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


_DAY_US = 86_400_000_000
_LAST_US = 253_402_300_799_999_999


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    shown = msgspec.structs.asdict(attempt)
    del shown["cost_nanousd"]
    return {**shown, "usage": _usage_json(attempt.usage), "cost_usd": usd(attempt.cost_nanousd)}


def _usage_json(usage: Usage | None) -> dict[str, int] | None:
    return None if usage is None else msgspec.structs.asdict(usage)


def _plain(value: object) -> Any:
    return msgspec.to_builtins(value)
