"""What reached the simulated providers, and what became of it."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal

import msgspec

Fate = Literal["pending", "complete", "cut", "reset", "held", "hung_up"]
"""How a response went: under way, sent whole, cut (FIN), reset (RST) or left hanging by a fault; or the client left."""


class Record(msgspec.Struct, kw_only=True):
    """One request. Times are seconds of the simulator's monotonic clock; `time` is since 1970 UTC.

    `bytes` and `tokens` count what was written of the body. `hung_up_at` is when the client closed the connection
    before the response was over. `connection` numbers the connections, so it shows which requests shared one.
    """

    id: int
    connection: int
    at: float
    time: float
    method: str
    path: str
    headers: list[tuple[str, str]]
    raw: bytes
    wire: str = ""
    operation: str = ""
    model: str = ""
    stream: bool = False
    status: int | None = None
    faults: list[str] = []
    fate: Fate = "pending"
    headers_at: float | None = None
    first_byte_at: float | None = None
    ended_at: float | None = None
    hung_up_at: float | None = None
    bytes: int = 0
    tokens: int = 0

    @property
    def body(self) -> Any:
        """The decoded JSON body; the text where it is not JSON; None where there is none."""
        if not self.raw:
            return None
        try:
            return msgspec.json.decode(self.raw)
        except (ValueError, RecursionError):
            return self.raw.decode("utf-8", "replace")

    def header(self, name: str) -> str | None:
        """Return the first value of a header, `name` in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def table(self) -> dict[str, Any]:
        """Return the record with its body decoded, ready for JSON."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "raw"}
        return {**fields, "body": self.body}


class Recorder:
    """Keeps the last `keep` records and tells those who wait for one."""

    def __init__(self, keep: int) -> None:
        self.records: deque[Record] = deque(maxlen=keep)
        self.active: Counter[str] = Counter()
        """Responses under way, by model."""
        self._waiting: list[asyncio.Future[None]] = []

    def begin(self, record: Record) -> None:
        """Keep a new record."""
        self.records.append(record)
        self.active[record.model] += 1
        self.changed()

    def end(self, record: Record, fate: Fate, now: float) -> None:
        """Say how the response to a request ended; what is told first holds."""
        if record.fate != "pending":
            return
        record.fate, record.ended_at = fate, now
        if fate == "hung_up":
            record.hung_up_at = now
        self._leave(record)

    def hold(self, record: Record) -> None:
        """Say that a response will never go on. Its client may still hang up."""
        record.fate = "held"
        self.changed()

    def hung_up_on_hold(self, record: Record, now: float) -> None:
        """Say that the client of a held response has hung up."""
        record.hung_up_at = record.ended_at = now
        self._leave(record)

    def _leave(self, record: Record) -> None:
        self.active[record.model] -= 1
        if not self.active[record.model]:
            del self.active[record.model]
        self.changed()

    def changed(self) -> None:
        """Wake those who wait."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    @property
    def watched(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    async def wait_for(self, predicate: Callable[[Record], bool], timeout: float) -> Record:  # noqa: ASYNC109 - tests read better
        """Return the first record that meets `predicate`, as soon as there is one. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while True:
                for record in list(self.records):
                    if predicate(record):
                        return record
                await self.change()

    async def change(self) -> None:
        """Return when a record has changed."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future
