"""Between the event loop and the log: a queue that one thread commits in groups."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from holdfast.clock import Clock, SystemClock
from holdfast.errors import LogError
from holdfast.events import AnyEvent, Call, Correction
from holdfast.log.base import Log, LogSettings, Pause, no_pause
from holdfast.log.retention import Retention

Subscriber = Callable[[Sequence[AnyEvent]], None]
"""Is given each batch once it is recorded, in the writer's thread."""

BATCH = 512
"""Events that may gather before the thread is woken early, and about how many a transaction takes."""
TYPICAL_BYTES = 1_000
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0
_STRETCH, _REST = 0.0002, 0.0002
"""Seconds of work after which the thread rests, and for how long: the event loop may have to share its processor."""
_logger = logging.getLogger(__name__)


Queued = tuple[AnyEvent, int]
"""An event, and about how many bytes it holds."""


class LogWriter:
    """Records events of one event loop without ever holding it up.

    `append` takes an event and returns at once; a thread records what has gathered every `flush_ms`, or earlier when
    much has. Events stay in the queue until the log has taken them: a log that fails is tried again until it works.
    `full` says when no more calls should be admitted. A `subscriber` that fails is reported and harms nothing.

    The thread works in pieces of a fraction of a millisecond, and rests between them unless much has gathered. It also
    deletes, by the time of `clock`, the calls that are older than the settings keep them, or `keep`, in seconds by the
    name of the feature.
    """

    def __init__(
        self,
        log: Log,
        settings: LogSettings,
        subscribers: Sequence[Subscriber] = (),
        clock: Clock | None = None,
        *,
        keep: Mapping[str, float] = {},
    ) -> None:
        self.sync = settings.durability == "sync"
        self.failing: LogError | None = None
        """Why the last batch could not be recorded; None as soon as it is."""
        self.lost = 0
        """How many events the log could not take, for a defect."""
        self._log = log
        self._subscribers = subscribers
        self._retention = Retention(log, settings.keep, clock or SystemClock(), keep)
        self._limit = settings.queue
        self._limit_bytes = settings.queue_bytes
        self._early = max(1, min(BATCH, settings.queue // 4))
        self._flush = settings.flush_ms / 1000
        self._queue: deque[Queued] = deque()
        self._taking = threading.Lock()
        """Held by the thread while it takes a batch from the queue, and by whoever changes what is in it."""
        self._batches: deque[Sequence[Queued]] = deque()
        """Taken from the queue by the thread, in their order, and not recorded yet."""
        self._appended = self._appended_bytes = 0
        """Counted by the loop alone; `_recorded` by the thread alone, so neither needs a lock."""
        self._recorded = self._recorded_bytes = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        """Who waits for which count of `_recorded`, in order. Only the loop changes it."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._until = 0.0
        self._rested = 0.0
        """When the thread rested last, in seconds of its work."""
        self._thread = threading.Thread(target=self._run, name="holdfast-log", daemon=True)
        self._thread.start()

    # --- on the loop --------------------------------------------------------------------------------------------------

    def append(self, event: AnyEvent, size: int = TYPICAL_BYTES) -> None:
        """Take an event of about `size` bytes. It is recorded within `flush_ms` and the time of a commit."""
        self._appended += 1
        self._appended_bytes += size
        self._queue.append((event, size))
        if len(self._queue) == self._early:
            self._wake.set()

    async def append_committed(self, event: AnyEvent, size: int = TYPICAL_BYTES) -> None:
        """Take an event and return when the log has it; all who wait at once share a commit.

        An event whose wait fails or is cancelled stays in the queue: see `amend`.

        Raises:
            LogError: the log is failing.
        """
        if self.failing is not None:
            self.append(event, size)
            raise LogError(self.failing.message)
        self._loop = asyncio.get_running_loop()
        future = self._loop.create_future()
        self._waiters.append((self._appended + 1, future))
        self.append(event, size)
        self._wake.set()
        await future

    def amend(self, call: Call) -> None:
        """Have the log tell of a call, which it was given before, what is told here: it ended otherwise."""
        with self._taking:
            for index, (event, size) in enumerate(self._queue):
                if isinstance(event, Call) and event.id == call.id:
                    self._queue[index] = call, size
                    return
        self.append(Correction(call=call))

    def retain(self, keep: float | None, by_feature: Mapping[str, float] = {}) -> None:
        """Keep calls for other times from now on, in seconds: those to the features named, and all others."""
        self._retention.change(keep, by_feature)

    def __len__(self) -> int:
        """How many events wait to be recorded."""
        return self._appended - self._recorded

    def __bool__(self) -> bool:
        return True

    @property
    def full(self) -> bool:
        """Whether as much waits as the settings allow. `append` takes more, for calls that are under way."""
        return (
            self._appended - self._recorded >= self._limit
            or self._appended_bytes - self._recorded_bytes >= self._limit_bytes
        )

    def _settle(self, count: int, error: LogError | None) -> None:
        """End the waits for the first `count` events."""
        while self._waiters and self._waiters[0][0] <= count:
            future = self._waiters.popleft()[1]
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(LogError(error.message))

    # --- closing ------------------------------------------------------------------------------------------------------

    def close(self, seconds: float = 10.0) -> None:
        """Record what is left and end the thread. Blocks for `seconds`, or one attempt of the log longer.

        Raises:
            LogError: events could not be recorded, and are lost.
        """
        self._until = time.monotonic() + seconds
        self._closing.set()
        self._wake.set()
        self._thread.join(seconds + 5)
        if len(self):
            reason = "the disk is too slow" if self.failing is None else self.failing.message
            raise LogError(f"{len(self)} events could not be recorded: {reason}")

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.clear()
            closing = self._closing.is_set()  # looked at before the queue, so that nothing appended before is left
            began, count = time.monotonic(), len(self._queue)
            self._drain(count)
            if closing:
                return
            self._retention.work(count, self._rest)
            if len(self._queue) < self._early:
                self._wake.wait(min(max(0.0, began + self._flush - time.monotonic()), self._retention.rest))

    def _drain(self, count: int) -> None:
        """Record the first `count` events of the queue. What comes meanwhile gathers."""
        pause = _FIRST_PAUSE
        rest = self._rest if count < BATCH else no_pause
        while self._batches or count:
            if not self._batches:
                size = count if count < 2 * BATCH else BATCH
                count -= size
                with self._taking:
                    self._batches.append([self._queue.popleft() for _ in range(size)])
            if self._record(self._batches[0], rest):
                pause = _FIRST_PAUSE
            elif self._closing.is_set() and time.monotonic() > self._until:
                return
            else:
                self._wait(pause)
                pause = min(pause * 2, _LAST_PAUSE)

    def _wait(self, pause: float) -> None:
        if self._closing.is_set():
            time.sleep(_FIRST_PAUSE)
        else:
            self._closing.wait(pause)

    def _rest(self) -> None:
        """Leave the processor to the loop for a moment, after a stretch of work."""
        if time.thread_time() - self._rested >= _STRETCH and not self._closing.is_set():
            time.sleep(_REST)
            self._rested = time.thread_time()

    def _record(self, batch: Sequence[Queued], rest: Pause) -> bool:
        events = [event for event, _ in batch]
        try:
            self._log.append(events, rest)
        except LogError as error:
            self._failed(error)
            return False
        except Exception as error:  # noqa: BLE001 one event must not stop the log
            self._isolate(batch, error)
            return True
        self._done(batch)
        self._succeeded(events)
        return True

    def _done(self, batch: Sequence[Queued]) -> None:
        """Count a batch, the first, as dealt with."""
        self._batches.popleft()
        self._recorded_bytes += sum([size for _, size in batch])
        self._recorded += len(batch)

    def _isolate(self, batch: Sequence[Queued], error: Exception) -> None:
        """Deal with a batch that holds an event which the log can't take: record the others, one by one."""
        if len(batch) > 1:
            self._batches.popleft()
            self._batches.extendleft([queued] for queued in reversed(batch))
            return
        self._done(batch)
        self.lost += 1
        name = getattr(batch[0][0], "id", type(batch[0][0]).__name__)
        _logger.error("event %s could not be recorded, and is lost", name, exc_info=error)
        self._settle_soon(self._recorded, LogError(f"Event {name} could not be recorded: {error}"))

    def _succeeded(self, events: Sequence[AnyEvent]) -> None:
        if self.failing is not None:
            self.failing = None
            _logger.warning("the log works again")
        self._settle_soon(self._recorded, None)
        for subscriber in self._subscribers:
            try:
                subscriber(events)
            except Exception:
                _logger.exception("a subscriber of the log failed")

    def _failed(self, error: LogError) -> None:
        if self.failing is None:
            _logger.error("the log fails, events wait until it works again: %s", error.message)
        self.failing = error
        self._settle_soon(self._appended, error)

    def _settle_soon(self, count: int, error: LogError | None) -> None:
        """Have the loop end the waits for the first `count` events, if there are any."""
        if self._loop is None or not self._waiters:
            return
        try:
            self._loop.call_soon_threadsafe(self._settle, count, error)
        except RuntimeError:
            _logger.debug("the loop is closed: nobody waits any more")
