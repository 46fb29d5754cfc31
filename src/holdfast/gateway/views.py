"""The pages beside the calls: health, metrics, what can be called, and the log."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec

from holdfast.errors import InvalidRequest, NotFound
from holdfast.events import Outcome
from holdfast.gateway import metrics
from holdfast.gateway.asgi import Page, Query, View
from holdfast.gateway.pipeline import Pipeline
from holdfast.log.base import Filter, Log
from holdfast.log.view import PAGE, call_json, page
from holdfast.privacy.subjects import SubjectHasher
from holdfast.settings import Duration

EPOCH = "1970-01-01T00:00:00Z"


class Views:
    """The GET routes. `log` is read in threads, never on the loop."""

    def __init__(self, pipeline: Pipeline, log: Log, subjects: SubjectHasher) -> None:
        self._pipeline = pipeline
        self._log = log
        self._subjects = subjects
        self._draining = False

    def drain(self) -> None:
        """Say from now on that no more calls are taken."""
        self._draining = True

    def routes(self) -> Mapping[str, View]:
        """Return the table of routes; a trailing `/` takes the rest of the path."""
        return {
            "/": self.index,
            "/healthz": self.health,
            "/readyz": self.ready,
            "/metrics": self.metrics,
            "/v1/models": self.models,
            "/v1/models/": self.model,
            "/api/calls": self.calls,
            "/api/calls/": self.call,
        }

    async def index(self, query: Query) -> Page:
        """What this is."""
        return _json({"name": "holdfast", "version": version("holdfast"), "routes": sorted(self.routes())})

    async def health(self, query: Query) -> Page:
        """Liveness: the loop turns."""
        return _json({"status": "ok"})

    async def ready(self, query: Query) -> Page:
        """Readiness: calls are taken and can be recorded."""
        log = self._pipeline.log
        if self._draining:
            return _json({"status": "draining"}, status=503)
        if log.failing is not None:
            return _json({"status": "failing", "log": log.failing.message}, status=503)
        if log.full:
            return _json({"status": "saturated"}, status=503)
        return _json({"status": "ready", "config": self._pipeline.catalog.config})

    async def metrics(self, query: Query) -> Page:
        """The totals, for Prometheus."""
        totals = await asyncio.to_thread(self._log.totals)
        return Page(metrics.render(totals, len(self._pipeline.log)), metrics.CONTENT_TYPE)

    async def models(self, query: Query) -> Page:
        """What can be called, in a shape that the SDKs of OpenAI and Anthropic both read."""
        data = [_model(name) for name in self._pipeline.catalog.features]
        ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return _json({"object": "list", "data": data, "has_more": False} | ends)

    async def model(self, query: Query) -> Page:
        """One thing that can be called."""
        self._pipeline.catalog.feature(query.rest)
        return _json(_model(query.rest))

    async def calls(self, query: Query) -> Page:
        """A page of the log, newest first."""
        filter = _read_query(query.text).filter(self._pipeline.clock.now(), self._subjects)
        return _json(await asyncio.to_thread(page, self._log, filter))

    async def call(self, query: Query) -> Page:
        """One call with its attempts and bodies."""
        call = await asyncio.to_thread(self._log.get, query.rest)
        if call is None:
            raise NotFound(f"The log holds no call {query.rest}.")
        return _json(call_json(call))


def _model(name: str) -> dict[str, Any]:
    openai = {"id": name, "object": "model", "created": 0, "owned_by": "holdfast"}
    return openai | {"type": "model", "display_name": name, "created_at": EPOCH}


class _CallsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of `/api/calls`. Times are ISO 8601, or a duration ("1h") before now."""

    name: str | None = None
    model: str | None = None
    outcome: Outcome | None = None
    error: str | None = None
    session: str | None = None
    subject: str | None = None
    tag: str | None = None
    since: str | None = None
    until: str | None = None
    before: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = PAGE

    def filter(self, now: float, subjects: SubjectHasher) -> Filter:
        return Filter(
            name=self.name,
            model=self.model,
            outcome=self.outcome,
            error=self.error,
            session=self.session,
            subject=None if self.subject is None else subjects.hash(self.subject),
            tag=_tag(self.tag),
            since_us=_moment("since", self.since, now),
            until_us=_moment("until", self.until, now),
            before=self.before,
            limit=self.limit,
        )


def _read_query(text: str) -> _CallsQuery:
    try:
        return msgspec.convert(dict(parse_qsl(text, keep_blank_values=True)), _CallsQuery, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(message, param=path.rstrip("`") or None) from error


def _tag(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, separator, value = text.partition("=")
    if not separator:
        raise InvalidRequest("A tag is written name=value.", param="tag")
    return name, value


def _moment(param: str, text: str | None, now: float) -> int | None:
    if text is None:
        return None
    try:
        return int((now - Duration.parse(text)) * 1e6)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"{param}: expected a time such as 2026-01-31T12:00:00Z or a duration such as 1h, got {text!r}.",
            param=param,
        ) from error


def _json(value: Any, status: int = 200) -> Page:
    return Page(msgspec.json.encode(value), status=status)
