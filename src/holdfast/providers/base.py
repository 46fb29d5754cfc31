"""The contract of a wire format, in both directions.

An `Upstream` speaks it to a model: requests out, answers in. A `Surface` to a caller: requests in, answers out.
The gateway has a surface for each wire that it serves, the simulated providers have all of them. Both sides meet in the
values of `chat.py`; they do no I/O.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec.structs import replace

from holdfast.chat import Chunk, EmbeddingReply, EmbeddingRequest, Message, Reply, Request, ResponseFormat, Tool
from holdfast.errors import BadRequest, CallError, InvalidRequest, ProviderError
from holdfast.http.base import Headers, HttpRequest, Timeouts
from holdfast.http.sse import ServerSentEvent
from holdfast.privacy.memories import Memory
from holdfast.providers.dialects.dialect import Constrained, Keyword
from holdfast.providers.dialects.servers import UNKNOWN, Server, constrained
from holdfast.providers.prefill import continued
from holdfast.providers.prices import PriceSettings
from holdfast.settings import Secret, Settings

__all__ = [
    "Constrained",
    "Endpoint",
    "Keyword",
    "ModelSettings",
    "Source",
    "StreamDecoder",
    "StreamEncoder",
    "Surface",
    "Upstream",
    "Wire",
]

Wire = Literal["openai", "anthropic", "google"]
Count = Annotated[int, msgspec.Meta(ge=1)]

_ENCODER = msgspec.json.Encoder()
_LEARNED = 32
_MOST_LEARNED = 64 * 2**10


class ModelSettings(Settings, frozen=True, kw_only=True):
    """[models.NAME]: something that can be called."""

    provider: str
    """A wire format ("openai", "anthropic", "google"), a provider that speaks one ("azure", "groq", "ollama", ...), or
    "simulated"."""
    name: str | None = None
    """The name that the provider knows it by. Default: the name of this table."""
    base_url: str | None = None
    """Where it is served. Default: the provider's own address."""
    api_key: Secret | None = None
    headers: dict[str, str | Secret] = {}
    """Headers to add to every request."""
    query: dict[str, str] = {}
    """Query parameters to add to every request, such as Azure's api-version."""
    body: dict[str, Any] = {}
    """Fields to add to every request body, where the caller's request does not set them."""
    price: PriceSettings | None = None
    """Overrides the price list."""
    timeouts: Timeouts = Timeouts()
    proxy: str | None = None
    """The HTTP proxy to reach it through."""
    prefill: bool | None = None
    """Whether it continues an answer that it is given the beginning of. Default: what the provider is known for."""
    context: Count | None = None
    """The tokens that it takes, prompt and answer together. Default: what the price list tells of it."""
    max_output: Count | None = None
    """The most tokens that one answer of it can have. Where a limit in money or tokens holds, so many are set aside for
    a call that sets no `max_tokens`. Default: `context`."""
    breaker: bool = True
    """Whether it is left alone, but for a probe now and then, while it is known to be down."""
    concurrency: Count | None = None
    """The most calls that it gets at once, from all workers together. Default: no limit."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how a model is reached: its settings with every default and secret resolved."""

    model: str
    """The name that the provider knows it by."""
    base_url: str
    """Without a trailing slash."""
    api_key: str | None = None
    headers: Headers = ()
    query: Mapping[str, str] = {}
    body: Mapping[str, Any] = {}
    quirks: frozenset[str] = frozenset()
    """Departures from the wire format that the provider is known for, by the names in `known.py`."""
    prefill: bool | None = None
    """Whether the model continues an answer that it is given the beginning of; None where nothing is known of it."""
    server: Server = UNKNOWN
    """What of a constraint its server enforces."""

    def __repr__(self) -> str:
        return f"Endpoint(model={self.model!r}, base_url={self.base_url!r})"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """How a request was spoken, so that what nobody changed on the way is forwarded byte for byte.

    `request` is the value that was decoded from the wire; a field, message or tool that is still the same object there
    and in the request to be sent may be taken from `fields`, `messages` or `tools` (by `id()` of the value) as it came.
    """

    wire: str
    request: Request
    fields: Mapping[str, msgspec.Raw]
    messages: Mapping[int, msgspec.Raw]
    tools: Mapping[int, msgspec.Raw]

    def message(self, message: Message) -> msgspec.Raw | None:
        """Return the bytes that `message` was decoded from, None if it was made or changed on the way."""
        return self.messages.get(id(message))

    def tool(self, tool: Tool) -> msgspec.Raw | None:
        """Return the bytes that `tool` was decoded from, None if it was made or changed on the way."""
        return self.tools.get(id(tool))


# --- towards a model --------------------------------------------------------------------------------------------------


class StreamDecoder(Protocol):
    """Decodes one streamed answer, event by event."""

    complete: bool
    """Whether the provider has said, by its own rules, that the answer is whole. What follows is only usage."""

    def feed(self, event: ServerSentEvent) -> Sequence[Chunk]:
        """Return what an event brings, each chunk with `raw` where it stands for that event alone.

        Raises:
            MalformedResponse: the event does not follow the wire format.
            ProviderError: the event reports an error.
        """
        ...


class Upstream(ABC):
    """Speaks a wire format to one model. Stateless, so that one instance serves every call at once."""

    wire: Wire

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._constrained = Memory[bytes, tuple[ResponseFormat, Constrained]]()

    @property
    def server(self) -> Server:
        """What of a constraint the server enforces for this model."""
        return self.endpoint.server

    @property
    def ignores(self) -> bool:
        """Whether the server may ignore all it is asked to enforce, so that the model has to be told in words."""
        return self.wire == "openai" and self.server.dialect is None

    def constrain(self, format: ResponseFormat) -> Constrained:
        """Return what the server makes of a format: what to ask it for, in a request to `encode`, and what it enforces.

        Never raises. Its `format` is the one that was given where nothing of it has to change for the wire.
        """
        try:
            key = _ENCODER.encode(format)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return constrained(format, self.server)
        asked, made = self._constrained.get(key) or self._learn(key, format)
        if made.format is not asked:
            return made
        return replace(made, format=format)

    def _learn(self, key: bytes, format: ResponseFormat) -> tuple[ResponseFormat, Constrained]:
        """Remember what becomes of a format, as long as few others come."""
        learned = format, constrained(format, self.server)
        if len(key) <= _MOST_LEARNED:
            if len(self._constrained) >= _LEARNED:
                self._constrained.pop(next(iter(self._constrained)), None)
            self._constrained[key] = learned
        return learned

    @abstractmethod
    def encode(self, request: Request, source: Source | None = None) -> HttpRequest:
        """Return what to send. The model's name is the endpoint's, whatever `request.model` says.

        Raises:
            BadRequest: the request asks for something that this wire can't say.
        """

    @property
    def continues(self) -> bool:
        """Whether the model goes on with an answer that it is given the beginning of, instead of beginning anew."""
        return self.endpoint.prefill is True

    @property
    def repeats(self) -> bool:
        """Whether the continued answer begins with the beginning that was given."""
        return False

    def continues_request(self, request: Request) -> bool:
        """Whether the answer to this request can be continued: one answer, in plain text, without thinking."""
        forced = request.tool_choice is not None and request.tool_choice.mode in ("required", "named")
        plain = request.response_format is None or request.response_format.type == "text"
        thinks = request.reasoning_effort not in (None, "none") or bool(request.reasoning_tokens)
        one = request.n == 1 and request.top_logprobs is None
        return self.continues and one and plain and not forced and not thinks

    def encode_continued(self, request: Request, said: str, source: Source | None = None) -> HttpRequest:
        """Return what to send so that the model goes on after `said`, which has no white space at its end.

        Only for requests that `continues_request`. Raises BadRequest as `encode` does.
        """
        return self.encode(continued(request, said), source)

    @abstractmethod
    def decode(self, body: bytes) -> Reply:
        """Decode a whole answer.

        Raises:
            MalformedResponse: the body does not follow the wire format.
            ContentRefused: the provider withheld the answer, where its wire says so with a 200.
        """

    def forwardable(self, body: bytes) -> bytes | None:
        """Return the body of a whole answer for a caller of the same wire, None where `decode` makes another of it."""
        return body

    @abstractmethod
    def stream(self) -> StreamDecoder:
        """Return a decoder for one streamed answer."""

    @abstractmethod
    def error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        """Translate a response whose status is not 2xx. The message is the provider's own, without secrets."""

    def encode_embeddings(self, request: EmbeddingRequest) -> HttpRequest:
        """Return what to send. Raises BadRequest where the wire has no embeddings."""
        raise BadRequest(f"The {self.wire} wire has no embeddings.", param="model")

    def decode_embeddings(self, body: bytes) -> EmbeddingReply:
        """Decode vectors. Raises MalformedResponse."""
        raise BadRequest(f"The {self.wire} wire has no embeddings.", param="model")


# --- towards a caller -------------------------------------------------------------------------------------------------


class StreamEncoder(Protocol):
    """Encodes one streamed answer. It holds back how a choice ended, and usage, until `end`."""

    def chunk(self, chunk: Chunk, wire: str) -> bytes:
        """Return the bytes to send now, which may be none. `wire` is the one that `chunk.raw` is in."""
        ...

    def end(self, summary: Mapping[str, Any]) -> bytes:
        """Return the last events; the last JSON payload has `summary` as its `holdfast` object, unless it is empty."""
        ...

    def object(self, value: Any, complete: Sequence[str]) -> bytes:
        """Return an event with what is known of the answer, a JSON value, and the JSON pointers of what is final."""
        ...

    def reset(self) -> bytes:
        """Return an event that takes back all that was sent. What follows is another answer, from its start."""
        ...

    def error(self, error: CallError, call: str, summary: Mapping[str, Any]) -> bytes:
        """Return an error event, after which a client of this wire does not take the answer for complete."""
        ...


class Surface(ABC):
    """Speaks a wire format to callers."""

    wire: Wire

    @abstractmethod
    def decode(self, body: bytes, path: str) -> tuple[Request, Source]:
        """Decode a request. Every unknown top-level field lands in `Request.extra`.

        Raises:
            InvalidRequest: with `param` naming the field at fault.
        """

    @abstractmethod
    def encode(self, reply: Reply) -> bytes:
        """Encode a whole answer."""

    @abstractmethod
    def stream(self, request: Request, *, id: str, model: str, created: int) -> StreamEncoder:
        """Return an encoder for one streamed answer; the rest names it where the upstream does not."""

    @abstractmethod
    def error(self, error: CallError, call: str) -> bytes:
        """Encode an error envelope that names the call."""

    def decode_embeddings(self, body: bytes, path: str) -> EmbeddingRequest:
        """Decode a request for embeddings. Raises InvalidRequest."""
        raise InvalidRequest(f"The {self.wire} wire has no embeddings.")

    def encode_embeddings(self, reply: EmbeddingReply, encoding_format: Literal["float", "base64"]) -> bytes:
        """Encode vectors, converting between floats and base64 as asked."""
        raise InvalidRequest(f"The {self.wire} wire has no embeddings.")
