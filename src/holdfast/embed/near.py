"""Which of some texts are near to another: by a model's vectors where there is one, and by their words where not."""

import asyncio
import logging
from collections.abc import Sequence, Set
from contextlib import suppress
from typing import Final, Protocol

from holdfast.embed.lexical import Bm25
from holdfast.embed.vectors import Vectors
from holdfast.embed.words import clipped
from holdfast.errors import LimitExceeded, ModelBusy, ModelDown, ProviderError, Saturated

Vector = Sequence[float]


class Source(Protocol):
    """A model that gives vectors. It raises what it likes."""

    async def of_texts(self, texts: Sequence[str]) -> Sequence[Vector]:
        """Return the vectors of some of the texts to choose from, in their order. It takes what time it takes."""
        ...

    async def of_question(self, text: str, seconds: float) -> Vector:
        """Return the vector of the text that is asked for, within so many seconds. Raises TimeoutError."""
        ...


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

logger = logging.getLogger(__name__)


class Near:
    """Some texts that never change. Their vectors are asked for when they are first needed, and kept.

    `name` says in the log of the process which texts these are.
    """

    def __init__(self, texts: Sequence[str], *, name: str) -> None:
        self._by_words = Bm25(texts)
        self._by_vectors = Vectors()
        self._texts = tuple(texts)
        self._name = name
        self._filling: asyncio.Task[None] | None = None
        self._closed = False
        self._pause = PAUSE_SECONDS
        self._paused_until = 0.0
        self._told = False

    async def find(
        self,
        text: str,
        most: int,
        without: Set[int] = frozenset(),
        *,
        seconds: float = MOST_SECONDS,
        source: Source | None = None,
    ) -> list[int]:
        """Return the numbers of the `most` nearest texts but those in `without`, the nearest first.

        They are near by the vectors of `source`, or by words. Texts that are equally near come in their order. Never
        raises, and waits no longer than `seconds` for vectors.
        """
        if source is not None and text and not self._closed and _now() >= self._paused_until:
            seconds = min(seconds, MOST_SECONDS)
            try:
                return await self._find_by_vectors(source, text, most, without, seconds)
            except TimeoutError:
                if seconds >= FAIR_SECONDS:
                    self._miss(f"no vectors within {seconds:g} s")
            except (ModelBusy, ModelDown, Saturated) as error:  # it was not asked: there is nothing to spare it
                self._tell(f"no vectors: {error}")
            except Exception as error:  # noqa: BLE001 (whatever a model does wrong)
                if not _is_of_this_call(error):
                    self._miss(f"no vectors: {error}")
        return self._by_words.nearest(text, most, without)

    def close(self) -> None:
        """Ask for no more vectors."""
        self._closed = True
        if self._filling is not None:
            self._filling.cancel()

    async def _find_by_vectors(
        self, source: Source, text: str, most: int, without: Set[int], seconds: float
    ) -> list[int]:
        until = _now() + seconds
        if len(self._by_vectors) < len(self._texts):
            async with asyncio.timeout(seconds):
                await self._filled(source)
        vector = await source.of_question(clipped(text, MAX_TEXT), until - _now())
        found = self._by_vectors.nearest(vector, most, without)
        self._pause = PAUSE_SECONDS
        return found

    async def _filled(self, source: Source) -> None:
        """Wait until the vectors of all texts are there. They go on coming when this is cancelled."""
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._fill(source))
            self._filling.add_done_callback(_forget_failure)
        filling = self._filling
        await asyncio.wait((filling,))
        if filling.cancelled():
            raise RuntimeError("it was cancelled")
        if (error := filling.exception()) is not None:
            raise RuntimeError(str(error)) from error  # whoever is at fault: it is no matter of this one call

    async def _fill(self, source: Source) -> None:
        vectors, texts = self._by_vectors, self._texts
        while len(vectors) < len(texts):
            batch = [clipped(text, MAX_TEXT) for text in texts[len(vectors) : len(vectors) + BATCH]]
            found = await source.of_texts(batch)
            if len(found) != len(batch):
                raise ValueError(f"{len(batch)} texts got {len(found)} vectors")
            for vector in found:
                vectors.add(vector)
                await asyncio.sleep(0)  # other calls go first

    def _miss(self, why: str) -> None:
        self._paused_until = _now() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._tell(why)

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            logger.warning("%s: chosen by words while they can't be by vectors (told once): %s", self._name, why)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_of_this_call(error: Exception) -> bool:
    """Whether an error tells nothing of the model: it is what this call asks, or what it may spend."""
    return isinstance(error, LimitExceeded) or (isinstance(error, ProviderError) and error.callers_fault)


def _forget_failure(task: asyncio.Task[None]) -> None:
    """Keep asyncio from telling what `find` tells."""
    with suppress(asyncio.CancelledError):
        task.exception()
