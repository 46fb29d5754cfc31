"""What passes between the caller and its models in one call: a whole answer, a streamed one, or vectors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from holdfast.chat import Choice, Chunk, EmbeddingReply, Reply, Text, Usage
from holdfast.errors import CallError
from holdfast.gateway.fallback import Resume
from holdfast.gateway.fetch import Limits
from holdfast.gateway.record import Arrival, AttemptRecord, Summary

LAST_RESORT = "last_resort"
"""What stands for the model, and the wire, of an answer that no model gave."""


class Writer(Protocol):
    """Where an answer goes. Exactly one of `reply`, `end` and `fail` is called, once, at the end."""

    async def reply(self, reply: Reply | EmbeddingReply, raw: bytes | None, wire: str, summary: Summary) -> None:
        """Give the whole answer. `raw` is how the model said it in `wire`, None if it was made or changed here."""
        ...

    async def chunks(self, chunks: Sequence[Chunk], wire: str) -> None:
        """Give the next pieces of a streamed answer. Waits while the caller is slower than the model."""
        ...

    async def reset(self) -> None:
        """Take back what was streamed: the answer begins anew."""
        ...

    async def end(self, summary: Summary) -> None:
        """End a streamed answer that is whole."""
        ...

    async def fail(self, error: CallError, summary: Summary) -> None:
        """End the call with an error, on the stream if one has begun."""
        ...


class Outrun(Exception):
    """Another attempt of the call was sooner."""


class Exchange(ABC):
    """One call's answer, whichever models give it."""

    reply: Reply | EmbeddingReply | None = None
    """What has been answered, for the log."""
    takes_last_resort: ClassVar[bool] = True
    """Whether a text can stand for the answer."""
    streamed: ClassVar[bool] = False
    speaker: AttemptRecord | None = None
    """The attempt whose answer this is; of several at once, the first to speak."""
    on_speak: Callable[[AttemptRecord], None] | None = None
    """Called when an attempt begins to speak."""

    @abstractmethod
    async def attempt(self, attempt: AttemptRecord, limits: Limits) -> None:
        """Get the answer from a model. Raises ProviderError, Outrun."""

    def resumption(self) -> Resume:
        """Return how another model may take up an answer that broke off, of which the caller has a part."""
        return "no"

    @abstractmethod
    async def use_last_resort(self, text: str) -> None:
        """Answer with a text instead, where the exchange takes one."""

    @abstractmethod
    async def finish(self, summary: Summary) -> None:
        """Give the caller the end of the answer."""

    def _speak(self, attempt: AttemptRecord) -> None:
        """Make an attempt the one that answers. Raises Outrun."""
        if self.speaker is None:
            self.speaker = attempt
            if self.on_speak is not None:
                self.on_speak(attempt)
        elif self.speaker is not attempt:
            raise Outrun


def last_resort(text: str, arrival: Arrival) -> Reply:
    """Return the reply that a last resort is."""
    choice = Choice(parts=(Text(text=text),), finish="stop")
    return Reply(id=arrival.id, model=LAST_RESORT, choices=(choice,), usage=Usage(), created=int(arrival.at))
