"""Gateway processes on one address: started, kept alive, told of new configurations, and drained together."""

import asyncio
import functools
import gc
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import operator
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import uvloop

from holdfast.app import App
from holdfast.app.custody import record_reload
from holdfast.config import Configuration, Reloader, parse
from holdfast.errors import ConfigError, HoldfastError, LogError, Problem, StoreError
from holdfast.gateway.serving.pages.views import Views
from holdfast.gateway.serving.server import BACKLOG, Server
from holdfast.gateway.serving.tls import Certificate
from holdfast.http.confinement import confine, new_loop
from holdfast.state.board import Board

WATCH_SECONDS = 1.0
YOUNG_SECONDS = 5.0
"""A worker that dies younger than this, as did the one before it, is replaced only after a pause: so a bad start
doesn't spin..."""
FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0
"""...which doubles each time."""
LEAVE_SECONDS = 20.0
"""How long a worker may take to leave after its calls are drained: the log's writer tries for ten seconds."""
GC_THRESHOLDS = (20_000, 20, 20)
AT_START: Final = ("log", "privacy", "telemetry", "gateway.tls")
"""Tables of the configuration that are read when the gateway starts, and not again."""

logger = logging.getLogger(__name__)

Follow = Callable[[App, Server, Views], Awaitable[None]]
News = tuple[Mapping[str, str], int]
"""A configuration as a worker is told it: its files, and when they were read."""


def serve(
    configuration: Configuration,
    listeners: Sequence[socket.socket],
    reloader: Reloader | None,
    opened: Callable[[], object] = bool,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; return the exit code. A second signal, or SIGQUIT, ends at once.

    Several sockets are served by a worker each. SIGHUP reloads the configuration at once. `opened` is called once the
    state and the log could be opened.

    Raises:
        StoreError: a file of the state directory can't be opened or made, or, with one worker, events
            could not be recorded in the end.
        ConfigError: something that the configuration needs is not there.
    """
    if len(listeners) == 1:
        follow = functools.partial(_follow_files, reloader=reloader)
        _run(_serve(configuration, listeners[0], follow, opened=opened))
        return 0
    _run(_rehearse(configuration))
    board = _board(configuration, len(listeners))
    opened()
    try:
        return _Supervisor(configuration, listeners, reloader, board).run()
    finally:
        board.close()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run on a loop that connects to nothing which `[network]` does not allow, once there is that table."""
    uvloop.run(work, loop_factory=new_loop)


async def _rehearse(configuration: Configuration) -> None:
    """Open all that a worker opens, so that what stops every worker is told once, before there are any, and have the
    audit trail say what they serve.
    """
    async with App(configuration, audited=True):
        pass


async def _serve(
    configuration: Configuration,
    listener: socket.socket,
    follow: Follow,
    board: Board | None = None,
    *,
    audited: bool = True,
    opened: Callable[[], object] = bool,
) -> None:
    app = App(configuration, board=board, audited=audited)
    _confine(app, configuration)
    async with app:
        gateway, views = app.asgi()
        gc.collect()
        gc.freeze()  # what is here now stays, and calls make no cycles: collecting often would find nothing
        gc.set_threshold(*GC_THRESHOLDS)
        server = Server(
            gateway,
            lambda: app.configuration.config.gateway,
            gateway.refusal,
            on_drain=views.drain,
            certificate=_certificate(configuration),
        )
        opened()
        following = asyncio.ensure_future(follow(app, server, views))
        following.add_done_callback(lambda _: server.stop())
        try:
            await server.serve(listener)
        finally:
            following.cancel()


def _confine(app: App, configuration: Configuration) -> None:
    """Hold this process, and the functions that it runs, to what `[network]` allows, where there is that table."""
    if configuration.config.network is not None:
        confine(app.catalogs.egress)


def _certificate(configuration: Configuration) -> Certificate | None:
    """Return what the gateway shows to callers over HTTPS. Raises ConfigError."""
    tls = configuration.config.gateway.tls
    if tls is None:
        return None
    try:
        return Certificate(tls, configuration.base)
    except ValueError as error:
        raise ConfigError([Problem(str(configuration.path), 0, "gateway.tls", str(error))]) from error


def _board(configuration: Configuration, workers: int) -> Board:
    path = (configuration.base / configuration.config.log.path).with_name("workers")
    try:
        return Board.create(path, workers)
    except OSError as error:
        raise LogError(f"{path.parent}: what workers share can't be made there: {error.strerror or error}.") from error


async def _take(app: App, configuration: Configuration) -> str | None:
    """Follow a new configuration, or say why not, return that and stay on the old one."""
    try:
        await app.reload(configuration)
    except (HoldfastError, OSError) as error:
        logger.error("The new configuration was not taken; the old one stays in force.\n%s", error)
        return _first_line(error)
    except Exception as error:
        logger.exception("The new configuration was not taken; the old one stays in force.")
        return _first_line(error)
    _confine(app, configuration)
    return None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]


def changed(reloader: Reloader, *, force: bool = False) -> Configuration | str | None:
    """Return the new configuration if there is a valid one.

    Else a line on what is wrong with the files, which is empty as soon as they are right again; None where nothing is
    new. What is wrong is reported, once, and changes nothing.
    """
    was_wrong = reloader.error is not None
    news = reloader.check(force=force)
    if isinstance(news, ConfigError):
        logger.error("The configuration was not reloaded; the old one stays in force.\n%s", news.message)
        return _first_line(news)
    if news is None and was_wrong and reloader.error is None:
        logger.info("The configuration files are right again, and say what is in force: %s", reloader.current.hash)
        return ""
    return news


def _report(running: Configuration, new: Configuration) -> None:
    """Say that a new configuration is in force, and what of it is not. `running` is the one of the start."""
    logger.info("Reloaded the configuration: %s", new.hash)
    for table in AT_START:
        settings = operator.attrgetter(table)
        if settings(running.config) != settings(new.config):
            logger.warning("%s: [%s] has changed: restart the gateway for that to take effect.", new.path, table)
    if new.config.network is None and running.config.network is not None:
        logger.warning("%s: without [network] everything is held to the hosts of models until a restart.", new.path)


def _stop(server: Server) -> None:
    """Begin to drain, and say for whom."""
    if (calls := sum(not connection.idle for connection in server.connections)) and not server.stopping:
        logger.info("Stopping: %s under way", "1 call" if calls == 1 else f"{calls} calls")
    server.stop()


async def _follow_files(app: App, server: Server, views: Views, reloader: Reloader | None) -> None:
    loop, hup = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hup.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: server.hurry() if server.stopping else _stop(server))
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
        news = await asyncio.to_thread(changed, reloader, force=force)
        if isinstance(news, str):
            views.reload_error = news or None
        elif news is not None:
            views.reload_error = await _take(app, news)
            if views.reload_error is None:
                _report(running, news)


# --- many workers -----------------------------------------------------------------------------------------------------


async def _follow_pipe(app: App, server: Server, views: Views, pipe: Connection) -> None:
    """Reload what the supervisor sends. Returns when the supervisor is gone."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the supervisor's to act on
    loop.add_signal_handler(signal.SIGTERM, _stop, server)  # may come from the supervisor and from others
    loop.add_signal_handler(signal.SIGQUIT, server.hurry)
    loop.add_reader(pipe.fileno(), ready.set)
    base = app.configuration.base
    try:
        while True:
            await ready.wait()
            ready.clear()
            while (news := _received(pipe)) is not None:
                if isinstance(news, str):
                    views.reload_error = news or None
                else:
                    files, at_us = news
                    views.reload_error = await _take(app, parse(files, base=base, at_us=at_us))
    except EOFError:
        logger.error("The supervisor is gone; stopping.")
    finally:
        loop.remove_reader(pipe.fileno())


def _received(pipe: Connection) -> News | str | None:
    """Return what the supervisor has sent: a configuration, or what is wrong with its files (empty: nothing any more).

    None if there is nothing. Raises EOFError when the supervisor is gone.
    """
    try:
        news: News | str | None = pipe.recv() if pipe.poll() else None
    except OSError as error:
        raise EOFError from error
    return news


def log_to_stderr(form: str) -> None:
    """Print what the gateway says of itself, and the warnings of everything else."""
    logging.basicConfig(level=logging.WARNING, format=form)
    logging.getLogger("holdfast").setLevel(logging.INFO)


def _joined(path: Path, number: int) -> Board | None:
    """Return the board of the gateway. Without it a worker still serves."""
    try:
        return Board.join(path, number)
    except (OSError, ValueError) as error:
        logger.error("This worker shares nothing with the others, breakers and limits are its own: %s", error)
        return None


def _work(news: News, base: Path, listener: socket.socket, pipe: Connection, board: Path, number: int) -> None:
    log_to_stderr(f"%(levelname)s [{os.getpid()}] %(message)s")
    files, at_us = news
    try:
        configuration = parse(files, base=base, at_us=at_us)
        follow = functools.partial(_follow_pipe, pipe=pipe)
        work = _serve(configuration, listener, follow, _joined(board, number), audited=False)
        _run(work)
    except (StoreError, ConfigError) as error:
        logger.error("%s", error.message)
        raise SystemExit(1) from error


class _Worker:
    """A process, started anew. `number` is its slot on the board, free of what was counted there before. `failures`
    says how many died young in its place, one after the other.
    """

    def __init__(
        self, configuration: Configuration, listener: socket.socket, board: Board, number: int, failures: int = 0
    ) -> None:
        self._listener = listener
        self._board, self._number = board, number
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        news = (dict(configuration.files), configuration.at_us)
        self.process: BaseProcess = context.Process(
            target=_work, args=(news, configuration.base, listener, far_end, board.path, number)
        )
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

    def tell(self, news: Configuration | str) -> None:
        """Send a new configuration, or what is wrong with its files (empty: nothing any more)."""
        try:
            self.pipe.send(news if isinstance(news, str) else (dict(news.files), news.at_us))
        except OSError:
            logger.debug("Worker %s died before it heard of the new configuration", self.process.pid)

    def send(self, number: signal.Signals) -> None:
        if self.alive and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def bury(self, now: float) -> float:
        """Settle when it is to be replaced, and let the others forget what it was doing.

        Connections that wait on its socket are for the next one. If that is not to come at once, the others get them.
        """
        self._failures = self._failures + 1 if now - self._started < YOUNG_SECONDS else 0
        pause = min(FIRST_PAUSE * 2 ** (self._failures - 2), LAST_PAUSE) if self._failures > 1 else 0.0
        self.pipe.close()
        self._board.clear_slot(self._number)
        if pause:
            self._listener.shutdown(socket.SHUT_RDWR)
        when = f"in {pause:g} s" if pause else "at once"
        logger.error("Worker %s ended with %s; another starts %s.", self.process.pid, self.process.exitcode, when)
        return now + pause

    def replaced(self, configuration: Configuration) -> "_Worker":
        """Start another in its place. Raises OSError."""
        self._listener.listen(BACKLOG)
        return _Worker(configuration, self._listener, self._board, self._number, self._failures)


class _Supervisor:
    def __init__(
        self,
        configuration: Configuration,
        listeners: Sequence[socket.socket],
        reloader: Reloader | None,
        board: Board,
    ) -> None:
        self._running = self._configuration = configuration
        self._listeners = listeners
        self._reloader = reloader
        self._board = board
        self._wrong = ""
        """What is wrong with the files."""
        self._workers: list[_Worker] = []
        self._wakeup, self._waker = socket.socketpair()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda number, _: self._waker.send(bytes([number])))
        self._workers = [
            _Worker(self._configuration, listener, self._board, number)
            for number, listener in enumerate(self._listeners)
        ]
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
                self._workers[index].tell(self._wrong)
            except OSError as error:
                logger.error("No worker could be started: %s", error)
                worker.replace_at = now + LAST_PAUSE

    def _reload(self, *, force: bool) -> None:
        news = None if self._reloader is None else changed(self._reloader, force=force)
        if news is None:
            return
        if isinstance(news, Configuration):
            news = self._recorded(news)
        for worker in self._workers:
            worker.tell(news)
        if isinstance(news, str):
            self._wrong = news
        else:
            self._configuration, self._wrong = news, ""
            _report(self._running, news)

    def _recorded(self, news: Configuration) -> Configuration | str:
        """Have the audit trail say that the workers take a configuration; where it can't, return that they may not."""
        try:
            record_reload(self._running, before=self._configuration.hash, after=news.hash)
        except (HoldfastError, OSError, ValueError) as error:
            logger.error("The new configuration was not taken; the old one stays in force.\n%s", error)
            return _first_line(error)
        return news

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
