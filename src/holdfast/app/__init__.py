"""The composition root: the only room that names concrete classes."""

import asyncio
import random
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from holdfast.app.catalogs import Catalogs
from holdfast.clock import Clock, SystemClock, UlidFactory
from holdfast.config import Configuration
from holdfast.gateway.pipeline import Pipeline
from holdfast.gateway.serving.asgi import Gateway
from holdfast.gateway.serving.routes import CallRoute
from holdfast.gateway.serving.views import Views
from holdfast.gateway.traffic.health import Register
from holdfast.log.notices import Notices
from holdfast.log.sqlite import SqliteLog
from holdfast.log.telemetry import Telemetry
from holdfast.log.writer import LogWriter, Subscriber
from holdfast.privacy.subjects import SubjectHasher
from holdfast.providers.anthropic import AnthropicSurface
from holdfast.providers.openai import OpenAISurface
from holdfast.state.board import Board


class App:
    """The gateway of one process: everything put together from a configuration, until it is closed.

    `board` is shared with the other workers, if there are any.
    Entering it opens the log and starts what the configuration needs; what fails half-way leaves nothing open.

    Raises:
        LogError: the log can't be opened; on leaving, events could not be recorded.
        ConfigError: a secret can't be used, or the extra for spans and metrics is not installed.
    """

    def __init__(self, configuration: Configuration, clock: Clock | None = None, board: Board | None = None) -> None:
        self.configuration = configuration
        self._clock = clock or SystemClock()
        self._register = Register(board or Board.create(None, 1), self._clock)
        self.new_id = UlidFactory(self._clock)
        self._path = configuration.base / configuration.config.log.path
        self.catalogs = Catalogs(self._register, self._path.parent)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            self._open_log(opened)
            opened.push_async_callback(self.catalogs.aclose)
            catalog = await self.catalogs.make(self.configuration)
            chance = random.Random()  # noqa: S311 - spreads load, guards nothing
            refusals = self._register.refusals()
            self.pipeline = Pipeline(catalog, self.writer, self._subjects, self._clock, chance, refusals)
            opened.callback(self._end_catalog)
            self._register.keep({name: model.health for name, model in catalog.models.items()})
            self.writer.append(self.configuration.snapshot())
            self._open = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    def _end_catalog(self) -> None:
        self.pipeline.catalog.close()

    def _open_log(self, opened: AsyncExitStack) -> None:
        """Open the log and all that is fed from it. Each is closed after what feeds it."""
        settings, telemetry = self.configuration.config.log, self.configuration.config.telemetry
        self._log = SqliteLog(self._path, settings.durability)
        opened.callback(self._log.close)
        subscribers: list[Subscriber] = [Notices()]
        if telemetry is not None:
            spans = Telemetry(telemetry, self.configuration.base)
            subscribers.append(spans)
            opened.push_async_callback(asyncio.to_thread, spans.close)
        self._subjects = SubjectHasher.load(self._path.parent)
        self.writer = LogWriter(self._log, settings, subscribers, self._clock)
        opened.push_async_callback(asyncio.to_thread, self.writer.close)

    async def reload(self, configuration: Configuration) -> None:
        """Let calls from now on follow another configuration. Calls in flight stay on theirs."""
        catalog, before = await self.catalogs.make(configuration), self.pipeline.catalog
        self.configuration = configuration
        self.writer.append(configuration.snapshot())
        self.pipeline.catalog = catalog
        before.close()
        self._register.keep({name: model.health for name, model in catalog.models.items()})

    def asgi(self) -> tuple[Gateway, Views]:
        """Return the HTTP front end, and its pages."""
        openai, anthropic = OpenAISurface(), AnthropicSurface()
        calls = {
            "/v1/chat/completions": CallRoute("chat", openai),
            "/v1/distribution": CallRoute("distribution", openai),
            "/v1/embeddings": CallRoute("embeddings", openai),
            "/v1/messages": CallRoute("chat", anthropic),
        }
        views = Views(self.pipeline, self._log, self._subjects)
        return Gateway(self.pipeline, calls, views.routes(), self.new_id, openai), views
