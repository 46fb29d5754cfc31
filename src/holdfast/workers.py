"""Gateway processes on one socket: started, kept alive, told of new configurations, and drained together."""

import asyncio
import functools
import gc
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvloop

from holdfast.app import App
from holdfast.config import Configuration, Reloader, parse
from holdfast.errors import ConfigError, LogError
from holdfast.gateway.server import Server

WATCH_SECONDS = 1.0
YOUNG_SECONDS = 5.0
"""A worker that dies younger than this is replaced only after `RESPAWN_SECONDS`, so that a bad start doesn't spin."""
RESPAWN_SECONDS = 1.0
LEAVE_SECONDS = 5.0
"""How long a worker may take to leave after its calls are drained."""
GC_THRESHOLDS = (20_000, 20, 20)
BROKEN_LOG = 3
"""The exit code of a worker that can't open the log: it would not help to start another."""

logger = logging.getLogger(__name__)

Follow = Callable[[App], Awaitable[None]]


def serve(configuration: Configuration, listener: socket.socket, workers: int, reloader: Reloader | None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; return the exit code. SIGHUP reloads the configuration at once.

    Raises:
        LogError: the log can't be opened.
    """
    if workers == 1:
        uvloop.run(_serve(configuration, listener, functools.partial(_follow_files, reloader=reloader)))
        return 0
    return _Supervisor(configuration, listener, workers, reloader).run()


async def _serve(configuration: Configuration, listener: socket.socket, follow: Follow) -> None:
    async with App(configuration) as app:
        gateway, views = app.asgi()
        gc.collect()
        gc.freeze()  # what is here now stays, and calls make no cycles: collecting often would find nothing
        gc.set_threshold(*GC_THRESHOLDS)
        server = Server(gateway, configuration.config.gateway, gateway.refusal, on_drain=views.drain)
        following = asyncio.ensure_future(follow(app))
        following.add_done_callback(lambda _: server.stop())
        try:
            await server.serve(listener)
        finally:
            following.cancel()


def changed(reloader: Reloader, *, force: bool = False) -> Configuration | None:
    """Return the new configuration if there is a valid one. A wrong one is reported, once, and changes nothing."""
    news = reloader.check(force=force)
    if isinstance(news, ConfigError):
        logger.error("The configuration was not reloaded; the old one stays in force.\n%s", news.message)
        return None
    return news


async def _follow_files(app: App, reloader: Reloader | None) -> None:
    hup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hup.set)
    while True:
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                await hup.wait()
        except TimeoutError:
            pass
        if reloader is None:
            continue
        configuration = await asyncio.to_thread(changed, reloader, force=hup.is_set())
        hup.clear()
        if configuration is not None:
            await app.reload(configuration)
            logger.warning("Reloaded the configuration: %s", configuration.hash)


# --- many workers -----------------------------------------------------------------------------------------------------


async def _follow_pipe(app: App, pipe: Connection) -> None:
    """Reload what the supervisor sends. Returns when the supervisor is gone."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the supervisor's to act on
    loop.add_reader(pipe.fileno(), ready.set)
    base = app.configuration.base
    try:
        while True:
            await ready.wait()
            ready.clear()
            while pipe.poll():
                files: Mapping[str, str] = pipe.recv()
                await app.reload(parse(files, base=base))
    except (EOFError, OSError):
        logger.error("The supervisor is gone; stopping.")
    finally:
        loop.remove_reader(pipe.fileno())


def _work(files: Mapping[str, str], base: Path, listener: socket.socket, pipe: Connection) -> None:
    logging.basicConfig(level=logging.WARNING, format=f"%(levelname)s [{os.getpid()}] %(message)s")
    try:
        uvloop.run(_serve(parse(files, base=base), listener, functools.partial(_follow_pipe, pipe=pipe)))
    except LogError as error:
        logger.error("%s", error.message)
        raise SystemExit(BROKEN_LOG) from error


class _Worker:
    def __init__(self, configuration: Configuration, listener: socket.socket) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(dict(configuration.files), configuration.base, listener, far_end)
        )
        self.process.start()
        far_end.close()
        self.started = time.monotonic()

    def tell(self, configuration: Configuration) -> None:
        try:
            self.pipe.send(dict(configuration.files))
        except OSError:
            logger.debug("worker %s died before it heard of the new configuration", self.process.pid)


class _Supervisor:
    def __init__(
        self, configuration: Configuration, listener: socket.socket, workers: int, reloader: Reloader | None
    ) -> None:
        self._configuration = configuration
        self._listener = listener
        self._reloader = reloader
        self._size = workers
        self._workers: list[_Worker] = []
        self._stopping = False
        self._hup = False
        self._wakeup, self._waker = socket.socketpair()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._workers = [_Worker(self._configuration, self._listener) for _ in range(self._size)]
        code = 0
        while not self._stopping:
            watched = [worker.process.sentinel for worker in self._workers]
            if self._wakeup in multiprocessing.connection.wait([*watched, self._wakeup], timeout=WATCH_SECONDS):
                self._wakeup.recv(4096)
            if any(worker.process.exitcode == BROKEN_LOG for worker in self._workers):
                code, self._stopping = 1, True
            elif not self._stopping:
                self._replace_dead()
                self._reload()
        self._stop()
        return code

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._hup = True
        else:
            self._stopping = True
        self._waker.send(b".")

    def _replace_dead(self) -> None:
        for index, worker in enumerate(self._workers):
            if worker.process.is_alive():
                continue
            if time.monotonic() - worker.started < YOUNG_SECONDS:
                time.sleep(RESPAWN_SECONDS)
            logger.error("worker %s ended with %s; starting another", worker.process.pid, worker.process.exitcode)
            worker.pipe.close()
            self._workers[index] = _Worker(self._configuration, self._listener)

    def _reload(self) -> None:
        if self._reloader is None:
            return
        configuration = changed(self._reloader, force=self._hup)
        self._hup = False
        if configuration is not None:
            self._configuration = configuration
            for worker in self._workers:
                worker.tell(configuration)
            logger.warning("Reloaded the configuration: %s", configuration.hash)

    def _stop(self) -> None:
        for worker in self._workers:
            if worker.process.is_alive() and worker.process.pid is not None:
                os.kill(worker.process.pid, signal.SIGTERM)
        patience = time.monotonic() + self._configuration.config.gateway.drain + LEAVE_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, patience - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
