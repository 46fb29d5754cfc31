"""The simulated providers over real sockets, in this process."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Self

from holdfast.clock import Clock, SystemClock
from holdfast.providers.base import Wire
from holdfast.providers.simulated.connection import Connection, Pacer
from holdfast.providers.simulated.control import PREFIX, control
from holdfast.providers.simulated.faults import Accept
from holdfast.providers.simulated.plan import Plan
from holdfast.providers.simulated.providers import Incoming, Providers
from holdfast.providers.simulated.recorder import Record, Recorder
from holdfast.providers.simulated.script import Script, ScriptSource, load

_BASES: dict[Wire, str] = {"openai": "/v1", "anthropic": "", "google": "/v1beta"}


class Simulator:
    """Simulated providers on one port: `async with Simulator() as sim: ... sim.url("openai")`.

    `script` is a `Script`, its table, or the path of its file; it can be set while the simulator runs. Port 0 takes a
    free one. The last `keep` requests are recorded.

    Raises:
        ConfigError: the script, or a corpus that it names, is wrong.
        OSError: the address is taken (when it starts).
    """

    def __init__(
        self,
        script: ScriptSource = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.recorder = Recorder(keep)
        self.pacer: Pacer
        self._clock = clock or SystemClock()
        self._providers = Providers(load(script), self._clock, self.recorder)
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._connection_numbers = itertools.count(1)
        self._request_numbers = itertools.count(1)
        self._left = asyncio.Event()

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to listen. From then on `port` is the real one."""
        loop = asyncio.get_running_loop()
        self.pacer = Pacer(loop)
        self._server = await loop.create_server(lambda: Connection(self), self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self, grace: float = 0.0) -> None:
        """Stop listening, give the responses under way `grace` seconds, then abort every connection."""
        if self._server is None:
            return
        self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while any(not connection.idle for connection in self._connections):
                    await self.recorder.change()
        for connection in list(self._connections):
            connection.transport.abort()
        while self._connections:
            self._left.clear()
            await self._left.wait()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- what a test uses ---------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where it listens: `http://127.0.0.1:8090`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def url(self, wire: Wire) -> str:
        """Return the base URL that a client of this wire expects."""
        return self.address + _BASES[wire]

    @property
    def requests(self) -> list[Record]:
        """What reached the providers, oldest first."""
        return list(self.recorder.records)

    def received(self, model: str) -> list[Record]:
        """Return what reached one model, by the name that was asked for."""
        return [record for record in self.recorder.records if record.model == model]

    async def wait_for(self, predicate: Callable[[Record], bool], timeout: float = 5.0) -> Record:  # noqa: ASYNC109 - tests read better
        """Return the first record that meets `predicate`, as soon as there is one. Raises TimeoutError."""
        return await self.recorder.wait_for(predicate, timeout)

    def forget(self) -> None:
        """Drop the records."""
        self.recorder.records.clear()

    @property
    def script(self) -> Script:
        """The script in force."""
        return self._providers.script

    def follow(self, script: ScriptSource) -> None:
        """Begin another script from its start. Raises ConfigError, and then nothing changes."""
        self._providers.follow(load(script))

    # --- what a connection uses ---------------------------------------------------------------------------------------

    @property
    def accept(self) -> Accept:
        """What happens to new connections."""
        return self._providers.script.accept

    def opened(self, connection: Connection) -> int:
        """Take note of a connection and number it."""
        self._connections.add(connection)
        return next(self._connection_numbers)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._left.set()

    def monotonic(self) -> float:
        """Tell the time of the records."""
        return self._clock.monotonic()

    def respond(self, incoming: Incoming, connection: int) -> tuple[Plan, Record]:
        """Plan the response to a request, and record it unless it is to the simulator itself."""
        record = Record(
            id=next(self._request_numbers),
            connection=connection,
            at=self._clock.monotonic(),
            time=self._clock.now(),
            method=incoming.method,
            path=incoming.target,
            headers=list(incoming.headers.items()),
            raw=incoming.body,
        )
        if incoming.target.startswith(PREFIX):
            record.fate = "complete"
            return control(incoming, self._providers), record
        plan = self._providers.respond(incoming, record)
        self.recorder.begin(record)
        return plan, record


class RunningSimulator:
    """A simulator in a thread of its own, for tests that are not asynchronous."""

    def __init__(self, simulator: Simulator, loop: asyncio.AbstractEventLoop) -> None:
        self._simulator = simulator
        self._loop = loop

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._simulator.address

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._simulator.port

    def url(self, wire: Wire) -> str:
        """Return the base URL that a client of this wire expects."""
        return self._simulator.url(wire)

    @property
    def requests(self) -> list[Record]:
        """What reached the providers, oldest first."""
        return self._simulator.requests

    def received(self, model: str) -> list[Record]:
        """Return what reached one model, by the name that was asked for."""
        return [record for record in self.requests if record.model == model]

    def wait_for(self, predicate: Callable[[Record], bool], timeout: float = 5.0) -> Record:
        """Return the first record that meets `predicate`, as soon as there is one. Raises TimeoutError."""
        waiting = self._simulator.wait_for(predicate, timeout)
        return asyncio.run_coroutine_threadsafe(waiting, self._loop).result()

    def forget(self) -> None:
        """Drop the records. When it returns they are gone."""

        async def forget() -> None:
            self._simulator.forget()

        asyncio.run_coroutine_threadsafe(forget(), self._loop).result()

    def follow(self, script: ScriptSource) -> None:
        """Begin another script from its start. Raises ConfigError, and then nothing changes."""

        async def follow() -> None:
            self._simulator.follow(script)

        asyncio.run_coroutine_threadsafe(follow(), self._loop).result()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop's where that is there, since it is faster."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@contextlib.contextmanager
def running_simulator(
    script: ScriptSource = None, *, host: str = "127.0.0.1", port: int = 0, keep: int = 10_000
) -> Iterator[RunningSimulator]:
    """Run a simulator in a thread for as long as the block lasts. Arguments and errors are those of `Simulator`."""
    loop = _new_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulated providers", daemon=True)
    thread.start()

    async def begin() -> Simulator:
        simulator = Simulator(script, host=host, port=port, keep=keep)
        await simulator.start()
        return simulator

    try:
        simulator = asyncio.run_coroutine_threadsafe(begin(), loop).result()
        try:
            yield RunningSimulator(simulator, loop)
        finally:
            asyncio.run_coroutine_threadsafe(simulator.aclose(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
