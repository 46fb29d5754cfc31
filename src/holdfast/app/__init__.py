"""The composition root: the only room that names concrete classes."""

import asyncio
import functools
import random
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from holdfast.app.catalogs import Catalogs
from holdfast.app.custody import Custody
from holdfast.clock import Clock, SystemClock, UlidFactory
from holdfast.config import Configuration
from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.serving.asgi import Gateway
from holdfast.gateway.serving.pages import records
from holdfast.gateway.serving.pages.views import Views
from holdfast.gateway.serving.routes import CallRoute
from holdfast.gateway.traffic.health import Register
from holdfast.log.notices import Notices
from holdfast.log.sqlite import SqliteLog
from holdfast.log.telemetry import Telemetry
from holdfast.log.writer import LogWriter, Subscriber
from holdfast.privacy import memories
from holdfast.privacy.subjects import SubjectHasher
from holdfast.providers.anthropic import AnthropicSurface
from holdfast.providers.openai import OpenAISurface
from holdfast.state.board import Board


class App:
    """The gateway of one process: everything put together from a configuration, until it is closed.

    `board` is shared with the other workers, if there are any. Of one that is `audited` the audit trail tells.
    Entering it opens the log and starts what the configuration needs; what fails half-way leaves nothing open.

    Raises:
        StoreError: a file of the state directory can't be opened; on leaving, events could not be recorded (LogError).
        ConfigError: a secret can't be used, or the extra for spans and metrics is not installed.
    """

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock | None = None,
        board: Board | None = None,
        *,
        audited: bool = False,
    ) -> None:
        self.configuration = configuration
        self._audited = audited
        self._clock = clock or SystemClock()
        self._register = Register(board or Board.create(None, 1), self._clock)
        self.new_id = UlidFactory(self._clock)
        self._path = configuration.base / configuration.config.log.path
        self.catalogs = Catalogs(self._register, self._path.parent)
        self.custody = Custody(configuration, self._path.parent, self._clock, self.new_id)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            await self.custody.open(opened)
            self._open_log(opened)
            opened.push_async_callback(self.catalogs.aclose)
            catalog = await self.catalogs.make(self.configuration)
            chance = random.Random()  # noqa: S311 - spreads load, guards nothing
            refusals = self._register.refusals()
            self.pipeline = Pipeline(
                catalog, self.writer, self._subjects, self._clock, chance, refusals, self.custody.budgets
            )
            opened.callback(self._end_catalog)
            self._register.keep({name: model.health for name, model in catalog.models.items()})
            self.writer.append(self.configuration.snapshot())
            if self._audited:
                await self.custody.record("config.start", config=self.configuration.hash)
            self.custody.start(opened, self._log, self._forget)
            self._open = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    def _forget(self, subject: str) -> int:
        """Drop what is in memory of a subject (its keyed hash), and return how many answers that were."""
        memories.drop()
        return self.pipeline.replays.forget(subject)

    def _end_catalog(self) -> None:
        self.pipeline.catalog.close()

    def _open_log(self, opened: AsyncExitStack) -> None:
        """Open the log and all that is fed from it. Each is closed after what feeds it."""
        settings, telemetry = self.configuration.config.log, self.configuration.config.telemetry
        self._log_settings = settings
        keeping = self.custody.keeping
        self._log = SqliteLog(
            self._path,
            settings.durability,
            sealer=keeping.sealer,
            erased_at=keeping.keyring.erased_at,
            refresh=keeping.keyring.refresh,
        )
        opened.callback(self._log.close)
        subscribers: list[Subscriber] = [Notices()]
        if telemetry is not None:
            spans = Telemetry(telemetry, self.configuration.base)
            subscribers.append(spans)
            opened.push_async_callback(asyncio.to_thread, spans.close)
        self._subjects = SubjectHasher.load(self._path.parent, self._log.names_subjects)
        self.writer = LogWriter(self._log, settings, subscribers, self._clock, keep=_keep(self.configuration))
        opened.push_async_callback(asyncio.to_thread, self.writer.close)

    async def reload(self, configuration: Configuration) -> None:
        """Let calls from now on follow another configuration. Calls in flight stay on theirs."""
        catalog = await self.catalogs.make(configuration, functools.partial(self._record_reload, configuration))
        before = self.pipeline.catalog
        self.configuration = configuration
        self.writer.append(configuration.snapshot())
        self.writer.retain(self._log_settings.keep, _keep(configuration))
        self.pipeline.catalog = catalog
        before.close()
        self._register.keep({name: model.health for name, model in catalog.models.items()})

    async def _record_reload(self, configuration: Configuration) -> None:
        """Record that it is about to be taken. Raises PrivacyError: then it may not."""
        if self._audited:
            await self.custody.record("config.reload", config=configuration.hash, before=self.configuration.hash)

    def asgi(self) -> tuple[Gateway, Views]:
        """Return the HTTP front end, and its pages."""
        openai, anthropic = OpenAISurface(), AnthropicSurface()
        calls = {
            "/v1/chat/completions": CallRoute("chat", openai),
            "/v1/distribution": CallRoute("distribution", openai),
            "/v1/embeddings": CallRoute("embeddings", openai),
            "/v1/messages": CallRoute("chat", anthropic),
        }
        custody = self.custody
        shown = records.Custody(custody.keys, custody.accounts, custody.trail, custody.refresh)
        views = Views(self.pipeline, self._log, self._subjects, shown)
        return Gateway(self.pipeline, calls, views.routes(), self.new_id, openai, custody.access), views


def _keep(configuration: Configuration) -> dict[str, float]:
    """Return how long calls to features are kept that say so, in seconds."""
    features = configuration.config.features
    return {name: float(feature.keep) for name, feature in features.items() if feature.keep is not None}
