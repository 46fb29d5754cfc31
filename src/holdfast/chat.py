"""Provider-neutral values: what a model is asked and what it answers.

They carry what the wire formats have in common. What a wire says beyond that travels in `extra`, by its own name.
Every value is immutable and serializes to JSON with `msgspec.json.encode`.
"""

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool_calls", "refused", "cut"]
"""Why an answer ended: the model was done (or met a stop sequence), `max_tokens`, it calls tools, it was refused.
"cut" is no end: the answer broke off. Only the log knows such an answer."""
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of the immutable values. They hold no cycles, so the garbage collector need not look at them."""


# --- parts of a message -----------------------------------------------------------------------------------------------


class Text(Value, tag="text", frozen=True, kw_only=True):
    text: str


class Image(Value, tag="image", frozen=True, kw_only=True):
    """An image by `url`, or inline as base64 `data` with its `media_type` ("image/png")."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None


class Audio(Value, tag="audio", frozen=True, kw_only=True):
    """Inline audio: base64 `data` in a `format` such as "wav" or "mp3"."""

    data: str
    format: str


class File(Value, tag="file", frozen=True, kw_only=True):
    """A document: inline base64 `data` with its `media_type`, a `url`, or an `id` under which the provider holds it."""

    name: str | None = None
    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    id: str | None = None


class Reasoning(Value, tag="reasoning", frozen=True, kw_only=True):
    """The model's thinking. `signature` lets its provider recognise it; `redacted` holds it sealed."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


class Refusal(Value, tag="refusal", frozen=True, kw_only=True):
    """The model's own words for declining."""

    text: str


class ToolCall(Value, tag="tool_call", frozen=True, kw_only=True):
    """`arguments` is JSON text as the model wrote it, which need not be valid."""

    id: str
    name: str
    arguments: str
    signature: str | None = None


class ToolResult(Value, tag="tool_result", frozen=True, kw_only=True):
    call_id: str
    content: tuple[Text | Image | File, ...] = ()
    name: str | None = None
    is_error: bool = False


class Unknown(Value, tag="unknown", frozen=True, kw_only=True):
    """A part that only one wire format knows, kept as it came."""

    wire: str
    value: dict[str, Any]


Part = Text | Image | Audio | File | Reasoning | Refusal | ToolCall | ToolResult | Unknown


# --- a request --------------------------------------------------------------------------------------------------------


class Message(Value, frozen=True, kw_only=True):
    role: Role
    parts: tuple[Part, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join([part.text for part in self.parts if isinstance(part, Text)])


class Tool(Value, frozen=True, kw_only=True):
    """A function that the model may call; `parameters` is a JSON Schema. `extra` as in `Request`."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    extra: dict[str, Any] = {}


class ToolChoice(Value, frozen=True, kw_only=True):
    """`mode` "named" forces the tool `name`."""

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None


class ResponseFormat(Value, frozen=True, kw_only=True):
    """`type` "json" asks for any JSON object, "schema" for one that fits the JSON Schema `schema`.

    The rest only some servers know: a text that matches the regular expression `pattern` from its start to its end, one
    of `choices`, or a text of the Lark grammar `grammar`.
    """

    type: Literal["text", "json", "schema", "pattern", "choice", "grammar"]
    schema: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    grammar: str | None = None


class Request(Value, frozen=True, kw_only=True):
    """What a model is asked. `model` is what the caller named until the gateway puts the provider's name there.

    `top_logprobs` is the number of alternatives a token, 0 for the chosen token's alone, None for no log-probabilities.
    `reasoning_tokens` is a budget; `reasoning_effort` a word for one. `extra` holds the fields that only the caller's
    wire knows, as decoded JSON.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None
    reasoning_effort: Effort | None = None
    reasoning_tokens: int | None = None
    stream: bool = False
    stream_usage: bool = False
    """Whether the caller asked for usage on the stream."""
    extra: dict[str, Any] = {}


class EmbeddingRequest(Value, frozen=True, kw_only=True):
    """Texts to embed, or token ids. `encoding_format` is "float" or "base64"."""

    model: str
    input: tuple[str, ...] | tuple[tuple[int, ...], ...]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"
    extra: dict[str, Any] = {}


# --- an answer --------------------------------------------------------------------------------------------------------


class Usage(Value, frozen=True, kw_only=True):
    """Tokens as the provider counted them. `input_tokens` includes the cached, `output_tokens` the reasoning ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0


class Logprob(Value, frozen=True, kw_only=True):
    """A token with its natural-log probability; `top` are the alternatives at its place, without `top` themselves."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple["Logprob", ...] = ()


class Choice(Value, frozen=True, kw_only=True):
    """One answer. `stop_sequence` is the one that ended it, `refusal_reason` the provider's, if any."""

    parts: tuple[Part, ...] = ()
    finish: Finish = "stop"
    logprobs: tuple[Logprob, ...] | None = None
    stop_sequence: str | None = None
    refusal_reason: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join([part.text for part in self.parts if isinstance(part, Text)])


class Reply(Value, frozen=True, kw_only=True):
    """A complete answer. `model` is the name that the provider served; `usage` None when it never said."""

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    fingerprint: str | None = None
    created: int = 0
    extra: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choices[0].text if self.choices else ""


class EmbeddingReply(Value, frozen=True, kw_only=True):
    """Vectors in the order of the input: floats, or base64 of little-endian float32 where that was asked for."""

    model: str
    vectors: tuple[tuple[float, ...] | str, ...]
    usage: Usage | None = None
    extra: dict[str, Any] = {}


class ToolCallDelta(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """A piece of the tool call number `index`: `id` and `name` come once, `arguments` in pieces."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    signature: str | None = None


class Chunk(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """A piece of the answer number `choice`, as one event of a stream brings it.

    A chunk with `finish` ends its choice; `usage` may come with it or after it. `raw` is the event's payload as the
    upstream wire wrote it, for a caller who speaks the same wire.
    """

    choice: int = 0
    text: str = ""
    reasoning: str = ""
    reasoning_signature: str | None = None
    reasoning_redacted: str | None = None
    refusal: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[Logprob, ...] | None = None
    finish: Finish | None = None
    stop_sequence: str | None = None
    refusal_reason: str | None = None
    usage: Usage | None = None
    id: str = ""
    model: str = ""
    fingerprint: str | None = None
    raw: bytes | None = None
    reset: bool = False
    """Whether the answer begins anew: what came before it is void. Only where the caller asked for that."""

    @property
    def speaks(self) -> bool:
        """Whether it carries any part of the answer itself, so that sending it commits the call to this model."""
        return bool(self.text or self.tool_calls or self.reasoning or self.refusal or self.reasoning_redacted)
