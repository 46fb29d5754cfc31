"""Hypothesis strategies for the values of `chat.py`.

Every part of a value can be switched off where a wire can't say it: `requests(audio=False, n=False)`. What is drawn is
in canonical form: a part is never empty, an assistant's message has its reasoning, text, refusal and tool calls in that
order, and ids of tool calls are unique within a conversation.
"""

from base64 import b64encode
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal, NamedTuple

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from holdfast.chat import (
    Audio,
    Choice,
    Chunk,
    EmbeddingReply,
    EmbeddingRequest,
    File,
    Image,
    Logprob,
    Message,
    Part,
    Reasoning,
    Refusal,
    Reply,
    Request,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    Usage,
)

settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

Order = Literal["any", "alternating"]

_characters = st.characters(exclude_categories=("Cs",))
_names = names = st.text("abcxyzABC_-019", min_size=1, max_size=12).map("t{}".format)
texts = st.text(_characters, min_size=1, max_size=40)
base64s = st.binary(max_size=30).map(lambda data: b64encode(data).decode())
_urls = urls = st.text("abcxyz/019", max_size=12).map("https://host.example/{}".format)


def json_values(max_leaves: int = 6) -> SearchStrategy[Any]:
    """Anything that JSON can say, integers within 53 bits."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(_characters, max_size=10)
    )
    keys = st.text(_characters, max_size=8)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=max_leaves,
    )


json_objects = st.dictionaries(names, json_values(), max_size=3)
extras = st.dictionaries(names.map("x_{}".format), json_values(), max_size=2)
"""Fields that no wire knows."""


# --- parts ------------------------------------------------------------------------------------------------------------


@st.composite
def images(draw: st.DrawFn, *, urls: bool = True, detail: bool = True) -> Image:
    """An image by URL (unless switched off) or inline."""
    detail_ = draw(st.sampled_from([None, "low", "high", "auto"])) if detail else None
    if urls and draw(st.booleans()):
        return Image(url=draw(_urls), detail=detail_)
    return Image(data=draw(base64s), media_type=draw(st.sampled_from(["image/png", "image/jpeg"])), detail=detail_)


def audios() -> SearchStrategy[Audio]:
    return st.builds(Audio, data=base64s, format=st.sampled_from(["wav", "mp3"]))


@st.composite
def files(draw: st.DrawFn, *, urls: bool = True, ids: bool = True, names: bool = True) -> File:
    """A document inline, by URL or by id."""
    kind = draw(st.sampled_from(["data"] + ["url"] * urls + ["id"] * ids))
    if kind == "url":
        return File(url=draw(_urls))
    if kind == "id":
        return File(id=draw(_names.map("file-{}".format)))
    name = draw(st.none() | _names.map("{}.pdf".format)) if names else None
    return File(name=name, data=draw(base64s), media_type="application/pdf")


def arguments(*, valid: bool = True) -> SearchStrategy[str]:
    """Arguments of a tool call: a JSON object in compact form, or (unless `valid`) whatever a model may write."""
    objects = json_objects.map(lambda value: msgspec.json.encode(value).decode())
    return objects if valid else objects | texts


def usages(*, cache: bool = True, cache_write: bool = True, reasoning: bool = True, audio: bool = True) -> Any:
    """Counts that agree with each other: no part is larger than its whole."""

    @st.composite
    def usage(draw: st.DrawFn) -> Usage:
        tokens = st.integers(0, 1000)
        parts = {
            "cache_read_tokens": draw(tokens) if cache else 0,
            "cache_write_tokens": draw(tokens) if cache_write else 0,
            "input_audio_tokens": draw(tokens) if audio else 0,
            "reasoning_tokens": draw(tokens) if reasoning else 0,
            "output_audio_tokens": draw(tokens) if audio else 0,
        }
        values = list(parts.values())
        return Usage(input_tokens=sum(values[:3]) + draw(tokens), output_tokens=sum(values[3:]) + draw(tokens), **parts)

    return usage()


# --- requests ---------------------------------------------------------------------------------------------------------


@st.composite
def tools(draw: st.DrawFn, *, strict: bool = True) -> tuple[Tool, ...]:
    """One to three tools of different names."""
    tool_names = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    return tuple(
        Tool(
            name=name,
            description=draw(st.none() | texts),
            parameters=draw(st.none() | json_objects),
            strict=draw(st.sampled_from([None, True, False])) if strict else None,
        )
        for name in tool_names
    )


@st.composite
def messages(
    draw: st.DrawFn,
    *,
    order: Order = "any",
    system: bool = True,
    names: bool = True,
    image: bool = True,
    image_urls: bool = True,
    image_detail: bool = True,
    audio: bool = True,
    file: bool = True,
    file_urls: bool = True,
    file_ids: bool = True,
    file_names: bool = True,
    reasoning: bool = True,
    reasoning_signatures: bool = True,
    reasoning_redacted: bool = True,
    refusal: bool = True,
    tool: bool = True,
    tool_signatures: bool = True,
    valid_arguments: bool = False,
    result_image: bool = True,
    result_file: bool = True,
    result_name: bool = True,
    result_error: bool = True,
    results_per_message: int = 1,
) -> tuple[Message, ...]:
    """A conversation. `order` "alternating": system at most once and first, then user and assistant in turns, the
    calls of an assistant answered in order by tool messages; "any": any message may follow any other."""
    switches = locals() | {"draw": None}
    ids = (f"call_{number}" for number in count())

    def named() -> str | None:
        return draw(st.none() | _names) if names else None

    def system_message() -> Message:
        return Message(role="system", parts=tuple(draw(st.lists(_text_parts, min_size=1, max_size=2))), name=named())

    def user_message() -> Message:
        return Message(role="user", parts=draw(_user_parts(switches)), name=named())

    def assistant_message() -> Message:
        return Message(role="assistant", parts=draw(_assistant_parts(switches, ids)), name=named())

    def tool_message(calls: Sequence[tuple[str, str]]) -> Message:
        return Message(role="tool", parts=tuple(draw(_tool_result(switches, id, name)) for id, name in calls))

    def answers(message: Message) -> list[Message]:
        calls = [(part.id, part.name) for part in message.parts if isinstance(part, ToolCall)]
        groups = [calls[i : i + results_per_message] for i in range(0, len(calls), results_per_message)]
        return [tool_message(group) for group in groups]

    said: list[Message] = []
    if order == "any":
        makers = [user_message, assistant_message] + [system_message] * system
        makers += [lambda: tool_message([(next(ids), draw(_names))])] * tool
        return tuple(maker() for maker in draw(st.lists(st.sampled_from(makers), min_size=1, max_size=5)))
    if system and draw(st.booleans()):
        said.append(system_message())
    said.append(user_message())
    for _ in range(draw(st.integers(0, 2))):
        said.append(assistant_message())
        said.extend(answers(said[-1]))
        if said[-1].role != "tool" or draw(st.booleans()):
            said.append(user_message())
    return tuple(said)


_text_parts = st.builds(Text, text=texts)


def _user_parts(on: dict[str, Any]) -> SearchStrategy[tuple[Part, ...]]:
    kinds: list[SearchStrategy[Any]] = [_text_parts]
    if on["image"]:
        kinds.append(images(urls=on["image_urls"], detail=on["image_detail"]))
    if on["audio"]:
        kinds.append(audios())
    if on["file"]:
        kinds.append(files(urls=on["file_urls"], ids=on["file_ids"], names=on["file_names"]))
    return st.lists(st.one_of(kinds), min_size=1, max_size=4).map(tuple)


@st.composite
def _assistant_parts(draw: st.DrawFn, on: dict[str, Any], ids: Any) -> tuple[Part, ...]:
    parts: list[Part] = []
    if on["reasoning"] and draw(st.booleans()):
        if on["reasoning_redacted"] and draw(st.booleans()):
            parts.append(Reasoning(redacted=draw(base64s.filter(bool))))
        else:
            signature = draw(st.none() | base64s.filter(bool)) if on["reasoning_signatures"] else None
            parts.append(Reasoning(text=draw(texts), signature=signature))
    if draw(st.booleans()):
        parts.append(Text(text=draw(texts)))
    if on["refusal"] and draw(st.booleans()):
        parts.append(Refusal(text=draw(texts)))
    parts.extend(
        ToolCall(
            id=next(ids),
            name=draw(names),
            arguments=draw(arguments(valid=on["valid_arguments"])),
            signature=draw(st.none() | base64s.filter(bool)) if on["tool_signatures"] else None,
        )
        for _ in range(draw(st.integers(0, 2)) if on["tool"] else 0)
    )
    return tuple(parts) or (Text(text=draw(texts)),)


@st.composite
def _tool_result(draw: st.DrawFn, on: dict[str, Any], id: str, name: str) -> ToolResult:
    kinds: list[SearchStrategy[Any]] = [_text_parts]
    if on["result_image"]:
        kinds.append(images(urls=on["image_urls"], detail=on["image_detail"]))
    if on["result_file"]:
        kinds.append(files(urls=on["file_urls"], ids=on["file_ids"], names=on["file_names"]))
    return ToolResult(
        call_id=id,
        content=tuple(draw(st.lists(st.one_of(kinds), min_size=1, max_size=2))),
        name=name if on["result_name"] else None,
        is_error=draw(st.booleans()) if on["result_error"] else False,
    )


@st.composite
def requests(
    draw: st.DrawFn,
    *,
    tool: bool = True,
    tool_choice: bool = True,
    strict: bool = True,
    parallel_tool_calls: bool = True,
    response_format: bool = True,
    schema_details: bool = True,
    json_format: bool = True,
    max_tokens: bool = True,
    max_temperature: float = 2.0,
    top_p: bool = True,
    top_k: bool = True,
    stop: bool = True,
    seed: bool = True,
    n: bool = True,
    penalties: bool = True,
    logprobs: bool = True,
    reasoning_effort: bool = True,
    reasoning_tokens: bool = True,
    stream: bool = True,
    stream_usage: bool = True,
    extra: bool = True,
    **message_switches: Any,
) -> Request:
    """A request; `message_switches` are those of `messages`. With `max_tokens` "always" it is never None."""

    def maybe(on: bool, values: SearchStrategy[Any]) -> Any:
        return draw(st.none() | values) if on else None

    offered = (draw(st.just(()) | tools(strict=strict))) if tool else ()
    streams = draw(st.booleans()) if stream else False
    tokens = st.integers(1, 100_000)
    max_tokens_ = draw(tokens) if max_tokens == "always" else maybe(bool(max_tokens), tokens)
    return Request(
        model=draw(names),
        messages=draw(messages(tool=tool, **message_switches)),
        tools=offered,
        tool_choice=maybe(tool_choice, _tool_choices(offered)) if offered else None,
        parallel_tool_calls=maybe(parallel_tool_calls, st.booleans()) if offered else None,
        response_format=maybe(response_format, _formats(json_format, schema_details)),
        max_tokens=max_tokens_,
        temperature=maybe(True, st.floats(0, max_temperature)),
        top_p=maybe(top_p, st.floats(0, 1)),
        top_k=maybe(top_k, st.integers(1, 100)),
        stop=tuple(draw(st.lists(texts, max_size=4))) if stop else (),
        seed=maybe(seed, st.integers(0, 2**31 - 1)),
        n=draw(st.integers(1, 4)) if n else 1,
        presence_penalty=maybe(penalties, st.floats(-2, 2)),
        frequency_penalty=maybe(penalties, st.floats(-2, 2)),
        top_logprobs=maybe(logprobs, st.integers(0, 20)),
        reasoning_effort=maybe(
            reasoning_effort, st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"])
        ),
        reasoning_tokens=maybe(reasoning_tokens, st.integers(1024, 32_000)),
        stream=streams,
        stream_usage=streams and stream_usage and draw(st.booleans()),
        extra=draw(extras) if extra else {},
    )


def _tool_choices(offered: tuple[Tool, ...]) -> SearchStrategy[ToolChoice]:
    modes = st.sampled_from([ToolChoice(mode="auto"), ToolChoice(mode="none"), ToolChoice(mode="required")])
    return modes | st.sampled_from(offered).map(lambda tool: ToolChoice(mode="named", name=tool.name))


def _formats(json_format: bool, details: bool) -> SearchStrategy[ResponseFormat]:
    schema = st.builds(
        ResponseFormat,
        type=st.just("schema"),
        schema=json_objects,
        name=names if details else st.none(),
        description=st.none() | texts if details else st.none(),
        strict=st.sampled_from([None, True, False]) if details else st.none(),
    )
    return schema | st.just(ResponseFormat(type="json")) if json_format else schema


# --- answers ----------------------------------------------------------------------------------------------------------


def logprobs(*, bytes: bool = True) -> SearchStrategy[tuple[Logprob, ...]]:
    """Tokens with up to two alternatives each."""
    values = st.floats(-50, 0)
    octets = st.none() | st.lists(st.integers(0, 255), min_size=1, max_size=4).map(tuple) if bytes else st.none()
    top = st.builds(Logprob, token=texts, logprob=values, bytes=octets)
    token = st.builds(Logprob, token=texts, logprob=values, bytes=octets, top=st.lists(top, max_size=2).map(tuple))
    return st.lists(token, min_size=1, max_size=3).map(tuple)


@st.composite
def replies(
    draw: st.DrawFn,
    *,
    choices: int = 3,
    tool: bool = True,
    tool_signatures: bool = True,
    valid_arguments: bool = False,
    reasoning: bool = True,
    reasoning_signatures: bool = True,
    reasoning_redacted: bool = True,
    refusal: bool = True,
    logprob: bool = True,
    logprob_bytes: bool = True,
    stop_sequence: bool = True,
    refusal_reason: bool = True,
    usage: bool = True,
    usage_switches: dict[str, bool] | None = None,
    fingerprint: bool = True,
    created: bool = True,
) -> Reply:
    """A complete answer of up to `choices` choices. One with tool calls finishes for them, another never does."""
    switches = locals() | {"draw": None}
    ids = (f"call_{number}" for number in count())

    def choice() -> Choice:
        parts = draw(_assistant_parts(switches, ids))
        calls = any(isinstance(part, ToolCall) for part in parts)
        finish = "tool_calls" if calls else draw(st.sampled_from(["stop", "length", "refused"]))
        return Choice(
            parts=parts,
            finish=finish,
            logprobs=draw(st.none() | logprobs(bytes=logprob_bytes)) if logprob else None,
            stop_sequence=draw(st.none() | texts) if stop_sequence and finish == "stop" else None,
            refusal_reason=draw(st.none() | texts) if refusal_reason and finish == "refused" else None,
        )

    return Reply(
        id=draw(names),
        model=draw(names),
        choices=tuple(choice() for _ in range(draw(st.integers(1, choices)))),
        usage=draw(st.none() | usages(**(usage_switches or {}))) if usage else None,
        fingerprint=draw(st.none() | names) if fingerprint else None,
        created=draw(st.integers(1, 2**33)) if created else 0,
    )


class Streamed(NamedTuple):
    """An answer, and the chunks it came in. Chunks carry no `created`, so it is 0 in the reply."""

    reply: Reply
    chunks: list[Chunk]


@st.composite
def streamed(draw: st.DrawFn, *, interleave: bool = True, **reply_switches: Any) -> Streamed:
    """An answer as a stream brings it; `reply_switches` are those of `replies`.

    Every choice comes in order and ends with `finish`; choices interleave (unless switched off); usage comes last, or
    with the last finish.
    """
    reply = draw(replies(**({"created": False} | reply_switches)))
    queues = [_choice_chunks(draw, number, choice) for number, choice in enumerate(reply.choices)]
    chunks: list[Chunk] = []
    while any(queues):
        waiting = [queue for queue in queues if queue]
        chunks.append((draw(st.sampled_from(waiting)) if interleave else waiting[0]).pop(0))
    if reply.usage is not None:
        if draw(st.booleans()):
            chunks[-1] = msgspec.structs.replace(chunks[-1], usage=reply.usage)
        else:
            chunks.append(Chunk(usage=reply.usage))
    named = {"id": reply.id, "model": reply.model, "fingerprint": reply.fingerprint}
    return Streamed(reply, [msgspec.structs.replace(chunk, **named) for chunk in chunks])


def chunk_lists(**switches: Any) -> SearchStrategy[list[Chunk]]:
    """The chunks of a streamed answer."""
    return streamed(**switches).map(lambda value: value.chunks)


def _choice_chunks(draw: st.DrawFn, number: int, choice: Choice) -> list[Chunk]:
    chunks: list[Chunk] = []
    calls = count()
    for part in choice.parts:
        if isinstance(part, Text):
            chunks += [Chunk(choice=number, text=piece) for piece in _pieces(draw, part.text)]
        elif isinstance(part, Refusal):
            chunks += [Chunk(choice=number, refusal=piece) for piece in _pieces(draw, part.text)]
        elif isinstance(part, Reasoning):
            chunks += [Chunk(choice=number, reasoning=piece) for piece in _pieces(draw, part.text)]
            if part.signature or part.redacted:
                sealed = Chunk(choice=number, reasoning_signature=part.signature, reasoning_redacted=part.redacted)
                chunks.append(sealed)
        elif isinstance(part, ToolCall):
            index = next(calls)
            opening = ToolCallDelta(index=index, id=part.id, name=part.name, signature=part.signature)
            deltas = [opening] + [
                ToolCallDelta(index=index, arguments=piece) for piece in _pieces(draw, part.arguments)
            ]
            chunks += [Chunk(choice=number, tool_calls=(delta,)) for delta in deltas]
    if choice.logprobs is not None:
        where = draw(st.integers(0, len(chunks) - 1))
        chunks[where] = msgspec.structs.replace(chunks[where], logprobs=choice.logprobs)
    ending = {
        "finish": choice.finish,
        "stop_sequence": choice.stop_sequence,
        "refusal_reason": choice.refusal_reason,
    }
    if draw(st.booleans()):
        chunks[-1] = msgspec.structs.replace(chunks[-1], **ending)
    else:
        chunks.append(Chunk(choice=number, **ending))
    return chunks


def _pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=3)))
    return [piece for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True) if (piece := text[start:end])]


def assemble(chunks: Sequence[Chunk]) -> Reply:
    """Put a streamed answer together again, in canonical form: what `streamed` drew, whatever the grouping."""
    numbers = sorted({chunk.choice for chunk in chunks if chunk.speaks or chunk.finish})
    return Reply(
        id=next((chunk.id for chunk in chunks if chunk.id), ""),
        model=next((chunk.model for chunk in chunks if chunk.model), ""),
        choices=tuple(_assemble_choice([chunk for chunk in chunks if chunk.choice == number]) for number in numbers),
        usage=next((chunk.usage for chunk in reversed(chunks) if chunk.usage is not None), None),
        fingerprint=next((chunk.fingerprint for chunk in chunks if chunk.fingerprint), None),
    )


def _assemble_choice(chunks: Sequence[Chunk]) -> Choice:
    def last(field: str) -> Any:
        return next((value for chunk in reversed(chunks) if (value := getattr(chunk, field)) is not None), None)

    parts: list[Part] = []
    reasoning = "".join(chunk.reasoning for chunk in chunks)
    signature, redacted = last("reasoning_signature"), last("reasoning_redacted")
    if reasoning or signature or redacted:
        parts.append(Reasoning(text=reasoning, signature=signature, redacted=redacted))
    if text := "".join(chunk.text for chunk in chunks):
        parts.append(Text(text=text))
    if refusal := "".join(chunk.refusal for chunk in chunks):
        parts.append(Refusal(text=refusal))
    deltas = [delta for chunk in chunks for delta in chunk.tool_calls]
    for index in sorted({delta.index for delta in deltas}):
        own = [delta for delta in deltas if delta.index == index]
        parts.append(
            ToolCall(
                id=next((delta.id for delta in own if delta.id), ""),
                name=next((delta.name for delta in own if delta.name), ""),
                arguments="".join(delta.arguments for delta in own),
                signature=next((delta.signature for delta in own if delta.signature), None),
            )
        )
    logprobs = [logprob for chunk in chunks for logprob in chunk.logprobs or ()]
    return Choice(
        parts=tuple(parts),
        finish=last("finish") or "stop",
        logprobs=tuple(logprobs) or None,
        stop_sequence=last("stop_sequence"),
        refusal_reason=last("refusal_reason"),
    )


# --- embeddings -------------------------------------------------------------------------------------------------------


@st.composite
def embedding_requests(
    draw: st.DrawFn, *, tokens: bool = True, dimensions: bool = True, base64: bool = True, extra: bool = True
) -> EmbeddingRequest:
    """One to three texts, or (unless switched off) lists of token ids."""
    inputs: SearchStrategy[Any] = st.lists(texts, min_size=1, max_size=3).map(tuple)
    if tokens:
        ids = st.lists(st.integers(0, 200_000), min_size=1, max_size=5).map(tuple)
        inputs |= st.lists(ids, min_size=1, max_size=3).map(tuple)
    return EmbeddingRequest(
        model=draw(names),
        input=draw(inputs),
        dimensions=draw(st.none() | st.integers(1, 3072)) if dimensions else None,
        encoding_format=draw(st.sampled_from(["float", "base64"])) if base64 else "float",
        extra=draw(extras) if extra else {},
    )


@st.composite
def embedding_replies(draw: st.DrawFn) -> EmbeddingReply:
    """One to three vectors of the same length, of numbers that float32 holds exactly."""
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    length = draw(st.integers(1, 5))
    vectors = st.lists(st.lists(numbers, min_size=length, max_size=length).map(tuple), min_size=1, max_size=3)
    usage = Usage(input_tokens=draw(st.integers(0, 1000)))
    return EmbeddingReply(model=draw(names), vectors=tuple(draw(vectors)), usage=usage)
