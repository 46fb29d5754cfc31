"""Streamed answers as callers of this wire read them: `Chunk` -> server-sent events."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from holdfast.chat import Chunk, Finish, Request, Usage
from holdfast.errors import CallError, LimitExceeded
from holdfast.providers.openai.wire import FINISH_WORDS, finish, signed
from holdfast.providers.openai.writing import Json

_ENCODER = msgspec.json.Encoder()
_JSON = msgspec.json.Decoder()
_CR, _LF = b"\r\n"
_DONE = b"data: [DONE]\n\n"
_TYPES = {403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    "context_too_long": "context_length_exceeded",
    "content_refused": "content_filter",
    "rate_limited": "rate_limit_exceeded",
    "unauthenticated": "invalid_api_key",
}
"""What this wire has a word for, and applications look for."""


def write_error(error: CallError, call: str) -> Json:
    """Write an error envelope."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 499 else "invalid_request_error")
    if isinstance(error, LimitExceeded) and error.lasts:
        kind = "insufficient_quota"  # at which applications do not try again
    code = _CODES.get(error.code, error.code)
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code, "call": call}}


def write_usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
    }


def write_logprobs(tokens: Any) -> Json:
    return {"content": [_logprob(token) for token in tokens], "refusal": None}


def _logprob(token: Any) -> Json:
    written = {"token": token.token, "logprob": token.logprob, "bytes": token.bytes}
    return written | {
        "top_logprobs": [{k: v for k, v in _logprob(top).items() if k != "top_logprobs"} for top in token.top]
    }


class OpenAIStreamEncoder:
    """Encodes one streamed answer. What came over this wire passes unchanged, but for its ends and usage."""

    def __init__(self, request: Request, *, id: str, model: str, created: int) -> None:
        self._base: Json = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._usage_asked = request.stream_usage
        self._opened: set[int] = set()
        self._ends: dict[int, Json] = {}
        self._usage: Any = None

    def chunk(self, chunk: Chunk, wire: str) -> bytes:
        """Return the bytes to send now. See `StreamEncoder.chunk`."""
        raw = chunk.raw if wire == "openai" else None
        if raw is not None and chunk.finish is None and chunk.usage is None:
            self._opened.add(chunk.choice)
            return _event(raw)
        self._name(chunk)
        tree = _tree(raw) if raw is not None else None
        if chunk.usage is not None:
            self._usage = (tree and tree.get("usage")) or write_usage(chunk.usage)
        if chunk.finish is not None:
            self._ends[chunk.choice] = self._end(chunk, chunk.finish, tree)
        if not chunk.speaks and chunk.logprobs is None and chunk.reasoning_signature is None:
            return b""
        return _event(_ENCODER.encode(self._now(chunk, tree)))

    def end(self, summary: Mapping[str, Any]) -> bytes:
        """Return the ends of the choices, usage if it was asked for, and [DONE]."""
        payloads = [self._ends[number] for number in sorted(self._ends)]
        if self._usage is not None and self._usage_asked:
            payloads.append(self._base | {"choices": [], "usage": self._usage})
        if summary:
            if not payloads:
                payloads.append(self._base | {"choices": []})
            payloads[-1]["holdfast"] = dict(summary)
        return b"".join([_event(_ENCODER.encode(payload)) for payload in payloads]) + _DONE

    def object(self, value: Any, complete: Sequence[str]) -> bytes:
        """Return a `holdfast.object` event. See `StreamEncoder.object`."""
        known = {"event": "object", "object": value, "complete": list(complete)}
        return b"event: holdfast.object\n" + _event(_ENCODER.encode(self._base | {"choices": [], "holdfast": known}))

    def reset(self) -> bytes:
        """Return a `holdfast.reset` event. See `StreamEncoder.reset`."""
        payload = self._base | {"choices": [], "holdfast": {"event": "reset"}}
        self._opened.clear()
        self._ends.clear()
        self._usage = None
        return b"event: holdfast.reset\n" + _event(_ENCODER.encode(payload))

    def error(self, error: CallError, call: str, summary: Mapping[str, Any]) -> bytes:
        """Return an error event, on which the SDKs raise APIError. No [DONE] follows."""
        envelope = write_error(error, call)
        if summary:
            envelope["error"]["holdfast"] = dict(summary)
        return _event(_ENCODER.encode(envelope))

    def _name(self, chunk: Chunk) -> None:
        if chunk.id:
            self._base["id"] = chunk.id
        if chunk.model:
            self._base["model"] = chunk.model
        if chunk.fingerprint is not None:
            self._base["system_fingerprint"] = chunk.fingerprint

    def _now(self, chunk: Chunk, tree: Json | None) -> Json:
        """Return the part of a chunk that is not held back."""
        if tree is not None and len(tree.get("choices") or ()) == 1:
            self._opened.add(chunk.choice)
            choice = tree["choices"][0] | {"finish_reason": None}
            return {key: value for key, value in tree.items() if key != "usage"} | {"choices": [choice]}
        choice = {"index": chunk.choice, "delta": self._delta(chunk), "finish_reason": None}
        if chunk.logprobs is not None:
            choice["logprobs"] = write_logprobs(chunk.logprobs)
        return self._base | {"choices": [choice]}

    def _delta(self, chunk: Chunk) -> Json:
        delta: Json = {}
        if chunk.choice not in self._opened:
            self._opened.add(chunk.choice)
            delta["role"] = "assistant"
            delta["content"] = chunk.text
        elif chunk.text:
            delta["content"] = chunk.text
        if chunk.refusal:
            delta["refusal"] = chunk.refusal
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if details := _details(chunk):
            delta["reasoning_details"] = details
        if chunk.tool_calls:
            delta["tool_calls"] = [_tool_call(call) for call in chunk.tool_calls]
        return delta

    def _end(self, chunk: Chunk, end: Finish, tree: Json | None) -> Json:
        """Return the event that ends a choice, keeping what the upstream's own says beyond ours."""
        if tree is not None and len(tree.get("choices") or ()) == 1:
            choice = dict(tree["choices"][0])
            payload = {key: value for key, value in tree.items() if key not in ("usage", "holdfast")}
            if not choice.get("finish_reason") or finish(choice["finish_reason"]) != end:
                choice["finish_reason"] = FINISH_WORDS[end]
            for key in ("logprobs", "usage"):
                choice.pop(key, None)
        else:
            payload, choice = dict(self._base), {"index": chunk.choice, "finish_reason": FINISH_WORDS[end]}
            if chunk.stop_sequence is not None:
                choice["stop_reason"] = chunk.stop_sequence
        return payload | {"choices": [choice | {"delta": {}}]}


def _tree(raw: bytes) -> Json | None:
    """Decode an event of the upstream, None if it holds what JSON should not (outside of what the decoder looks at)."""
    try:
        tree = _JSON.decode(raw)
    except (ValueError, RecursionError, OverflowError):
        return None
    return tree if isinstance(tree, dict) else None


def _event(payload: bytes) -> bytes:
    if _LF in payload or _CR in payload:  # between the tokens of JSON a line break is a space
        payload = payload.replace(b"\n", b" ").replace(b"\r", b" ")
    return b"data: %b\n\n" % payload


def _details(chunk: Chunk) -> list[Json]:
    details: list[Json] = []
    if chunk.reasoning_signature is not None:
        details.append({"type": "reasoning.text", "text": "", "signature": chunk.reasoning_signature})
    if chunk.reasoning_redacted is not None:
        details.append({"type": "reasoning.encrypted", "data": chunk.reasoning_redacted})
    return details


def _tool_call(call: Any) -> Json:
    written: Json = {"index": call.index}
    if call.id is not None:
        written["id"] = call.id
        written["type"] = "function"
    written["function"] = {"arguments": call.arguments} | ({"name": call.name} if call.name is not None else {})
    if call.signature is not None:
        written["extra_content"] = signed(call.signature)
    return written
