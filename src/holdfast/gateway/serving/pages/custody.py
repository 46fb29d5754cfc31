"""The pages about who may call, what was spent, and what was done: `/api/keys`, `/api/spend`, `/api/audit`."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import islice
from typing import Any, Final

import msgspec

from holdfast.clock import Clock
from holdfast.gateway.serving.pages.query import AuditQuery, KeysQuery, SpendQuery, read_query
from holdfast.gateway.serving.pages.records import Custody, known
from holdfast.gateway.serving.pages.sight import narrowed
from holdfast.gateway.serving.routes import Method, Page, Query, View, json_page
from holdfast.log.base import Log, Spend
from holdfast.log.view import iso, known_cost, usd
from holdfast.privacy.audit.chain import Entry
from holdfast.state.keys import Key

_FIRST_DAY: Final = date(1970, 1, 1)


class CustodyPages:
    """The pages. What blocks is done in threads."""

    def __init__(self, log: Log, clock: Clock, custody: Custody) -> None:
        self._log = log
        self._clock = clock
        self._custody = custody

    def routes(self) -> Mapping[tuple[Method, str], View]:
        """Return what answers at which route."""
        return {
            ("GET", "/api/keys"): self.keys,
            ("GET", "/api/spend"): self.spend,
            ("GET", "/api/audit"): self.audit,
        }

    async def keys(self, query: Query) -> Page:
        """The keys, in the order of their creation. Neither their tokens nor the hashes of those are told."""
        asked = narrowed(read_query(query.text, KeysQuery), known(query))
        found = await asyncio.to_thread(self._custody.keys.all)
        now_us = int(self._clock.now() * 1e6)
        shown = [_key_json(key, now_us) for key in found if asked.tenant in (None, key.tenant)]
        return json_page({"keys": shown})

    async def spend(self, query: Query) -> Page:
        """What attempts took: by day, tenant, key, feature and model."""
        asked = narrowed(read_query(query.text, SpendQuery), known(query))
        since_us, until_us = asked.days(self._clock.now())

        def found() -> Sequence[Spend]:
            return self._log.spend(since_us, until_us, tenant=asked.tenant, key=asked.key)

        return json_page({"spend": [_spend_json(spend) for spend in await asyncio.to_thread(found)]})

    async def audit(self, query: Query) -> Page:
        """The entries of the audit trail, newest first."""
        asked = read_query(query.text, AuditQuery)
        since_us, before = asked.since_us(self._clock.now()), asked.before

        def found() -> list[Entry]:
            entries = self._custody.trail.entries(action=asked.action, actor=asked.actor, since_us=since_us)
            wanted = (entry for entry in entries if before is None or entry.n < before)
            return list(islice(wanted, asked.limit + 1))

        entries = await asyncio.to_thread(found)
        shown = [msgspec.structs.asdict(entry) for entry in entries[: asked.limit]]
        return json_page({"entries": shown, "next": shown[-1]["n"] if entries[asked.limit :] else None})


def _key_json(key: Key, now_us: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "role": key.role,
        "features": list(key.features),
        "limits": [limit.name for limit in key.limits],
        "created": iso(key.created_us),
        "expires": None if key.expires_us is None else iso(key.expires_us),
        "revoked": None if key.revoked_us is None else iso(key.revoked_us),
        "successor": key.successor,
        "standing": key.standing(now_us),
    }


def _spend_json(spend: Spend) -> dict[str, Any]:
    shown = msgspec.structs.asdict(spend)
    day = _FIRST_DAY + timedelta(days=shown.pop("day"))
    del shown["cost_nanousd"]
    return {"day": day.isoformat(), **shown, "cost_usd": usd(known_cost(spend))}
