"""The pages beside the calls: health, metrics, what can be called, and the log."""

import asyncio
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from holdfast.errors import NotFound
from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.serving import metrics
from holdfast.gateway.serving.openapi import document
from holdfast.gateway.serving.query import read_query
from holdfast.gateway.serving.routes import Method, Page, Query, View
from holdfast.log.base import Log
from holdfast.log.view import call_json, page
from holdfast.privacy.subjects import SubjectHasher

EPOCH = "1970-01-01T00:00:00Z"


class Views:
    """The GET routes. `log` is read in threads, never on the loop."""

    def __init__(self, pipeline: Pipeline, log: Log, subjects: SubjectHasher) -> None:
        self._pipeline = pipeline
        self._log = log
        self._subjects = subjects
        self._draining = False
        self.reload_error: str | None = None
        """Why the configuration in force is older than its files, None while it is not."""

    def drain(self) -> None:
        """Say from now on that no more calls are taken."""
        self._draining = True

    def routes(self) -> Mapping[tuple[Method, str], View]:
        """Return what answers at which route."""
        return {
            ("GET", "/"): self.index,
            ("GET", "/healthz"): self.health,
            ("GET", "/readyz"): self.ready,
            ("GET", "/metrics"): self.metrics,
            ("GET", "/openapi.json"): self.openapi,
            ("GET", "/v1/models"): self.models,
            ("GET", "/v1/models/{id}"): self.model,
            ("GET", "/api/calls"): self.calls,
            ("GET", "/api/calls/{id}"): self.call,
        }

    async def index(self, query: Query) -> Page:
        """What this is."""
        paths = document(tuple(self._pipeline.catalog.features))["paths"]
        routes = [f"{method.upper()} {path}" for path in sorted(paths) for method in paths[path]]
        return _json({"name": "holdfast", "version": version("holdfast"), "routes": routes})

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
        failed = {} if self.reload_error is None else {"reload": "failed", "error": self.reload_error}
        lost = {"events_lost": log.lost} if log.lost else {}
        return _json({"status": "ready", "config": self._pipeline.catalog.config} | failed | lost)

    async def metrics(self, query: Query) -> Page:
        """The totals and the health of models, for Prometheus."""
        totals, attempts = await asyncio.to_thread(lambda: (self._log.totals(), self._log.attempt_totals()))
        log, failed = self._pipeline.log, self.reload_error is not None
        healths = {name: model.health for name, model in self._pipeline.catalog.models.items()}
        page = metrics.render(
            totals,
            attempts,
            len(log),
            healths,
            lost=log.lost,
            reload_failed=failed,
            refused=self._pipeline.refusals.totals(),
        )
        return Page(page, metrics.CONTENT_TYPE)

    async def openapi(self, query: Query) -> Page:
        """Every route, for machines."""
        return _json(document(tuple(self._pipeline.catalog.features)))

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
        filter = read_query(query.text).filter(self._pipeline.clock.now(), self._subjects)
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


def _json(value: Any, status: int = 200) -> Page:
    return Page(msgspec.json.encode(value), status=status)
