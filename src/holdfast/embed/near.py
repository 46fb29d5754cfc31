"""Which of some texts are near to another: by a model's vectors where there is one, and by their words where not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import suppress
from typing import Final

from holdfast.clock import Clock, SystemClock
from holdfast.embed.lexical import Bm25
from holdfast.embed.vectors import Vectors
from holdfast.embed.words import clipped
from holdfast.errors import ProviderError

Embed = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]
"""Returns the vectors of texts, in their order. It takes what time it takes, and raises what it likes."""

BATCH: Final = 32
"""Texts that are embedded at once: more, some servers refuse."""
MAX_TEXT: Final = 8_000
"""Characters of a text that are embedded."""
MOST_SECONDS: Final = 2.0
"""The longest that a search waits for vectors."""
FAIR_SECONDS: Final = 0.1
"""A search that waited less says nothing of the model: its caller was in a hurry."""
PAUSE_SECONDS: Final = 5.0
"""How long no vectors are asked for after they failed or were late; twice as long each time in a row..."""
LONGEST_PAUSE_SECONDS: Final = 300.0
"""...up to this."""
_CLOCK: Final = SystemClock()

logger = logging.getLogger(__name__)


class Near:
    """Some texts that never change. The vectors of a model are asked for when they are first needed, and kept.

    `name` says in the log of the process which texts these are.
    """

    def __init__(self, texts: Sequence[str], embed: Embed | None = None, *, name: str, clock: Clock = _CLOCK) -> None:
        self._by_words = Bm25(texts)
        self._by_vectors = Vectors()
        self._texts = tuple(texts) if embed is not None else ()
        self._embed = embed
        self._name = name
        self._clock = clock
        self._filling: asyncio.Task[None] | None = None
        self._pause = PAUSE_SECONDS
        self._paused_until = 0.0
        self._told = False

    async def find(
        self, text: str, most: int, without: Set[int] = frozenset(), *, seconds: float = MOST_SECONDS
    ) -> list[int]:
        """Return the numbers of the `most` nearest texts but those in `without`, the nearest first.

        Texts that are equally near come in their order. Never raises, and waits no longer than `seconds` for vectors.
        """
        embed = self._embed
        if embed is not None and text and self._clock.monotonic() >= self._paused_until:
            seconds = min(seconds, MOST_SECONDS)
            try:
                async with asyncio.timeout(seconds):
                    return await self._find_by_vectors(embed, text, most, without)
            except TimeoutError:
                if seconds >= FAIR_SECONDS:
                    self._miss(f"no vectors within {seconds:g} s")
            except Exception as error:  # noqa: BLE001 (whatever a model does wrong)
                if not (isinstance(error, ProviderError) and error.callers_fault):  # it is this one text
                    self._miss(f"no vectors: {error}")
        return self._by_words.nearest(text, most, without)

    def close(self) -> None:
        """Ask for no more vectors."""
        self._embed = None
        if self._filling is not None:
            self._filling.cancel()

    async def _find_by_vectors(self, embed: Embed, text: str, most: int, without: Set[int]) -> list[int]:
        if len(self._by_vectors) < len(self._texts):
            await self._filled(embed)
        (vector,) = await _vectors(embed, [text])
        found = self._by_vectors.nearest(vector, most, without)
        self._pause = PAUSE_SECONDS
        return found

    async def _filled(self, embed: Embed) -> None:
        """Wait until the vectors of all texts are there. They go on coming when this is cancelled."""
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._fill(embed))
            self._filling.add_done_callback(_forget_failure)
        filling = self._filling
        await asyncio.wait((filling,))
        if filling.cancelled():
            raise RuntimeError("it was cancelled")
        filling.result()

    async def _fill(self, embed: Embed) -> None:
        vectors, texts = self._by_vectors, self._texts
        while len(vectors) < len(texts):
            for vector in await _vectors(embed, texts[len(vectors) : len(vectors) + BATCH]):
                vectors.add(vector)
                await asyncio.sleep(0)  # other calls go first

    def _miss(self, why: str) -> None:
        self._paused_until = self._clock.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        if not self._told:
            self._told = True
            logger.warning("%s: chosen by words while they can't be by vectors (told once): %s", self._name, why)


async def _vectors(embed: Embed, texts: Sequence[str]) -> Sequence[Sequence[float]]:
    vectors = await embed([clipped(text, MAX_TEXT) for text in texts])
    if len(vectors) != len(texts):
        raise ValueError(f"{len(texts)} texts got {len(vectors)} vectors")
    return vectors


def _forget_failure(task: asyncio.Task[None]) -> None:
    """Keep asyncio from telling what `find` tells."""
    with suppress(asyncio.CancelledError):
        task.exception()
