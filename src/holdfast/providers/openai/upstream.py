"""The OpenAI wire towards a model.

An endpoint's quirks, by name:

- "azure": the key goes in the header `api-key`. (`base_url` already holds /openai/deployments/NAME or /openai/v1, the
  query its api-version.)
- "max_tokens": the server knows `max_tokens` only, not `max_completion_tokens`.
- "no_stream_usage": the server refuses `stream_options`.
- "top_k": the server takes `top_k` from callers of other wires too. (A caller of this wire always gets it through.)
- "reasoning_content", "reasoning_details": the server takes back the reasoning text of earlier turns (DeepSeek, vLLM,
  SGLang), its signatures and sealed reasoning (OpenRouter). Others refuse unknown fields in messages.
- "extra_content": the server takes back the signature of a tool call (Gemini behind this wire).
- "prefix", "partial", "continue_final_message", "beta": how the server is told to go on with an answer that it is given
  the beginning of, see `prefill.py`. "repeats_prefill": its answer then begins with that beginning.

What nobody changed since it was decoded from this wire goes out as the bytes that it came in.
"""

import math
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final, Literal
from urllib.parse import urlencode

import msgspec

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Message, Reply, Request, Tool
from holdfast.errors import BadRequest, MalformedResponse, ProviderError
from holdfast.http.base import Headers, HttpRequest
from holdfast.providers.base import Endpoint, Source, Upstream
from holdfast.providers.openai.constraints import write_constraint
from holdfast.providers.openai.failures import failure
from holdfast.providers.openai.prefill import ask_to_continue, prefill_url
from holdfast.providers.openai.reading import OpenAIStream, ReplyReader
from holdfast.providers.openai.wire import WireVectors
from holdfast.providers.openai.writing import write_messages, write_tool, write_tool_choice
from holdfast.providers.private import private_to_others

_ENCODER = msgspec.json.Encoder()
_JSON = msgspec.json.Decoder()
_VECTORS = msgspec.json.Decoder(WireVectors)
_INCLUDE_USAGE = msgspec.Raw(b'{"include_usage":true}')
_MISSING = object()

_ATTRIBUTES = {
    "messages": "messages",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "parallel_tool_calls": "parallel_tool_calls",
    "response_format": "response_format",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop": "stop",
    "seed": "seed",
    "n": "n",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logprobs": "top_logprobs",
    "top_logprobs": "top_logprobs",
    "reasoning_effort": "reasoning_effort",
    "stream": "stream",
}
"""Fields of the wire, and the attribute of `Request` that holds what they say."""

_WRITERS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("tool_choice", write_tool_choice),
    ("parallel_tool_calls", bool),
    ("temperature", float),
    ("top_p", float),
    ("stop", list),
    ("seed", int),
    ("n", int),
    ("presence_penalty", float),
    ("frequency_penalty", float),
    ("reasoning_effort", str),
    ("stream", bool),
)
"""Attributes of the same name on the wire, with how their value is written."""

_DEFAULTS: dict[str, Any] = {"n": 1, "stream": False, "stop": ()}

_PRIVATE = private_to_others("openai")


_REASONS: Final = re.compile(r"(?:.*/)?(?:o[1-9](?![0-9a-z])|gpt-5(?!-chat)).*", re.IGNORECASE)
"""OpenAI's models that think first: they refuse any `temperature` but their own."""


class OpenAIUpstream(Upstream):
    """Speaks the OpenAI wire to one model."""

    wire = "openai"

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        query = "?" + urlencode(endpoint.query) if endpoint.query else ""
        self._chat_url = f"{endpoint.base_url}/chat/completions{query}"
        self._embeddings_url = f"{endpoint.base_url}/embeddings{query}"
        self._headers = _headers(endpoint)
        self._quirks = endpoint.quirks
        self._reasons = _REASONS.fullmatch(endpoint.model) is not None
        self._reader = ReplyReader(endpoint.api_key)

    def encode(self, request: Request, source: Source | None = None) -> HttpRequest:
        """Return what to send. See `Upstream.encode`."""
        ours = source if source is not None and source.wire == "openai" else None
        if ours is not None and request is ours.request:
            body = self._unchanged(ours)
        else:
            body = self._changed(request, source, ours)
        if request.stream:
            self._ask_for_usage(body, ours)
        body.pop("holdfast", None)
        if self.endpoint.body:
            self._add_defaults(body)
        return HttpRequest("POST", self._chat_url, self._headers, _ENCODER.encode(body))

    @property
    def repeats(self) -> bool:
        """Whether the continued answer begins with the beginning that was given."""
        return "repeats_prefill" in self._quirks

    def encode_continued(self, request: Request, said: str, source: Source | None = None) -> HttpRequest:
        """Return what to send so that the model goes on after `said`. See `Upstream.encode_continued`."""
        plain = super().encode_continued(request, said, source)
        base = self.endpoint.base_url
        url = plain.url.replace(base, prefill_url(base, self._quirks), 1)
        return HttpRequest(plain.method, url, plain.headers, ask_to_continue(plain.body, self._quirks))

    def decode(self, body: bytes) -> Reply:
        """Decode a whole answer. See `Upstream.decode`."""
        return self._reader.read(body)

    def stream(self) -> OpenAIStream:
        """Return a decoder for one streamed answer."""
        return OpenAIStream(self.endpoint.api_key)

    def error(self, status: int, headers: Headers, body: bytes) -> ProviderError:
        """Translate a response whose status is not 2xx."""
        try:
            tree = _JSON.decode(body)
        except (ValueError, RecursionError, OverflowError):
            tree = body.decode(errors="replace")
        return failure(tree, status=status, headers=headers, api_key=self.endpoint.api_key, model=self.endpoint.model)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _unchanged(self, source: Source) -> dict[str, Any]:
        """Take every field as it came."""
        body = {**source.fields, "model": self.endpoint.model}
        body.pop("stream_options", None)
        self._rename_max_tokens(body)
        return body

    def _changed(self, request: Request, source: Source | None, ours: Source | None) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.endpoint.model}
        old = self._forward(body, request, ours) if ours is not None else None
        self._write(body, request, ours)
        self._write_changed(body, request, old)
        if self._reasons and source is not None and request.temperature != source.request.temperature:
            body.pop("temperature", None)  # the gateway's wish, which such a model refuses
        if old is None:
            private = _PRIVATE if source is not None else frozenset()
            body.update({key: value for key, value in request.extra.items() if key not in private})
        elif request.extra is not old.extra:
            body.update({k: v for k, v in request.extra.items() if old.extra.get(k, _MISSING) is not v})
        return body

    def _forward(self, body: dict[str, Any], request: Request, source: Source) -> Request:
        """Take every field that nobody changed as it came, and return the request that came."""
        old, extra = source.request, request.extra
        for key, raw in source.fields.items():
            attribute = _ATTRIBUTES.get(key)
            if attribute is not None:
                if getattr(request, attribute) is getattr(old, attribute):
                    body[key] = raw
            elif key in extra and extra[key] is old.extra[key]:
                body[key] = raw
        return old

    def _write(self, body: dict[str, Any], request: Request, source: Source | None) -> None:
        """Write messages and tools where they have changed, those among them that have not as they came."""
        if "messages" not in body:
            body["messages"] = self._messages(request.messages, source)
        if request.tools and "tools" not in body:
            body["tools"] = [self._tool(tool, source) for tool in request.tools]

    def _messages(self, messages: tuple[Message, ...], source: Source | None) -> list[Any]:
        written: list[Any] = []
        for i, message in enumerate(messages):
            raw = source.message(message) if source is not None else None
            if raw is not None:
                written.append(raw)
            else:
                written += write_messages(message, f"messages[{i}]", self._quirks)
        return written

    def _tool(self, tool: Tool, source: Source | None) -> Any:
        raw = source.tool(tool) if source is not None else None
        if source is None and (kind := tool.extra.get("type", "custom")) not in (None, "custom", "function"):
            raise BadRequest(f"A tool of the type {kind!r} exists only on the wire it came from.", param="tools")
        return raw if raw is not None else write_tool(tool, extra=source is not None)

    def _write_changed(self, body: dict[str, Any], request: Request, old: Request | None) -> None:
        for name, write in _WRITERS:
            value = getattr(request, name)
            if value is None or (old is not None and value is getattr(old, name)) or value == _DEFAULTS.get(name):
                continue
            body[name] = write(value)
        format = request.response_format
        if format is not None and (old is None or format is not old.response_format):
            body |= write_constraint(format, self.server)
        if old is None or request.max_tokens is not old.max_tokens:
            self._write_max_tokens(body, request)
        else:
            self._rename_max_tokens(body)
        if request.top_logprobs is not None and "logprobs" not in body:
            body["logprobs"] = True
            if request.top_logprobs:
                body["top_logprobs"] = request.top_logprobs
        if request.top_k is not None and "top_k" not in body and (old is not None or "top_k" in self._quirks):
            body["top_k"] = request.top_k
        if request.reasoning_tokens is not None and request.reasoning_effort is None and old is None:
            body["reasoning_effort"] = _effort(request.reasoning_tokens)

    def _write_max_tokens(self, body: dict[str, Any], request: Request) -> None:
        if request.max_tokens is not None:
            body["max_tokens" if "max_tokens" in self._quirks else "max_completion_tokens"] = request.max_tokens

    def _rename_max_tokens(self, body: dict[str, Any]) -> None:
        if "max_tokens" in self._quirks and "max_completion_tokens" in body:
            body["max_tokens"] = body.pop("max_completion_tokens")

    def _ask_for_usage(self, body: dict[str, Any], source: Source | None) -> None:
        """Ask for usage on every stream, whether the caller did or not: it is what the call costs."""
        if "no_stream_usage" in self._quirks:
            return
        raw = source.fields.get("stream_options") if source is not None else None
        options = _JSON.decode(raw) if raw is not None else None
        body["stream_options"] = {**options, "include_usage": True} if options else _INCLUDE_USAGE

    def _add_defaults(self, body: dict[str, Any]) -> None:
        for key, value in self.endpoint.body.items():
            if key in ("max_tokens", "max_completion_tokens") and (
                "max_tokens" in body or "max_completion_tokens" in body
            ):
                continue
            body.setdefault(key, value)

    # --- embeddings ---------------------------------------------------------------------------------------------------

    def encode_embeddings(self, request: EmbeddingRequest) -> HttpRequest:
        """Return what to send."""
        body: dict[str, Any] = {"model": self.endpoint.model, "input": request.input}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if request.encoding_format != "float":
            body["encoding_format"] = request.encoding_format
        body.update(request.extra)
        body.pop("holdfast", None)
        self._add_defaults(body)
        return HttpRequest("POST", self._embeddings_url, self._headers, _ENCODER.encode(body))

    def decode_embeddings(self, body: bytes) -> EmbeddingReply:
        """Decode vectors. Raises MalformedResponse."""
        try:
            wire = _VECTORS.decode(body)
            tree = _JSON.decode(body)
        except (ValueError, RecursionError, OverflowError) as error:
            raise MalformedResponse(f"The provider's vectors do not follow the openai wire: {error}.") from None
        if wire.error:
            raise failure(tree, api_key=self.endpoint.api_key)
        if not wire.data:
            raise MalformedResponse("The provider's answer has no vectors.")
        indexed = enumerate(wire.data)
        ordered = [
            vector
            for _, vector in sorted(indexed, key=lambda pair: pair[0] if pair[1].index is None else pair[1].index)
        ]
        return EmbeddingReply(
            model=wire.model or "",
            vectors=tuple([_vector(vector.embedding) for vector in ordered]),
            usage=wire.usage.value() if wire.usage is not None else None,
            extra={
                key: value for key, value in tree.items() if key not in ("data", "model", "usage", "object", "error")
            },
        )


def _headers(endpoint: Endpoint) -> Headers:
    """The endpoint's own headers come last and replace ours of the same name."""
    headers = {b"content-type": b"application/json", b"accept": b"application/json, text/event-stream"}
    if endpoint.api_key is not None:
        key = endpoint.api_key.encode()
        name, value = (b"api-key", key) if "azure" in endpoint.quirks else (b"authorization", b"Bearer " + key)
        headers[name] = value
    headers.update(endpoint.headers)
    return tuple(headers.items())


def _effort(tokens: int) -> Literal["low", "medium", "high"]:
    """The word for a budget of reasoning tokens."""
    return "low" if tokens <= 4096 else "medium" if tokens <= 16_384 else "high"


def _vector(vector: list[float] | str) -> tuple[float, ...] | str:
    if isinstance(vector, str):
        try:
            if len(b64decode(vector, validate=True)) % 4 == 0:
                return vector
        except ValueError:
            pass
        raise MalformedResponse("The provider sent a vector that is not base64 of float32.")
    if not all(map(math.isfinite, vector)):
        raise MalformedResponse("The provider sent a vector with numbers that are not finite.")
    return tuple(vector)
