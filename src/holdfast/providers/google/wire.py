"""The shapes of the Gemini wire (ai.google.dev/api), as far as we read them, and how its JSON is read."""

from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from holdfast.providers import decoding

Json = dict[str, Any]

encode_json = msgspec.json.Encoder().encode


def read(data: bytes | Raw, type: Any, path: str = "") -> Any:
    """Decode `data`, which stands at `path`. Raises Malformed, whatever the bytes are."""
    return decoding.read(_decoder(type), data, path)


@cache
def _decoder(type: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type)


class Shape(msgspec.Struct, kw_only=True, rename="camel"):
    """Base of the objects on the wire; a field that is null counts as absent, as in every JSON form of protobuf."""


class Blob(Shape):
    data: str
    mime_type: str | None = None


class FileData(Shape):
    file_uri: str
    mime_type: str | None = None


class FunctionCall(Shape):
    name: str
    args: Raw = Raw()
    id: str | None = None


class FunctionResponsePart(Shape):
    inline_data: Blob | None = None


class FunctionResponse(Shape):
    name: str
    response: Raw = Raw()
    id: str | None = None
    parts: list[FunctionResponsePart] | None = None


class WirePart(Shape):
    """One of the data fields is set; none, if it is one that we don't know."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


class Content(Shape):
    parts: list[WirePart] | None = None
    role: str | None = None


# --- a request --------------------------------------------------------------------------------------------------------

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class FunctionDeclaration(Shape):
    name: str
    description: str | None = None
    parameters: Json | None = None
    parameters_json_schema: Json | None = None


class FunctionCallingConfig(Shape):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(Shape):
    function_calling_config: FunctionCallingConfig | None = None


class ThinkingConfig(Shape):
    include_thoughts: bool | None = None
    thinking_budget: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    thinking_level: str | None = None


class GenerationConfig(Shape):
    candidate_count: Annotated[int, Meta(ge=1, le=8)] | None = None
    stop_sequences: list[str] | None = None
    max_output_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[float, Meta(ge=0, le=2**31 - 1)] | None = None
    """A whole number; Google's own Python SDK writes it as 40.0."""
    seed: Int32 | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_mime_type: str | None = None
    response_schema: Json | None = None
    response_json_schema: Json | None = None
    thinking_config: ThinkingConfig | None = None


class EmbedContent(Shape):
    """One text to embed."""

    content: Content
    output_dimensionality: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


# --- an answer --------------------------------------------------------------------------------------------------------


class TokenLogprob(Shape):
    token: str | None = None
    log_probability: float | str | None = None


class TopCandidates(Shape):
    candidates: list[TokenLogprob] | None = None


class LogprobsResult(Shape):
    chosen_candidates: list[TokenLogprob] | None = None
    top_candidates: list[TopCandidates] | None = None


class Candidate(Shape):
    content: Content | None = None
    index: int | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    logprobs_result: LogprobsResult | None = None
    safety_ratings: Any = None
    citation_metadata: Any = None
    grounding_metadata: Any = None
    url_context_metadata: Any = None


class ModalityTokenCount(Shape):
    modality: str | None = None
    token_count: int | None = None


class UsageMetadata(Shape):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    thoughts_token_count: int | None = None
    prompt_tokens_details: list[ModalityTokenCount] | None = None
    candidates_tokens_details: list[ModalityTokenCount] | None = None


class PromptFeedback(Shape):
    block_reason: str | None = None
    block_reason_message: str | None = None


class Response(Shape):
    """A whole answer, or one event of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


class Embedding(Shape):
    values: list[float]


class EmbeddingResponse(Shape):
    """`embedding` answers embedContent, `embeddings` batchEmbedContents."""

    embedding: Embedding | None = None
    embeddings: list[Embedding] | None = None
    usage_metadata: UsageMetadata | None = None
