"""The JSON of the wire, as structs. Fields that only we would ignore are left out; types are as strict as the API."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from holdfast.chat import Finish, Logprob, Reasoning, Usage

Raw = msgspec.Raw

FINISH_WORDS: dict[Finish, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "refused": "content_filter",
}
_FINISHES: dict[str | None, Finish] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refused",
}


def finish(word: str | None) -> Finish:
    """Translate a finish_reason. What nobody documented is a stop."""
    return _FINISHES.get(word, "stop")


def data_url(media_type: str | None, data: str) -> str:
    return f"data:{media_type or ''};base64,{data}"


def split_data_url(url: str) -> tuple[str | None, str] | None:
    """Return the media type and base64 data of a data URL, None for any other URL."""
    if not url.startswith("data:"):
        return None
    head, base64, data = url[5:].partition(";base64,")
    return (head or None, data) if base64 else None


class _Json(msgspec.Struct, gc=False):
    """An object of the wire. It holds no cycles, so the garbage collector need not look at it."""


# --- requests ---------------------------------------------------------------------------------------------------------


class WireImage(_Json):
    url: str
    detail: str | None = None


class WireAudio(_Json):
    data: str
    format: str


class WireFile(_Json):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class WirePart(_Json):
    """One element of a content list; which field is set depends on `type`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: WireImage | str | None = None
    input_audio: WireAudio | None = None
    file: WireFile | None = None


class WireFunctionCall(_Json):
    name: str
    arguments: str


class WireToolCall(_Json):
    id: str
    type: str = "function"
    function: WireFunctionCall | None = None
    extra_content: Any = None


class WireMessage(_Json):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[WirePart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[WireToolCall] | None = None
    tool_call_id: str | None = None
    function_call: WireFunctionCall | None = None
    audio: dict[str, Any] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: Any = None


class WireFunction(_Json):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class WireTool(_Json):
    type: str
    function: WireFunction | None = None


class WireStreamOptions(_Json):
    include_usage: bool | None = None


class WireJsonSchema(_Json):
    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class WireResponseFormat(_Json):
    type: str
    json_schema: WireJsonSchema | None = None


_Tokens = Annotated[int, Meta(ge=1, le=2**53)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]


class WireRequest(_Json):
    """The fields of a chat request that `chat.Request` has too."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[WireMessage], Meta(min_length=1)]
    tools: list[WireTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: WireResponseFormat | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: str | None = None
    stream: bool | None = None
    stream_options: WireStreamOptions | None = None


class WireEmbeddingRequest(_Json):
    model: Annotated[str, Meta(min_length=1)]
    input: str | list[Any]
    dimensions: Annotated[int, Meta(ge=1, le=2**14)] | None = None
    encoding_format: Literal["float", "base64"] | None = None


# --- answers ----------------------------------------------------------------------------------------------------------


class WirePromptDetails(_Json):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class WireCompletionDetails(_Json):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


_NO_PROMPT_DETAILS = WirePromptDetails()
_NO_COMPLETION_DETAILS = WireCompletionDetails()


class WireUsage(_Json):
    """`prompt_cache_hit_tokens` is DeepSeek's, `cached_tokens` on this level Moonshot's."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: WirePromptDetails | None = None
    completion_tokens_details: WireCompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None

    def value(self) -> Usage:
        prompt = self.prompt_tokens_details or _NO_PROMPT_DETAILS
        completion = self.completion_tokens_details or _NO_COMPLETION_DETAILS
        prompt_tokens, output, reasoning = (
            self.prompt_tokens or 0,
            self.completion_tokens or 0,
            completion.reasoning_tokens or 0,
        )
        if reasoning and self.total_tokens == prompt_tokens + output + reasoning:
            output += reasoning  # xAI counts them beside the completion
        return Usage(
            input_tokens=prompt_tokens,
            output_tokens=output,
            cache_read_tokens=prompt.cached_tokens or self.prompt_cache_hit_tokens or self.cached_tokens or 0,
            cache_write_tokens=prompt.cache_write_tokens or 0,
            reasoning_tokens=reasoning,
            input_audio_tokens=prompt.audio_tokens or 0,
            output_audio_tokens=completion.audio_tokens or 0,
        )


class WireLogprob(_Json):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: "list[WireLogprob] | None" = None

    def value(self) -> Logprob:
        return Logprob(
            token=self.token,
            logprob=self.logprob,
            bytes=None if self.bytes is None else tuple(self.bytes),
            top=tuple([top.value() for top in self.top_logprobs or ()]),
        )


class WireLogprobs(_Json):
    content: list[WireLogprob] | None = None
    refusal: list[WireLogprob] | None = None

    def value(self) -> tuple[Logprob, ...] | None:
        tokens = [*(self.content or ()), *(self.refusal or ())]
        return tuple([token.value() for token in tokens]) or None


class WireAnswerFunction(_Json):
    """Some servers send the arguments as an object."""

    name: str | None = None
    arguments: Any = None

    @property
    def text(self) -> str:
        if isinstance(self.arguments, str):
            return self.arguments
        return "" if self.arguments is None else msgspec.json.encode(self.arguments).decode()


class WireAnswerCall(_Json):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: WireAnswerFunction | None = None
    extra_content: Any = None


class WireAnswer(_Json):
    """The delta of a message, or what a whole one has too."""

    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: Any = None
    tool_calls: list[WireAnswerCall] | None = None
    function_call: WireAnswerFunction | None = None


class WireWholeAnswer(WireAnswer):
    """A whole message. What only this wire has is kept as it came."""

    annotations: Any = None
    audio: Any = None


class WireChoice(_Json):
    """`stop_reason` is vLLM's, `content_filter_results` Azure's, `error` OpenRouter's, `usage` Moonshot's."""

    index: int = 0
    message: WireWholeAnswer | None = None
    delta: WireAnswer | None = None
    finish_reason: str | None = None
    logprobs: WireLogprobs | None = None
    stop_reason: Any = None
    content_filter_results: Any = None
    usage: WireUsage | None = None
    error: Any = None


class WireGroq(_Json):
    usage: WireUsage | None = None
    error: Any = None


class WireReply(_Json):
    """A whole answer, or one event of a stream."""

    id: str | None = None
    model: str | None = None
    created: float | None = None
    system_fingerprint: str | None = None
    choices: list[WireChoice] | None = None
    usage: WireUsage | None = None
    error: Any = None
    x_groq: WireGroq | None = None


class WirePlainReply(WireReply, forbid_unknown_fields=True):
    """A whole answer that says nothing beyond the API's own fields."""

    object: Any = None
    service_tier: Any = UNSET


class WireVector(_Json):
    embedding: list[float] | str
    index: int | None = None


class WireVectors(_Json):
    data: list[WireVector] | UnsetType = UNSET
    model: str | None = None
    usage: WireUsage | None = None
    error: Any = None


# --- parts of both ----------------------------------------------------------------------------------------------------


def reasoning_parts(content: str | None, reasoning: Any, details: Any) -> list[Reasoning]:
    """Read reasoning text: `reasoning_content` or `reasoning`, and OpenRouter's `reasoning_details`."""
    text = content or (reasoning if isinstance(reasoning, str) else "")
    if not details:
        return [Reasoning(text=text)] if text else []
    known = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    signature = "".join([_text(detail, "signature") for detail in known]) or None
    text = text or "".join([_text(detail, "text") or _text(detail, "summary") for detail in known])
    parts = [Reasoning(text=text, signature=signature)] if text or signature else []
    return parts + [Reasoning(redacted=data) for detail in known if (data := _text(detail, "data"))]


def reasoning_fields(parts: Sequence[Reasoning]) -> dict[str, Any]:
    """Write reasoning text, its signatures and what is sealed, by the names that `reasoning_parts` reads."""
    fields: dict[str, Any] = {}
    if text := "".join([part.text for part in parts]):
        fields["reasoning_content"] = text
    details: list[dict[str, Any]] = []
    for part in parts:
        if part.signature is not None:
            details.append({"type": "reasoning.text", "text": part.text, "signature": part.signature})
        if part.redacted is not None:
            details.append({"type": "reasoning.encrypted", "data": part.redacted})
    if details:
        fields["reasoning_details"] = details
    return fields


def signature_of(extra_content: Any) -> str | None:
    """Read the signature that Gemini, behind this wire, puts on a tool call."""
    google = extra_content.get("google") if isinstance(extra_content, dict) else None
    return _text(google, "thought_signature") or None if isinstance(google, dict) else None


def signed(signature: str) -> dict[str, Any]:
    return {"google": {"thought_signature": signature}}


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    return text if isinstance(text, str) else ""
