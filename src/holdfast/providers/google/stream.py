"""Streamed answers of the Gemini wire, in both directions.

Every event is a response of its own with the next parts; only the `finishReason` of each candidate marks the end.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.chat import Chunk, Finish, Reasoning, Text, ToolCall, ToolCallDelta, Usage
from holdfast.errors import CallError, MalformedResponse
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.decoding import Malformed
from holdfast.providers.google.answers import (
    CallIds,
    blocked,
    decode_logprobs,
    decode_usage,
    encode_finish,
    encode_logprobs,
    encode_usage,
    finish_of,
)
from holdfast.providers.google.content import decode_content, encode_call
from holdfast.providers.google.errors import encode_error, event_error
from holdfast.providers.google.wire import Candidate, Json, Response, encode_json, read

_HELD_BACK: Final = ("finishReason", "finishMessage")
_SAYS_NOTHING: Final = frozenset({"index", "content", "safetyRatings"})


class GenerateDecoder:
    """Decodes one streamed answer."""

    def __init__(self, model: str, key: str | None) -> None:
        self.complete = False
        """Whether every candidate that has begun has also ended."""
        self._model = model
        self._key = key
        self._ids = CallIds()
        self._calls: dict[int, int] = {}
        """How many functions each candidate has called so far."""
        self._finished: set[int] = set()
        self._usage: Usage | None = None

    def feed(self, event: ServerSentEvent) -> Sequence[Chunk]:
        if not event.data.strip():
            return ()
        try:
            response: Response = read(event.data, Response)
            chunks = self._chunks(response, event.data)
        except Malformed as error:
            raise MalformedResponse(f"An event is not of the Gemini wire: {error}") from None
        if len(chunks) == 1:
            chunks[0].raw = event.data
        return chunks

    def _chunks(self, response: Response, data: bytes) -> list[Chunk]:
        if response.error is not None:
            raise event_error(response.error, model=self._model, key=self._key)
        if not response.candidates and (refusal := blocked(response.prompt_feedback)) is not None:
            raise refusal
        self._ids.response = response.response_id or self._ids.response
        chunks = [self._chunk(candidate, i, data) for i, candidate in enumerate(response.candidates or ())]
        chunks = chunks or [Chunk()]
        self.complete = bool(self._finished) and len(self._finished) == len(self._calls)
        for chunk in chunks:
            chunk.id, chunk.model = response.response_id or "", response.model_version or ""
        usage = decode_usage(response.usage_metadata) if response.usage_metadata is not None else None
        if self.complete:
            chunks[-1].usage, self._usage = usage or self._usage, None
        elif usage is not None and usage.output_tokens:  # an early count is all there is where the last event has none
            self._usage = usage
        return chunks

    def _chunk(self, candidate: Candidate, position: int, data: bytes) -> Chunk:
        number = candidate.index if candidate.index is not None else position
        chunk = Chunk(choice=number, logprobs=decode_logprobs(candidate.logprobs_result))
        self._calls.setdefault(number, 0)
        if candidate.content is not None and candidate.content.parts:
            self._add_parts(chunk, candidate, position, data)
        if candidate.finish_reason and number not in self._finished:
            chunk.finish, chunk.refusal_reason = finish_of(candidate, self._calls[number] > 0)
            self._finished.add(number)
        return chunk

    def _add_parts(self, chunk: Chunk, candidate: Candidate, position: int, data: bytes) -> None:
        """Parts that a chunk can't hold, such as code that the provider ran, travel in its `raw` alone."""
        assert candidate.content is not None
        parts = decode_content(
            candidate.content,
            f"candidates[{position}].content",
            lambda: read(data, Json)["candidates"][position]["content"],
            self._ids.call,
            self._ids.result,
        )
        calls: list[ToolCallDelta] = []
        for part in parts:
            if isinstance(part, Text):
                chunk.text += part.text
            elif isinstance(part, Reasoning):
                chunk.reasoning += part.text
                chunk.reasoning_signature = part.signature or chunk.reasoning_signature
            elif isinstance(part, ToolCall):
                calls.append(self._delta(chunk.choice, part))
        chunk.tool_calls = tuple(calls)

    def _delta(self, number: int, call: ToolCall) -> ToolCallDelta:
        index = self._calls[number]
        self._calls[number] += 1
        return ToolCallDelta(
            index=index, id=call.id, name=call.name, arguments=call.arguments, signature=call.signature
        )


class GenerateEncoder:
    """Encodes one streamed answer. Calls are sent whole, as the wire wants them: when their choice has ended."""

    def __init__(self, id: str, model: str) -> None:
        self._id = id
        self._model = model
        self._usage: Usage | None = None
        self._endings: dict[int, tuple[Finish, str | None]] = {}
        self._calls: dict[int, dict[int, ToolCallDelta]] = {}

    def chunk(self, chunk: Chunk, wire: str) -> bytes:
        self._id, self._model = chunk.id or self._id, chunk.model or self._model
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.finish is not None:
            self._endings[chunk.choice] = (chunk.finish, chunk.refusal_reason)
        if wire == "google" and chunk.raw is not None:
            return _relay(chunk, chunk.raw)
        for delta in chunk.tool_calls:
            self._collect(chunk.choice, delta)
        parts = _parts(chunk) + (self._take_calls(chunk.choice) if chunk.finish is not None else [])
        if not parts and chunk.logprobs is None:
            return b""
        candidate = _candidate(chunk.choice, parts)
        if chunk.logprobs is not None:
            candidate["logprobsResult"] = encode_logprobs(chunk.logprobs)
        return self._event({"candidates": [candidate]})

    def end(self, summary: Mapping[str, Any]) -> bytes:
        endings: dict[int, tuple[Finish, str | None]] = self._endings or {0: ("stop", None)}
        candidates = [
            _candidate(number, self._take_calls(number) or [{"text": ""}])
            | {"finishReason": encode_finish(finish, reason)}
            for number, (finish, reason) in sorted(endings.items())
        ]
        usage = {"usageMetadata": encode_usage(self._usage)} if self._usage is not None else {}
        return self._event({"candidates": candidates} | usage, summary)

    def object(self, value: Any, complete: Sequence[str]) -> bytes:
        known = {"event": "object", "object": value, "complete": list(complete)}
        return b"event: holdfast.object\r\n" + self._event({}, known)

    def reset(self) -> bytes:
        self._usage = None
        self._endings.clear()
        self._calls.clear()
        return b"event: holdfast.reset\r\n" + self._event({}, {"event": "reset"})

    def error(self, error: CallError, call: str, summary: Mapping[str, Any]) -> bytes:
        payload: Json = {"error": encode_error(error, call)}
        return _event(payload | ({"holdfast": summary} if summary else {}))

    def _event(self, payload: Json, summary: Mapping[str, Any] | None = None) -> bytes:
        payload = payload | {"modelVersion": self._model, "responseId": self._id}
        return _event(payload | ({"holdfast": summary} if summary else {}))

    def _collect(self, choice: int, delta: ToolCallDelta) -> None:
        call = self._calls.setdefault(choice, {}).setdefault(delta.index, ToolCallDelta(index=delta.index))
        call.id, call.name = delta.id or call.id, delta.name or call.name
        call.arguments += delta.arguments
        call.signature = delta.signature or call.signature

    def _take_calls(self, choice: int) -> list[Json]:
        return [
            encode_call(
                ToolCall(id=call.id or "", name=call.name or "", arguments=call.arguments, signature=call.signature)
            )
            for _, call in sorted(self._calls.pop(choice, {}).items())
        ]


def _event(payload: Json) -> bytes:
    return b"data: " + encode_json(payload) + b"\r\n\r\n"


def _candidate(number: int, parts: list[Json]) -> Json:
    return {"content": {"parts": parts, "role": "model"}, "index": number}


def _parts(chunk: Chunk) -> list[Json]:
    parts: list[Json] = []
    if chunk.reasoning or chunk.reasoning_signature:
        parts.append({"text": chunk.reasoning, "thought": True})
    if chunk.reasoning_signature:
        parts[-1]["thoughtSignature"] = chunk.reasoning_signature
    if text := chunk.text + chunk.refusal:
        parts.append({"text": text})
    return parts


def _relay(chunk: Chunk, raw: bytes) -> bytes:
    """Return an event as it came; of one that ends a choice, only what it says besides."""
    if chunk.finish is None and chunk.usage is None:
        return b"data: " + raw.replace(b"\r", b"").replace(b"\n", b" ") + b"\r\n\r\n"
    payload: Json = read(raw, Json)
    payload.pop("usageMetadata", None)
    says = False
    for candidate in payload.get("candidates") or ():
        for field in _HELD_BACK:
            candidate.pop(field, None)
        parts = (candidate.get("content") or {}).get("parts") or ()
        says = says or any(part != {"text": ""} for part in parts) or bool(candidate.keys() - _SAYS_NOTHING)
    return _event(payload) if says else b""
