"""The pages about calls: `/api/calls`, one call, and the search through what was asked and answered."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from holdfast.clock import Clock
from holdfast.errors import InvalidRequest, NotAllowed, NotFound, TooManyTries
from holdfast.gateway.access import LOCAL, Caller
from holdfast.gateway.serving.pages.query import CallsQuery, OneQuery, SearchQuery, read_query
from holdfast.gateway.serving.pages.records import Custody, actor, known
from holdfast.gateway.serving.pages.sight import bodies_for, call_for, narrowed, tenant_of
from holdfast.gateway.serving.routes import Method, Page, Query, View, json_page
from holdfast.log.base import MOST_SECONDS, Log, Match, UnknownCall
from holdfast.log.view import PAGE
from holdfast.privacy.masking import mask
from holdfast.privacy.subjects import SubjectHasher


class Calls:
    """The pages. Without `custody` nothing can be recorded: no bodies are shown to whoever has to ask for them."""

    def __init__(self, log: Log, subjects: SubjectHasher, clock: Clock, custody: Custody | None) -> None:
        self._log = log
        self._subjects = subjects
        self._clock = clock
        self._custody = custody
        self._searching = False

    def routes(self) -> Mapping[tuple[Method, str], View]:
        """Return what answers at which route."""
        return {
            ("GET", "/api/calls"): self.page,
            ("GET", "/api/calls/search"): self.search,
            ("GET", "/api/calls/{id}"): self.one,
        }

    async def page(self, query: Query) -> Page:
        """A page of the log, newest first."""
        caller = known(query)
        asked = narrowed(read_query(query.text, CallsQuery), caller)
        filter = asked.filter(self._clock.now(), self._subjects)
        bodies = bodies_for(caller, None)

        def found() -> dict[str, Any]:
            limit = PAGE if filter.limit is None else filter.limit
            batches = self._log.scan(msgspec.structs.replace(filter, limit=limit + 1))
            calls = [call for batch in batches for call in batch]
            more = calls[limit - 1].id if calls[limit:] else None
            return {"calls": [call_for(call, bodies) for call in calls[:limit]], "next": more}

        try:
            return json_page(await asyncio.to_thread(found))
        except UnknownCall as error:
            raise InvalidRequest(error.message, param="before") from error

    async def one(self, query: Query) -> Page:
        """One call with its attempts and bodies."""
        caller = known(query)
        asked = read_query(query.text, OneQuery).bodies
        bodies, own = bodies_for(caller, asked), tenant_of(caller)
        call = await asyncio.to_thread(self._log.get, query.rest)
        if call is None or own not in (None, call.tenant):
            raise NotFound(f"The log holds no call {query.rest}.")
        if asked == "plain":
            await self._record(caller, "bodies.read", call=call.id, tenant=call.tenant, subject=call.subject)
        return json_page(call_for(call, bodies))

    async def search(self, query: Query) -> Page:
        """The calls in whose bodies a text occurs, and where. What is looked for is recorded as a keyed hash."""
        caller = known(query)
        asked = narrowed(read_query(query.text, SearchQuery), caller)
        filter = asked.filter(self._clock.now(), self._subjects)
        bodies = bodies_for(caller, asked.bodies)
        if self._searching:
            raise TooManyTries("Another search is under way. Try again in a moment.", retry_after=MOST_SECONDS)
        self._searching = True
        try:
            wanted = self._subjects.hash(asked.text, asked.tenant)
            plain = bodies == "plain"
            await self._record(caller, "bodies.search", tenant=asked.tenant, wanted=wanted, plain=plain)
            found = await asyncio.to_thread(self._log.search, asked.text, filter)
        except UnknownCall as error:
            raise InvalidRequest(error.message, param="before") from error
        finally:
            self._searching = False
        matches = [_match(match, plain=plain) for match in found.matches]
        return json_page({"calls": matches, "looked": found.looked, "withheld": found.withheld, "next": found.next})

    async def _record(self, caller: Caller, action: str, **details: Any) -> None:
        if self._custody is not None:
            await self._custody.record(actor(caller), action, **details)
        elif caller is not LOCAL:
            raise NotAllowed("This gateway keeps no audit trail, so it shows no bodies in plain.")


def _match(match: Match, *, plain: bool) -> dict[str, Any]:
    excerpt = str if plain else mask
    places = [{"pointer": place.pointer, "excerpt": excerpt(place.excerpt)} for place in match.places]
    return call_for(match.call, "plain" if plain else "masked") | {"places": places}
