"""The Gemini wire towards callers.

The model and whether to stream are in the path: `/v1beta/models/NAME:streamGenerateContent`.
"""

import re
from collections.abc import Sequence
from typing import Literal
from urllib.parse import unquote

from holdfast.chat import Choice, EmbeddingReply, EmbeddingRequest, Reply, Request, Unknown
from holdfast.errors import CallError, InvalidRequest
from holdfast.providers.base import Source, StreamEncoder, Surface
from holdfast.providers.decoding import Malformed
from holdfast.providers.google.answers import encode_finish, encode_logprobs, encode_usage
from holdfast.providers.google.content import encode_parts
from holdfast.providers.google.errors import encode_error
from holdfast.providers.google.requests import Reader, decode_embeddings, read_fields
from holdfast.providers.google.stream import GenerateEncoder
from holdfast.providers.google.wire import Json, encode_json
from holdfast.providers.vectors import floats

_PATH = re.compile(r"/?v1[a-z0-9]*/(?:models/)?(.+):([A-Za-z]+)")


class GoogleSurface(Surface):
    """Speaks the Gemini wire to callers."""

    wire = "google"

    def decode(self, body: bytes, path: str) -> tuple[Request, Source]:
        model, verb = _address(path, ("generateContent", "streamGenerateContent"))
        try:
            return Reader(read_fields(body)).request(model, stream=verb == "streamGenerateContent")
        except Malformed as error:
            raise _invalid(error) from None

    def encode(self, reply: Reply) -> bytes:
        left_over = reply.extra.get("candidates")
        beyond = [*(left_over if isinstance(left_over, list) else ()), *[{}] * len(reply.choices)]
        wire: Json = {"candidates": [_encode_choice(choice, i) | beyond[i] for i, choice in enumerate(reply.choices)]}
        if reply.usage is not None:
            wire["usageMetadata"] = encode_usage(reply.usage)
        wire |= {"modelVersion": reply.model, "responseId": reply.id}
        return encode_json({name: value for name, value in reply.extra.items() if name not in wire} | wire)

    def stream(self, request: Request, *, id: str, model: str, created: int) -> StreamEncoder:
        return GenerateEncoder(id, model)

    def error(self, error: CallError, call: str) -> bytes:
        return encode_json({"error": encode_error(error, call)})

    def decode_embeddings(self, body: bytes, path: str) -> EmbeddingRequest:
        model, verb = _address(path, ("embedContent", "batchEmbedContents"))
        try:
            return decode_embeddings(model, read_fields(body), batch=verb == "batchEmbedContents")
        except Malformed as error:
            raise _invalid(error) from None

    def encode_embeddings(self, reply: EmbeddingReply, encoding_format: Literal["float", "base64"]) -> bytes:
        """Encode vectors, as floats whatever was asked: the wire has no other form.

        A single vector is given under both names, so that it answers embedContent and batchEmbedContents alike.
        """
        embeddings = [{"values": floats(vector)} for vector in reply.vectors]
        wire: Json = dict(reply.extra) | {"embeddings": embeddings}
        if len(embeddings) == 1:
            wire["embedding"] = embeddings[0]
        if reply.usage is not None:
            tokens = reply.usage.input_tokens
            wire["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
        return encode_json(wire)


def _address(path: str, verbs: Sequence[str]) -> tuple[str, str]:
    match = _PATH.fullmatch(path.partition("?")[0])
    if match is None or match[2] not in verbs:
        expected = " or ".join(f"/v1beta/models/NAME:{verb}" for verb in verbs)
        raise InvalidRequest(f"Expected the path {expected}, got {path!r}.")
    return unquote(match[1]), match[2]


def _invalid(error: Malformed) -> InvalidRequest:
    message = f"Invalid value at '{error.path}': {error.message}." if error.path else f"{error.message}."
    return InvalidRequest(message, param=error.path or None)


# --- to the wire ------------------------------------------------------------------------------------------------------


def _encode_choice(choice: Choice, number: int) -> Json:
    wire: Json = {"index": number, "finishReason": encode_finish(choice.finish, choice.refusal_reason)}
    sayable = [part for part in choice.parts if not isinstance(part, Unknown) or part.wire == "google"]
    if parts := encode_parts(sayable, {}):
        wire["content"] = {"parts": parts, "role": "model"}
    if choice.logprobs is not None:
        wire["logprobsResult"] = encode_logprobs(choice.logprobs)
    return wire
