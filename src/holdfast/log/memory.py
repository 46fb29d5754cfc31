"""The log in memory, for tests and for gateways that keep nothing."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from holdfast.events import AnyEvent, Call, Correction, FingerprintChanged, Snapshot
from holdfast.log.base import (
    BEGINNING,
    EVERYTHING,
    MOST_CALLS,
    MOST_SECONDS,
    AttemptTotal,
    Cursor,
    ErasedAt,
    Expired,
    Features,
    Filter,
    Found,
    Pause,
    Spend,
    Total,
    UnknownCall,
    bodiless,
    breathe,
    is_late,
    kept,
    never_erased,
    no_pause,
)
from holdfast.log.search import Seeker
from holdfast.log.totals import (
    DAY_US,
    MINUTE_US,
    Key,
    all_time,
    attempt_total,
    merge,
    spend,
    tally,
    tally_attempts,
    total,
)
from holdfast.log.view import export_json

_PAGE = 500


class MemoryLog:
    """A log that ends with the process. `limit` bounds the calls it keeps: the oldest make room. Thread-safe."""

    name = "log"

    def __init__(self, limit: int | None = None, erased_at: ErasedAt = never_erased) -> None:
        self._limit = limit
        self._erased_at = erased_at
        self._calls: dict[str, tuple[int, Call]] = {}
        """By id, in the order of recording, which is the number."""
        self._recorded = 0
        self._snapshots: dict[str, Snapshot] = {}
        self._fingerprints: dict[FingerprintChanged, None] = {}
        self._totals: dict[Key, list[int]] = {}
        self._attempt_totals: dict[Key, list[int]] = {}
        self._spend: dict[Key, list[int]] = {}
        self._lock = threading.Lock()

    def append(self, batch: Sequence[AnyEvent], pause: Pause = no_pause) -> None:
        with self._lock:
            new: dict[str, Call] = {}
            for event in batch:
                if isinstance(event, Snapshot):
                    self._snapshots.setdefault(event.hash, event)
                elif isinstance(event, FingerprintChanged):
                    self._fingerprints[event] = None
                elif isinstance(event, Call) and event.id not in self._calls:
                    new.setdefault(event.id, event)
            merge(self._totals, tally(new.values()))
            attempts, spent = tally_attempts(new.values())
            merge(self._attempt_totals, attempts)
            merge(self._spend, spent)
            for call in new.values():
                self._keep(call)
            for event in batch:
                if isinstance(event, Correction) and event.call.id in self._calls:
                    self._correct(event.call)

    def _correct(self, call: Call) -> None:
        number, recorded = self._calls[call.id]
        bodies = {"request": recorded.request, "reply": recorded.reply, "ledger": recorded.ledger}
        corrected = msgspec.structs.replace(kept(call), **bodies)
        self._calls[call.id] = number, corrected

    def _keep(self, call: Call) -> None:
        if call.store == "none" or is_late(call, self._erased_at):
            return
        self._recorded += 1
        self._calls[call.id] = self._recorded, kept(call)
        if self._limit is not None and len(self._calls) > self._limit:
            del self._calls[next(iter(self._calls))]

    def get(self, id: str) -> Call | None:
        with self._lock:
            return self._calls[id][1] if id in self._calls else None

    def snapshot(self, hash: str) -> Snapshot | None:
        with self._lock:
            return self._snapshots.get(hash)

    def fingerprints(
        self, *, model: str | None = None, since_us: int | None = None, limit: int | None = None
    ) -> Sequence[FingerprintChanged]:
        with self._lock:
            newest_first = sorted(self._fingerprints, key=msgspec.structs.astuple, reverse=True)
        found = [
            change
            for change in newest_first
            if (model is None or change.model == model) and (since_us is None or change.at_us >= since_us)
        ]
        return found[:limit]

    def scan(self, filter: Filter) -> Iterator[Sequence[Call]]:
        calls = islice((call for _, call in self._ordered(filter)), filter.limit)
        while batch := [bodiless(call) for call in islice(calls, _PAGE)]:
            yield batch

    def _ordered(self, filter: Filter) -> Iterator[tuple[int, Call]]:
        """Return the calls that a filter asks for, in the order of a scan."""

        def newest_first(item: tuple[int, Call]) -> tuple[int, int]:
            return item[1].at_us, item[0]

        with self._lock:
            keep = _predicate(filter)
            found = list(self._calls.values())
            if filter.after is not None:
                last = max([self._number(id) for id in (filter.after, filter.before) if id is not None])
                found = [item for item in found if item[0] > last]
            else:
                found.sort(key=newest_first, reverse=True)
                if filter.before is not None:
                    place = newest_first((self._number(filter.before), self._calls[filter.before][1]))
                    found = [item for item in found if newest_first(item) < place]
        return (item for item in found if keep(item[1]))

    def _number(self, id: str) -> int:
        if id not in self._calls:
            raise UnknownCall(id)
        return self._calls[id][0]

    def totals(self, since_us: int | None = None) -> Sequence[Total]:
        return [total(key[1:], sums) for key, sums in self._since(self._totals, since_us)]

    def attempt_totals(self, since_us: int | None = None) -> Sequence[AttemptTotal]:
        return [attempt_total(key[1:], sums) for key, sums in self._since(self._attempt_totals, since_us)]

    def _since(self, totals: dict[Key, list[int]], since_us: int | None) -> list[tuple[Key, list[int]]]:
        with self._lock:
            since = 0 if since_us is None else since_us // MINUTE_US
            return sorted(all_time({key: sums for key, sums in totals.items() if key[0] >= since}).items())

    def search(
        self,
        text: str,
        filter: Filter,
        *,
        most_calls: int = MOST_CALLS,
        most_seconds: float = MOST_SECONDS,
        pause: Pause = breathe,
    ) -> Found:
        seeker = Seeker(text, filter, most_calls, most_seconds, pause)
        for _, call in self._ordered(filter):
            seeker.look(call)
            if seeker.done:
                return seeker.found(call.id)
        return seeker.found(None)

    def export(self, subject: str) -> Iterator[Mapping[str, Any]]:
        return export_json(self, subject)

    def spend(
        self,
        since_us: int | None = None,
        until_us: int | None = None,
        *,
        tenant: str | None = None,
        key: str | None = None,
        in_total: bool = False,
    ) -> Sequence[Spend]:
        first, last = (since_us or 0) // DAY_US, (2**63 - 1 if until_us is None else until_us) // DAY_US
        with self._lock:
            found = [(spend(keys[0], keys[1:], sums), sums) for keys, sums in sorted(self._spend.items())]
        wanted = [
            (one, sums)
            for one, sums in found
            if first <= one.day <= last and tenant in (None, one.tenant) and key in (None, one.key)
        ]
        if not in_total:
            return [one for one, _ in wanted]
        totals: dict[Key, list[int]] = {}
        for one, sums in wanted:
            merge(totals, {(0, one.tenant, "", one.name, one.model): sums})
        return [spend(0, keys[1:], sums) for keys, sums in sorted(totals.items())]

    def erase(self, subject: str) -> int:
        with self._lock:
            erased = [id for id, (_, call) in self._calls.items() if call.subject == subject]
            for id in erased:
                del self._calls[id]
        return len(erased)

    def expire(self, before_us: int, limit: int, features: Features = EVERYTHING, start: Cursor = BEGINNING) -> Expired:
        with self._lock:
            old = sorted(
                [
                    ((call.at_us, number), id)
                    for id, (number, call) in self._calls.items()
                    if call.at_us < before_us and (call.at_us, number) > start and features.hold(call.feature)
                ]
            )
            for _, id in old[:limit]:
                del self._calls[id]
        return Expired(len(old[:limit]), old[limit - 1][0] if len(old) >= limit else None)

    def close(self) -> None:
        """Nothing to release."""


def _predicate(filter: Filter) -> Callable[[Call], bool]:
    equal = {name: value for name in Filter.EQUALS if (value := getattr(filter, name)) is not None}

    def holds(call: Call) -> bool:
        return (
            (filter.since_us is None or call.at_us >= filter.since_us)
            and (filter.until_us is None or call.at_us < filter.until_us)
            and (filter.repaired is None or (call.repairs > 0) == filter.repaired)
            and (filter.replayed is None or (call.replayed is not None) == filter.replayed)
            and (filter.tag is None or call.tags.get(filter.tag[0]) == filter.tag[1])
            and all(getattr(call, name) == value for name, value in equal.items())
        )

    return holds
