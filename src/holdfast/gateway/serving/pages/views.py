"""The pages beside the calls: health, metrics, what can be called, and all that others in this folder show."""

import asyncio
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.serving.pages import metrics
from holdfast.gateway.serving.pages.calls import Calls
from holdfast.gateway.serving.pages.custody import CustodyPages
from holdfast.gateway.serving.pages.openapi import document
from holdfast.gateway.serving.pages.records import Custody, known
from holdfast.gateway.serving.pages.sessions import Sessions
from holdfast.gateway.serving.pages.sight import callable_by, tenant_of, unknown_model
from holdfast.gateway.serving.routes import TABLE, Method, Page, Query, View, json_page
from holdfast.log.base import AttemptTotal, Log, Spend, Total
from holdfast.privacy.subjects import SubjectHasher

EPOCH = "1970-01-01T00:00:00Z"


class Views:
    """The GET routes. `log` is read in threads, never on the loop."""

    def __init__(self, pipeline: Pipeline, log: Log, subjects: SubjectHasher, custody: Custody | None = None) -> None:
        self._pipeline = pipeline
        self._log = log
        self._calls = Calls(log, subjects, pipeline.clock, custody)
        self._custody = custody
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
            **self._calls.routes(),
            **self._custody_routes(),
        }

    def _custody_routes(self) -> Mapping[tuple[Method, str], View]:
        if self._custody is None:
            return {}
        pages = CustodyPages(self._log, self._pipeline.clock, self._custody)
        return {**pages.routes(), **Sessions(self._custody).routes()}

    async def index(self, query: Query) -> Page:
        """What this is."""
        routes = [f"{method} {path}" for path, method in sorted((path, method) for method, path in TABLE)]
        return json_page({"name": "holdfast", "version": version("holdfast"), "routes": routes})

    async def health(self, query: Query) -> Page:
        """Liveness: the loop turns."""
        return json_page({"status": "ok"})

    async def ready(self, query: Query) -> Page:
        """Readiness: calls are taken and can be recorded. What is wrong is told in full while there are no keys."""
        log, told = self._pipeline.log, query.caller is not None
        if self._draining:
            return json_page({"status": "draining"}, status=503)
        if log.failing is not None:
            return json_page({"status": "failing"} | ({"log": log.failing.message} if told else {}), status=503)
        if log.full:
            return json_page({"status": "saturated"}, status=503)
        failed = {} if self.reload_error is None else {"reload": "failed"}
        if self.reload_error is not None and told:
            failed["error"] = self.reload_error
        lost = {"events_lost": log.lost} if log.lost else {}
        return json_page({"status": "ready", "config": self._pipeline.catalog.config} | failed | lost)

    async def metrics(self, query: Query) -> Page:
        """What this caller may see of the totals, and the health of models, for Prometheus."""
        own = tenant_of(known(query))
        totals, attempts, spends = await asyncio.to_thread(self._sums, own)
        log, failed = self._pipeline.log, self.reload_error is not None
        healths = {name: model.health for name, model in self._pipeline.catalog.models.items()}
        page = metrics.render(
            totals,
            attempts,
            len(log),
            healths,
            spends=spends,
            lost=log.lost,
            reload_failed=failed,
            refused=self._pipeline.refusals.totals(),
        )
        return Page(page, metrics.CONTENT_TYPE)

    def _sums(self, tenant: str | None) -> tuple[Sequence[Total], Sequence[AttemptTotal], Sequence[Spend]]:
        """Return the totals, which tell no tenants apart, only to whoever may see those of all."""
        spends = self._log.spend(tenant=tenant, in_total=True)
        return ([], [], spends) if tenant is not None else (self._log.totals(), self._log.attempt_totals(), spends)

    async def openapi(self, query: Query) -> Page:
        """Every route, for machines. What can be called is named only while there are no keys."""
        names = None if query.caller is None else tuple(self._pipeline.catalog.features)
        return json_page(document(names))

    async def models(self, query: Query) -> Page:
        """What the caller can call, in a shape that the SDKs of OpenAI and Anthropic both read."""
        data = [_model(name) for name in callable_by(query.caller, self._pipeline.catalog.features)]
        ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return json_page({"object": "list", "data": data, "has_more": False} | ends)

    async def model(self, query: Query) -> Page:
        """One thing that can be called."""
        names = callable_by(query.caller, self._pipeline.catalog.features)
        if query.rest not in names:
            raise unknown_model(query.rest, names)
        return json_page(_model(query.rest))


def _model(name: str) -> dict[str, Any]:
    openai = {"id": name, "object": "model", "created": 0, "owned_by": "holdfast"}
    return openai | {"type": "model", "display_name": name, "created_at": EPOCH}
