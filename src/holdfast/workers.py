"""Gateway processes on one address: started, kept alive, told of new configurations, and drained together."""

import asyncio
import functools
import gc
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import uvloop

from holdfast.app import App
from holdfast.config import Configuration, Reloader, parse
from holdfast.errors import ConfigError, HoldfastError, LogError
from holdfast.gateway.server import BACKLOG, Server

WATCH_SECONDS = 1.0
YOUNG_SECONDS = 5.0
"""A worker that dies younger than this, as did the one before it, is replaced only after a pause: so a bad start
doesn't spin..."""
FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0
"""...which doubles each time."""
LEAVE_SECONDS = 20.0
"""How long a worker may take to leave after its calls are drained: the log's writer tries for ten seconds."""
GC_THRESHOLDS = (20_000, 20, 20)
AT_START: Final = ("log", "telemetry")
"""Tables of the configuration that are read when the gateway starts, and not again."""

logger = logging.getLogger(__name__)

Follow = Callable[[App, Server], Awaitable[None]]
News = tuple[Mapping[str, str], int]
"""A configuration as a worker is told it: its files, and when they were read."""


def serve(configuration: Configuration, listeners: Sequence[socket.socket], reloader: Reloader | None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; return the exit code. A second signal, or SIGQUIT, ends at once.

    Several sockets are served by a worker each. SIGHUP reloads the configuration at once.

    Raises:
        LogError: the log can't be opened, or, with one worker, events could not be recorded in the end.
        ConfigError: something that the configuration needs is not there.
    """
    if len(listeners) == 1:
        uvloop.run(_serve(configuration, listeners[0], functools.partial(_follow_files, reloader=reloader)))
        return 0
    uvloop.run(_rehearse(configuration))
    return _Supervisor(configuration, listeners, reloader).run()


async def _rehearse(configuration: Configuration) -> None:
    """Open all that a worker opens, so that what stops every worker is told once, before there are any."""
    async with App(configuration):
        pass


async def _serve(configuration: Configuration, listener: socket.socket, follow: Follow) -> None:
    async with App(configuration) as app:
        gateway, views = app.asgi()
        gc.collect()
        gc.freeze()  # what is here now stays, and calls make no cycles: collecting often would find nothing
        gc.set_threshold(*GC_THRESHOLDS)
        server = Server(gateway, lambda: app.configuration.config.gateway, gateway.refusal, on_drain=views.drain)
        following = asyncio.ensure_future(follow(app, server))
        following.add_done_callback(lambda _: server.stop())
        try:
            await server.serve(listener)
        finally:
            following.cancel()


async def _take(app: App, configuration: Configuration) -> bool:
    """Follow a new configuration, or say why not and stay on the old one."""
    try:
        await app.reload(configuration)
    except (HoldfastError, OSError) as error:
        logger.error("The new configuration was not taken; the old one stays in force.\n%s", error)
        return False
    except Exception:
        logger.exception("The new configuration was not taken; the old one stays in force.")
        return False
    return True


def changed(reloader: Reloader, *, force: bool = False) -> Configuration | None:
    """Return the new configuration if there is a valid one. A wrong one is reported, once, and changes nothing."""
    news = reloader.check(force=force)
    if isinstance(news, ConfigError):
        logger.error("The configuration was not reloaded; the old one stays in force.\n%s", news.message)
        return None
    return news


def _report(running: Configuration, new: Configuration) -> None:
    """Say that a new configuration is in force, and what of it is not. `running` is the one of the start."""
    logger.warning("Reloaded the configuration: %s", new.hash)
    for table in AT_START:
        if getattr(running.config, table) != getattr(new.config, table):
            logger.warning("%s: [%s] has changed: restart the gateway for that to take effect.", new.path, table)


async def _follow_files(app: App, server: Server, reloader: Reloader | None) -> None:
    loop, hup = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hup.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: server.hurry() if server.stopping else server.stop())
    loop.add_signal_handler(signal.SIGQUIT, server.hurry)
    running = app.configuration
    while True:
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                await hup.wait()
        except TimeoutError:
            pass
        force = hup.is_set()
        hup.clear()
        if reloader is None:
            continue
        configuration = await asyncio.to_thread(changed, reloader, force=force)
        if configuration is not None and await _take(app, configuration):
            _report(running, configuration)


# --- many workers -----------------------------------------------------------------------------------------------------


async def _follow_pipe(app: App, server: Server, pipe: Connection) -> None:
    """Reload what the supervisor sends. Returns when the supervisor is gone."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the supervisor's to act on
    loop.add_signal_handler(signal.SIGTERM, server.stop)  # may come from the supervisor and from others
    loop.add_signal_handler(signal.SIGQUIT, server.hurry)
    loop.add_reader(pipe.fileno(), ready.set)
    base = app.configuration.base
    try:
        while True:
            await ready.wait()
            ready.clear()
            while (news := _received(pipe)) is not None:
                files, at_us = news
                await _take(app, parse(files, base=base, at_us=at_us))
    except EOFError:
        logger.error("The supervisor is gone; stopping.")
    finally:
        loop.remove_reader(pipe.fileno())


def _received(pipe: Connection) -> News | None:
    """Return what the supervisor has sent, None if there is nothing. Raises EOFError when the supervisor is gone."""
    try:
        news: News | None = pipe.recv() if pipe.poll() else None
    except OSError as error:
        raise EOFError from error
    return news


def _work(news: News, base: Path, listener: socket.socket, pipe: Connection) -> None:
    logging.basicConfig(level=logging.WARNING, format=f"%(levelname)s [{os.getpid()}] %(message)s")
    files, at_us = news
    try:
        configuration = parse(files, base=base, at_us=at_us)
        uvloop.run(_serve(configuration, listener, functools.partial(_follow_pipe, pipe=pipe)))
    except (LogError, ConfigError) as error:
        logger.error("%s", error.message)
        raise SystemExit(1) from error


class _Worker:
    """A process, started anew. `failures` says how many died young in its place, one after the other."""

    def __init__(self, configuration: Configuration, listener: socket.socket, failures: int = 0) -> None:
        self._listener = listener
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        news = (dict(configuration.files), configuration.at_us)
        self.process: BaseProcess = context.Process(target=_work, args=(news, configuration.base, listener, far_end))
        multiprocessing.resource_tracker.ensure_running()  # it would undo the mask
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is the supervisor's to act on
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        far_end.close()
        self._started = time.monotonic()
        self._failures = failures
        self.replace_at: float | None = None
        """When it is to be replaced, once it is dead."""

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def tell(self, configuration: Configuration) -> None:
        try:
            self.pipe.send((dict(configuration.files), configuration.at_us))
        except OSError:
            logger.debug("Worker %s died before it heard of the new configuration", self.process.pid)

    def send(self, number: signal.Signals) -> None:
        if self.alive and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def bury(self, now: float) -> float:
        """Settle when it is to be replaced.

        Connections that wait on its socket are for the next one. If that is not to come at once, the others get them.
        """
        self._failures = self._failures + 1 if now - self._started < YOUNG_SECONDS else 0
        pause = min(FIRST_PAUSE * 2 ** (self._failures - 2), LAST_PAUSE) if self._failures > 1 else 0.0
        self.pipe.close()
        if pause:
            self._listener.shutdown(socket.SHUT_RDWR)
        when = f"in {pause:g} s" if pause else "at once"
        logger.error("Worker %s ended with %s; another starts %s.", self.process.pid, self.process.exitcode, when)
        return now + pause

    def replaced(self, configuration: Configuration) -> "_Worker":
        """Start another in its place. Raises OSError."""
        self._listener.listen(BACKLOG)
        return _Worker(configuration, self._listener, self._failures)


class _Supervisor:
    def __init__(
        self, configuration: Configuration, listeners: Sequence[socket.socket], reloader: Reloader | None
    ) -> None:
        self._running = self._configuration = configuration
        self._listeners = listeners
        self._reloader = reloader
        self._workers: list[_Worker] = []
        self._wakeup, self._waker = socket.socketpair()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda number, _: self._waker.send(bytes([number])))
        self._workers = [_Worker(self._configuration, listener) for listener in self._listeners]
        while not (heard := self._wait(self._alive(), WATCH_SECONDS)) - {signal.SIGHUP}:
            self._replace_dead()
            self._reload(force=signal.SIGHUP in heard)
        return self._stop(hurry=signal.SIGQUIT in heard)

    def _alive(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.alive]

    def _wait(self, alive: list[_Worker], seconds: float) -> set[int]:
        """Wait for a signal or the death of one of these workers, and return the numbers of the signals."""
        watched = [worker.process.sentinel for worker in alive]
        ready = multiprocessing.connection.wait([*watched, self._wakeup], max(0.0, seconds))
        return set(self._wakeup.recv(4096)) if self._wakeup in ready else set()

    def _replace_dead(self) -> None:
        now = time.monotonic()
        for index, worker in enumerate(self._workers):
            if worker.alive:
                continue
            if worker.replace_at is None:
                worker.replace_at = worker.bury(now)
            if worker.replace_at > now:
                continue
            try:
                self._workers[index] = worker.replaced(self._configuration)
            except OSError as error:
                logger.error("No worker could be started: %s", error)
                worker.replace_at = now + LAST_PAUSE

    def _reload(self, *, force: bool) -> None:
        configuration = None if self._reloader is None else changed(self._reloader, force=force)
        if configuration is not None:
            self._configuration = configuration
            for worker in self._workers:
                worker.tell(configuration)
            _report(self._running, configuration)

    def _stop(self, *, hurry: bool) -> int:
        """Drain the workers, and return the exit code: 0 if all of them left by themselves."""
        for listener in self._listeners:
            listener.close()
        self._workers = self._alive()
        self._send(signal.SIGQUIT if hurry else signal.SIGTERM)
        patience = time.monotonic() + self._configuration.config.gateway.drain + LEAVE_SECONDS
        while alive := self._alive():  # asked once a round: one that dies now is still watched, and wakes us
            if self._wait(alive, patience - time.monotonic()) - {signal.SIGHUP}:
                self._send(signal.SIGQUIT)
            elif time.monotonic() > patience:
                self._send(signal.SIGKILL)
        unborn = -signal.SIGTERM
        return 0 if all(worker.process.exitcode in (0, unborn, -signal.SIGQUIT) for worker in self._workers) else 1

    def _send(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.send(number)
