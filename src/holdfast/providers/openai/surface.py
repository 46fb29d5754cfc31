"""The OpenAI wire towards callers, exact as the `openai` SDKs read it."""

from typing import Any, Literal

import msgspec

from holdfast.chat import Choice, EmbeddingReply, EmbeddingRequest, Reply, Request, ToolCall
from holdfast.errors import CallError
from holdfast.providers.base import Source, Surface
from holdfast.providers.openai.parsing import parse_embeddings, parse_request
from holdfast.providers.openai.streaming import OpenAIStreamEncoder, write_error, write_logprobs, write_usage
from holdfast.providers.openai.wire import FINISH_WORDS
from holdfast.providers.openai.writing import Json, write_answer
from holdfast.providers.vectors import base64, floats

_ENCODER = msgspec.json.Encoder()


class OpenAISurface(Surface):
    """Speaks the OpenAI wire to callers."""

    wire = "openai"

    def decode(self, body: bytes, path: str) -> tuple[Request, Source]:
        """Decode a chat request. See `Surface.decode`."""
        return parse_request(body)

    def encode(self, reply: Reply) -> bytes:
        """Encode a whole answer."""
        payload: Json = {
            "id": reply.id,
            "object": "chat.completion",
            "created": reply.created,
            "model": reply.model,
            "choices": [_choice(choice, i) for i, choice in enumerate(reply.choices)],
        }
        if reply.usage is not None:
            payload["usage"] = write_usage(reply.usage)
        if reply.fingerprint is not None:
            payload["system_fingerprint"] = reply.fingerprint
        return _ENCODER.encode(_with(payload, reply.extra))

    def stream(self, request: Request, *, id: str, model: str, created: int) -> OpenAIStreamEncoder:
        """Return an encoder for one streamed answer."""
        return OpenAIStreamEncoder(request, id=id, model=model, created=created)

    def error(self, error: CallError, call: str) -> bytes:
        """Encode an error envelope that names the call.

        `type` is OpenAI's word for the status; `code` is OpenAI's own where it has one that applications look for
        (context_length_exceeded, content_filter, rate_limit_exceeded), else the code of the error.
        """
        return _ENCODER.encode(write_error(error, call))

    def decode_embeddings(self, body: bytes, path: str) -> EmbeddingRequest:
        """Decode a request for embeddings. Raises InvalidRequest."""
        return parse_embeddings(body)

    def encode_embeddings(self, reply: EmbeddingReply, encoding_format: Literal["float", "base64"]) -> bytes:
        """Encode vectors, converting between floats and base64 as asked."""
        convert = floats if encoding_format == "float" else base64
        payload: Json = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": i, "embedding": convert(vector)}
                for i, vector in enumerate(reply.vectors)
            ],
            "model": reply.model,
        }
        tokens = reply.usage.input_tokens if reply.usage is not None else 0
        payload["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        return _ENCODER.encode(_with(payload, reply.extra))


def _choice(choice: Choice, index: int) -> Json:
    end = FINISH_WORDS[choice.finish]
    if choice.finish == "tool_calls" and any(isinstance(part, ToolCall) and not part.id for part in choice.parts):
        end = "function_call"
    written: Json = {
        "index": index,
        "message": write_answer(choice.parts),
        "logprobs": write_logprobs(choice.logprobs) if choice.logprobs is not None else None,
        "finish_reason": end,
    }
    if choice.stop_sequence is not None:
        written["stop_reason"] = choice.stop_sequence
    return written


def _with(payload: Json, extra: dict[str, Any]) -> Json:
    """Add the fields that only some wire knows; they never replace ours."""
    return {**extra, **payload} if extra else payload
